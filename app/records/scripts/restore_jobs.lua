#!lua
-- Take up the jobs of a tenant whose rows were restored: those that had not ended are queued anew, uncounted.
-- ARGV: tenant, how many were taken up before, most jobs. Returns how many of them there were.
local tenant, first = ARGV[1], tonumber(ARGV[2])
local jobs = redis.call('ZRANGE', owned(tenant, 'jobs'), first, first + ARGV[3] - 1)
for _, job in ipairs(jobs) do
  local row = owned(tenant, 'job', job)
  local status, kind, finished = fields(row, 'status', 'kind', 'finished_at')
  if finished then
    local ended = kind == 'batch' and shared('ended', 'batch') or shared('ended')
    redis.call('ZADD', ended, finished, member(tenant, job))
  elseif status then
    if status ~= 'queued' then
      redis.call('HINCRBY', row, 'attempt', -1)
      if tonumber(redis.call('HGET', row, 'stalled')) > 0 then redis.call('HINCRBY', row, 'stalled', -1) end
      redis.call('HINCRBY', row, 'fence', 1)
      redis.call('HDEL', row, 'writing')
      redis.call('HSET', row, 'worker', '')
      set_status(tenant, job, 'queued', '')
    end
    enqueue(tenant, job)
  end
end
return #jobs
