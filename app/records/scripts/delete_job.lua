#!lua flags=allow-oom
-- Remove a job that has ended, with its events and its files.
-- ARGV: tenant, job id, who removes its files, and the addresses of those that were removed since the answer before.
-- Returns 'backup' while a backup keeps its files, the status of a job that has not ended, or, while files may be left,
-- milliseconds that another may be at them, and the addresses of those that the caller is to remove; else false.
local AT_ONCE = 200
local tenant, job, remover = ARGV[1], ARGV[2], ARGV[3]
local files, row = owned(tenant, 'files', job), owned(tenant, 'job', job)
local status, finished = fields(row, 'status', 'finished_at')
if status and not finished then return shown(status) end
for i = 4, #ARGV do
  redis.call('LREM', files, 1, ARGV[i])
  end_collecting(ARGV[i], remover)
end
if redis.call('EXISTS', files) + redis.call('EXISTS', shared('backup')) == 2 then return 'backup' end
if status then remove_job(tenant, job) end
local addresses, wait = {}, 0
for _, address in ipairs(redis.call('LRANGE', files, 0, AT_ONCE - 1)) do
  redis.call('SREM', shared('refs', address), table.concat({tenant, 'job', job}, ':'))
  end_all_writing(address, tenant, job)
  local others = collect(address, remover)
  if not others then redis.call('LREM', files, 1, address)
  elseif others > 0 then wait = math.max(wait, others)
  else table.insert(addresses, address) end
end
if redis.call('EXISTS', files) == 0 then
  redis.call('ZREM', shared('removing'), member(tenant, job))
  return false
end
redis.call('ZADD', shared('removing'), now, member(tenant, job))
return {#addresses == 0 and wait or 0, addresses}
