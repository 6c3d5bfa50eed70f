#!lua flags=no-writes
-- Read the row of a tenant. ARGV: tenant. Returns its fields, none when there is no such tenant.
return redis.call('HGETALL', shared('tenant', ARGV[1]))
