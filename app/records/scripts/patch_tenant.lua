#!lua
-- Change the limits of a tenant: a number sets one, null removes it.
-- ARGV: tenant, changes as JSON. Returns the fields of its row, none when there is no such tenant.
local row = shared('tenant', ARGV[1])
if redis.call('EXISTS', row) == 0 then return {} end
local limits = cjson.decode(redis.call('HGET', row, 'limits') or '{}')
for name, value in pairs(cjson.decode(ARGV[2])) do limits[name] = value ~= cjson.null and value or nil end
local parts = {}
for name, value in pairs(limits) do table.insert(parts, string.format('"%s":%.0f', name, value)) end
redis.call('HSET', row, 'limits', '{' .. table.concat(parts, ',') .. '}')
return redis.call('HGETALL', row)
