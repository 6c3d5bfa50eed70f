#!lua flags=allow-oom
-- Note that the worker that held a job writes nothing for it any more.
-- ARGV: tenant, job id, context id, fence. Returns 1 if the job has ended (as it has where its context was deleted), else 0.
local tenant, job = ARGV[1], ARGV[2]
local deleting = owned(tenant, 'deleting', ARGV[3])
if redis.call('HGET', deleting, 'fence') == ARGV[4] then redis.call('HSET', deleting, 'lease_until', 0) end
local ended = redis.call('ZSCORE', shared('ended'), member(tenant, job))
return (ended or redis.call('EXISTS', owned(tenant, 'job', job)) == 0) and 1 or 0
