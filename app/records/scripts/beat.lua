#!lua flags=allow-oom
-- Prolong a lease and note progress.
-- ARGV: tenant, job id, fence, lease in ms, milliseconds to the estimated end or '', a metrics event's data or '', then
-- fields to set.
-- Returns 'held', 'cancel' (held, but the user wants it to end) or 'lost'.
local tenant, job = ARGV[1], ARGV[2]
if not holds(tenant, job, ARGV[3]) then return 'lost' end
local row = owned(tenant, 'job', job)
redis.call('ZADD', shared('leases'), now + ARGV[4], member(tenant, job))
if ARGV[5] ~= '' then
  redis.call('HSET', row, 'estimated_finish_at', now + ARGV[5], 'estimate', ARGV[5])
  redis.call('ZADD', shared('running', redis.call('HGET', row, 'model')), now + ARGV[5], member(tenant, job))
end
if #ARGV > 6 then redis.call('HSET', row, unpack(ARGV, 7)) end
local step, furthest = fields(row, 'step', 'furthest')
if tonumber(step) > tonumber(furthest or 0) then redis.call('HSET', row, 'furthest', step, 'stalled', 0) end
if ARGV[6] ~= '' then append_metrics(tenant, job, ARGV[6]) end
return redis.call('HGET', row, 'cancel_requested') == '1' and 'cancel' or 'held'
