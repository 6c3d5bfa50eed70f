#!lua flags=allow-oom
-- Note what came of a delivery: it arrived, or it is tried again unless it is older than deliveries are kept.
-- ARGV: tenant, id, ms until the next try ('' where it arrived), how long deliveries are kept in ms.
-- Returns 1 if it is tried again.
local tenant, id = ARGV[1], ARGV[2]
local key = owned(tenant, 'delivery', id)
local webhook, created = fields(key, 'webhook', 'created_at')
if not webhook then return 0 end
local waiting = owned(tenant, 'deliveries', webhook)
local again = ARGV[3] ~= '' and now + ARGV[3] - created < tonumber(ARGV[4])
if again then
  redis.call('HINCRBY', key, 'attempts', 1)
  redis.call('ZADD', waiting, now + ARGV[3], id)
else
  redis.call('ZREM', waiting, id)
  redis.call('DEL', key)
end
schedule(tenant, webhook)
return again and 1 or 0
