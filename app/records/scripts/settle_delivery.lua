#!lua flags=allow-oom
-- Note what came of a delivery: it arrived, or it is tried again unless it is older than deliveries are kept.
-- ARGV: tenant, id, ms until the next try ('' where it arrived), how long deliveries are kept in ms.
-- Returns 1 if it is tried again.
local tenant, id = ARGV[1], ARGV[2]
local key = owned(tenant, 'delivery', id)
local created = redis.call('HGET', key, 'created_at')
if created and ARGV[3] ~= '' and now + ARGV[3] - created < tonumber(ARGV[4]) then
  redis.call('HINCRBY', key, 'attempts', 1)
  redis.call('ZADD', shared('outbox'), now + ARGV[3], member(tenant, id))
  return 1
end
redis.call('ZREM', shared('outbox'), member(tenant, id))
redis.call('DEL', key)
return 0
