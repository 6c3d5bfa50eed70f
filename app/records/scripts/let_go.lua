#!lua flags=allow-oom
-- Note that the worker that held a job writes nothing for it any more.
-- ARGV: tenant, context id, fence. Returns 1 if the context was deleted, else 0.
local deleting = owned(ARGV[1], 'deleting', ARGV[2])
if redis.call('HGET', deleting, 'fence') == ARGV[3] then redis.call('HSET', deleting, 'lease_until', 0) end
return 1 - redis.call('EXISTS', owned(ARGV[1], 'context', ARGV[2]))
