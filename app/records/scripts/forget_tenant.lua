#!lua flags=allow-oom
-- Forget a tenant that was being deleted and owns nothing any more. ARGV: tenant.
local tenant = ARGV[1]
if redis.call('HGET', shared('tenant', tenant), 'status') ~= 'deleting' then return 0 end
redis.call('DEL', shared('tenant', tenant))
redis.call('ZREM', shared('tenants'), tenant)
redis.call('SREM', shared('tenants', 'deleting'), tenant)
redis.call('ZADD', shared('tenants', 'removed'), now, tenant)
redis.call('ZREMRANGEBYSCORE', shared('tenants', 'removed'), '-inf', now - 86400000)
return 1
