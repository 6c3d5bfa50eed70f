#!lua flags=allow-oom
-- Put a job that is held back into the queue.
-- ARGV: tenant, job id, fence, an error if the attempt counts or ''.
-- Returns 'released', 'cancelled' if that was asked for, 'failed' if there were too many attempts, or 'lost'.
local tenant, job = ARGV[1], ARGV[2]
if not holds(tenant, job, ARGV[3]) then return 'lost' end
local row = owned(tenant, 'job', job)
if redis.call('HGET', row, 'cancel_requested') == '1' then
  terminate(tenant, job, 'cancelled', '')
  return 'cancelled'
end
if ARGV[4] ~= '' and stalled(tenant, job) then
  terminate(tenant, job, 'failed', ARGV[4])
  return 'failed'
end
if ARGV[4] == '' then
  redis.call('HINCRBY', row, 'attempt', -1)
  if tonumber(redis.call('HGET', row, 'stalled')) > 0 then redis.call('HINCRBY', row, 'stalled', -1) end
end
requeue(tenant, job)
return 'released'
