#!lua flags=allow-oom
-- Remove jobs, with their events, that ended longer ago than they are kept; the files of batches are left to `removals`.
-- ARGV: how long they are kept in ms and how long batches are, most jobs to remove, newest format that is read.
-- Returns how many were removed.
local removed = 0
for i, ended in ipairs({shared('ended'), shared('ended', 'batch')}) do
  for _, one in ipairs(redis.call('ZRANGE', ended, '-inf', now - ARGV[i], 'BYSCORE', 'LIMIT', 0, ARGV[3])) do
    local tenant, job = named(one)
    if tonumber(redis.call('HGET', owned(tenant, 'job', job), 'format') or 0) <= tonumber(ARGV[4]) then
      remove_job(tenant, job)
      removed = removed + 1
    end
  end
end
return removed
