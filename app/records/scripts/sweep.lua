#!lua flags=allow-oom
-- Take jobs from workers whose leases have run out.
-- ARGV: error for a job that was claimed too often, most jobs to handle, lease in ms, newest format that is read.
-- Returns the jobs, as alternating '<tenant>:<id>' and new status. When nobody has looked for longer than a lease, it may
-- be that nobody could beat either: every job then gets a new lease to prove that its worker lives.
local changed, leases = {}, shared('leases')
local swept = redis.call('SET', shared('swept'), now, 'GET')
if swept and now - swept > tonumber(ARGV[3]) then
  for _, one in ipairs(redis.call('ZRANGE', leases, 0, -1)) do redis.call('ZADD', leases, now + ARGV[3], one) end
end
for _, one in ipairs(redis.call('ZRANGE', leases, '-inf', now, 'BYSCORE')) do
  if #changed >= 2 * tonumber(ARGV[2]) then break end
  local tenant, job = named(one)
  local row = owned(tenant, 'job', job)
  local format, cancel = fields(row, 'format', 'cancel_requested')
  if tonumber(format or 0) <= tonumber(ARGV[4]) then
    if cancel == '1' then terminate(tenant, job, 'cancelled', '')
    elseif stalled(tenant, job) then terminate(tenant, job, 'failed', ARGV[1])
    else
      append_message(tenant, job, 'warning', 'its worker was lost: the job goes back to the queue', '{}')
      requeue(tenant, job)
    end
    redis.call('HINCRBY', shared('totals'), 'leases_expired', 1)
    table.insert(changed, one)
    table.insert(changed, redis.call('HGET', row, 'status'))
  end
end
return changed
