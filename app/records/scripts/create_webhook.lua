#!lua
-- Keep a webhook.
-- ARGV: tenant, id, its row as JSON, most webhooks of a tenant. Returns its row, or false when there are too many.
-- The same id again changes nothing, so a retry after a lost answer is safe.
local tenant, id = ARGV[1], ARGV[2]
local key, all = owned(tenant, 'webhook', id), owned(tenant, 'webhooks')
if redis.call('EXISTS', key) == 0 then
  if redis.call('ZCARD', all) >= tonumber(ARGV[4]) then return false end
  save(key, cjson.decode(ARGV[3]))
  redis.call('HSET', key, 'created_at', now)
  redis.call('ZADD', all, redis.call('INCR', owned(tenant, 'sequence')), id)
end
return redis.call('HGETALL', key)
