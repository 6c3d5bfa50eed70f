#!lua
-- Let an alias of a name point at a version.
-- ARGV: tenant, name, alias, version, the version that it must point at now ('' for any), format.
-- Returns the version before ('' if none); or 'changed' when it points elsewhere than at either (RFC 9110, 13.1.1: what
-- was done already succeeds again), 'unknown' when there is no such version, or the version's status unless that is
-- 'succeeded'.
local tenant, name, alias, version = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local versions = owned(tenant, 'name', name)
local before = redis.call('HGET', versions, '@' .. alias) or ''
if ARGV[5] ~= '' and ARGV[5] ~= before and before ~= version then return 'changed' end
local context = redis.call('HGET', versions, version)
if not context then return 'unknown' end
local status = redis.call('HGET', owned(tenant, 'context', context), 'status')
if status ~= 'succeeded' then return status end
if before ~= '' then point_away(tenant, redis.call('HGET', versions, before), alias) end
redis.call('HSET', versions, '@' .. alias, version)
point_at(tenant, context, alias)
return before
