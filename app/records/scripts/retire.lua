#!lua flags=allow-oom
-- Remove jobs, with their events, that ended longer ago than they are kept.
-- ARGV: how long they are kept in ms, most jobs to remove, newest format that is read. Returns how many were removed.
local old = redis.call('ZRANGE', shared('ended'), '-inf', now - ARGV[1], 'BYSCORE', 'LIMIT', 0, ARGV[2])
local removed = 0
for _, one in ipairs(old) do
  local tenant, job = named(one)
  if tonumber(redis.call('HGET', owned(tenant, 'job', job), 'format') or 0) <= tonumber(ARGV[3]) then
    remove_job(tenant, job)
    removed = removed + 1
  end
end
return removed
