#!lua flags=allow-oom
-- Revoke the keys of a tenant, and mark it for the removal of all that it owns. ARGV: tenant.
-- Returns the hashes of the keys, or false when there is no such tenant.
local tenant, row = ARGV[1], shared('tenant', ARGV[1])
if redis.call('EXISTS', row) == 0 then return false end
local hashes = redis.call('ZRANGE', owned(tenant, 'keys'), 0, -1)
for _, hash in ipairs(hashes) do remove_key(hash) end
redis.call('HSET', row, 'status', 'deleting')
redis.call('SADD', shared('tenants', 'deleting'), tenant)
return hashes
