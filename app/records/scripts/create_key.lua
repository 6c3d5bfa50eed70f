#!lua
-- Make a key, and with its first key a tenant.
-- ARGV: tenant, hash of the secret, occasion, and as JSON the key's fields and the claim on an idempotency key or null,
-- then the tenant of the claim. On the occasion 'first' nothing is made if a key with the scope admin was ever made; on
-- 'configured' the new key takes the place of the one that was made on the last such occasion.
-- Returns {'created', its fields}; {'exists'} when there was nothing to make, {'expired'} when its end is past,
-- {'deleting'} when the tenant is being removed, or, where the key was asked for, was a short while ago, as requests of its
-- keys may still be on their way; {'lost'} when the claim has gone to another request.
local NAME_KEPT_MS = 600000
local tenant, hash, occasion, access = ARGV[1], ARGV[2], ARGV[3], shared('access')
local configured, administered = fields(access, 'configured', 'administered')
local row, given = shared('key', hash), cjson.decode(ARGV[4])
if given.expires_at ~= '' and tonumber(given.expires_at) <= now then return {'expired'} end
if redis.call('EXISTS', row) == 1 and (occasion ~= 'configured' or configured == hash) then
  return {occasion == 'configured' and 'exists' or 'created', redis.call('HGETALL', row)}
end
if occasion == 'first' and administered then return {'exists'} end
local claim = cjson.decode(ARGV[5])
if claim == cjson.null then claim = nil end
if not may_answer(ARGV[6], claim) then return {'lost'} end
if redis.call('HGET', shared('tenant', tenant), 'status') == 'deleting' then return {'deleting'} end
local removed = redis.call('ZSCORE', shared('tenants', 'removed'), tenant)
if removed and occasion == 'asked' and now - removed < NAME_KEPT_MS then return {'deleting'} end
redis.call('ZREM', shared('tenants', 'removed'), tenant)
if occasion == 'configured' then
  if configured then remove_key(configured) end
  remove_key(hash)
  redis.call('HSET', access, 'configured', hash)
end

redis.call('HSET', access, 'made', 1)
for _, scope in ipairs(cjson.decode(given.scopes)) do
  if scope == 'admin' then redis.call('HSET', access, 'administered', 1) end
end
local order = redis.call('HINCRBY', access, 'sequence', 1)
save(row, given)
redis.call('HSET', row, 'tenant', tenant, 'created_at', now)
redis.call('HSET', shared('hashes'), redis.call('HGET', row, 'id'), hash)
redis.call('ZADD', shared('keys'), order, hash)
redis.call('ZADD', owned(tenant, 'keys'), order, hash)
if redis.call('HSETNX', shared('tenant', tenant), 'created_at', now) == 1 then
  redis.call('HSET', shared('tenant', tenant), 'status', 'active', 'format', redis.call('HGET', row, 'format'))
  redis.call('ZADD', shared('tenants'), order, tenant)
end
keep_answer(ARGV[6], claim)
return {'created', redis.call('HGETALL', row)}
