#!lua
-- Change the metadata of a context: a value sets a key, null removes it.
-- ARGV: tenant, context id, changes as JSON, most keys.
-- Returns 'changed', 'too_many', or false when there is no such context.
local tenant, context = ARGV[1], ARGV[2]
local row = owned(tenant, 'context', context)
local metadata, sequence = fields(row, 'metadata', 'sequence')
if not metadata then return false end
local before, after, count = cjson.decode(metadata), cjson.decode(metadata), 0
for name, value in pairs(cjson.decode(ARGV[3])) do
  if value == cjson.null then after[name] = nil else after[name] = value end
end
for _ in pairs(after) do count = count + 1 end
if count > tonumber(ARGV[4]) then return 'too_many' end
for name, value in pairs(before) do redis.call('ZREM', metadata_index(tenant, name, value), context) end
for name, value in pairs(after) do redis.call('ZADD', metadata_index(tenant, name, value), sequence, context) end
redis.call('HSET', row, 'metadata', cjson.encode(after))
return 'changed'
