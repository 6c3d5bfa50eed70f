#!lua
-- Make the rows that were restored fit together: a key or a tenant may have been made or removed while they were read.
-- A key is there if it has a row, a place in the list of all keys, and a tenant that is not being deleted. A tenant
-- that was removed is removed once more, as its rows may be there; so are the files of batches that are gone.
for _, tenant in ipairs(redis.call('ZRANGE', shared('tenants', 'removed'), 0, -1)) do
  redis.call('SADD', shared('tenants', 'deleting'), tenant)
end
for _, tenant in ipairs(redis.call('SMEMBERS', shared('tenants', 'deleting'))) do
  redis.call('HSET', shared('tenant', tenant), 'status', 'deleting')
  redis.call('HSETNX', shared('tenant', tenant), 'created_at', now)
end
for _, tenant in ipairs(redis.call('ZRANGE', shared('tenants'), 0, -1)) do
  if redis.call('EXISTS', shared('tenant', tenant)) == 0 then redis.call('ZREM', shared('tenants'), tenant) end
end

local listed, kept = redis.call('ZRANGE', shared('keys'), 0, -1, 'WITHSCORES'), {}
for i = 1, #listed, 2 do
  local hash = listed[i]
  local id, tenant = fields(shared('key', hash), 'id', 'tenant')
  if id and redis.call('HGET', shared('tenant', tenant), 'status') == 'active' then
    kept[hash] = true
    redis.call('HSET', shared('hashes'), id, hash)
    redis.call('ZADD', owned(tenant, 'keys'), listed[i + 1], hash)
  else
    redis.call('ZREM', shared('keys'), hash)
  end
end
local hashes = redis.call('HGETALL', shared('hashes'))
for i = 1, #hashes, 2 do
  if not kept[hashes[i + 1]] then
    redis.call('HDEL', shared('hashes'), hashes[i])
    redis.call('DEL', shared('key', hashes[i + 1]))
  end
end

for _, one in ipairs(redis.call('ZRANGE', shared('removing'), 0, -1)) do
  local tenant, batch = named(one)
  if redis.call('EXISTS', owned(tenant, 'job', batch)) == 1 then redis.call('ZREM', shared('removing'), one) end
end
return redis.status_reply('OK')
