#!lua flags=allow-oom
-- Remove an alias of a name.
-- ARGV: tenant, name, alias, the version that it must point at now ('' for any).
-- Returns 'deleted', 'changed' when it points elsewhere, or 'unknown'.
local tenant, name, alias = ARGV[1], ARGV[2], ARGV[3]
local versions = owned(tenant, 'name', name)
local version = redis.call('HGET', versions, '@' .. alias)
if not version then return 'unknown' end
if ARGV[4] ~= '' and ARGV[4] ~= version then return 'changed' end
redis.call('HDEL', versions, '@' .. alias)
point_away(tenant, redis.call('HGET', versions, version), alias)
return 'deleted'
