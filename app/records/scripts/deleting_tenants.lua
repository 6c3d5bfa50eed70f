#!lua flags=no-writes
-- The tenants that are being deleted.
return redis.call('SMEMBERS', shared('tenants', 'deleting'))
