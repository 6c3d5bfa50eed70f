#!lua flags=allow-oom
-- Remove a job that has ended, with its events and its files.
-- ARGV: tenant, job id, how many of the files that the answer before named are gone.
-- Returns 'deleted', 'backup' while a backup keeps its files, the status of a job that has not ended, false when there is no such job, or, while files may be left,
-- how many the next answer is to be told of, and the addresses of those of them that are to be removed.
local AT_ONCE = 200
local tenant, job = ARGV[1], ARGV[2]
local files, row = owned(tenant, 'files', job), owned(tenant, 'job', job)
local status, finished = fields(row, 'status', 'finished_at')
if status and not finished then return shown(status) end
if redis.call('EXISTS', files) + redis.call('EXISTS', shared('backup')) == 2 then return 'backup' end
if status then remove_job(tenant, job) end
local gone = tonumber(ARGV[3])
if gone > 0 then
  for _, address in ipairs(redis.call('LRANGE', files, 0, gone - 1)) do redis.call('ZREM', shared('collecting'), address) end
  redis.call('LTRIM', files, gone, -1)
end
local found = redis.call('LRANGE', files, 0, AT_ONCE - 1)
if #found == 0 then
  redis.call('ZREM', shared('removing'), member(tenant, job))
  return (status or gone > 0) and 'deleted'
end
redis.call('ZADD', shared('removing'), now, member(tenant, job))
local addresses = {}
for _, address in ipairs(found) do
  redis.call('SREM', shared('refs', address), table.concat({tenant, 'job', job}, ':'))
  if collect(address) then table.insert(addresses, address) end
end
return {#found, addresses}
