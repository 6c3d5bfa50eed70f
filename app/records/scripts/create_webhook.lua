#!lua
-- Keep a webhook.
-- ARGV: tenant, id, its row as JSON, most webhooks of a tenant, and the claim on an idempotency key as JSON or null.
-- Returns its row, false when there are too many, 'gone' when the tenant is being deleted, or 'lost' when the claim has
-- gone to another request.
-- The same id again changes nothing, so a retry after a lost answer is safe.
local tenant, id = ARGV[1], ARGV[2]
local key, all = owned(tenant, 'webhook', id), owned(tenant, 'webhooks')
if redis.call('EXISTS', key) == 0 then
  if gone(tenant) then return 'gone' end
  local claim = cjson.decode(ARGV[5])
  if claim == cjson.null then claim = nil end
  if not may_answer(tenant, claim) then return 'lost' end
  if redis.call('ZCARD', all) >= tonumber(ARGV[4]) then return false end
  save(key, cjson.decode(ARGV[3]))
  redis.call('HSET', key, 'created_at', now)
  redis.call('ZADD', all, redis.call('INCR', owned(tenant, 'sequence')), id)
  keep_answer(tenant, claim)
end
return redis.call('HGETALL', key)
