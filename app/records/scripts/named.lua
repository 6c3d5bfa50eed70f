#!lua flags=no-writes
-- The names of a tenant that can answer, those of the newest such contexts first.
-- ARGV: tenant, how many at most, the newest format that the caller reads.
-- Returns a JSON list of [name, model, labels, metadata, created_at] of the highest version of each that succeeded; names
-- whose version is of a newer format are left out. One text: lists of texts take a client as long to read as all else.
local tenant, found = ARGV[1], {}
local succeeded, row = owned(tenant, 'succeeded', ''), owned(tenant, 'context', '')
for _, name in ipairs(redis.call('ZRANGE', owned(tenant, 'names'), 0, ARGV[2] - 1, 'REV')) do
  local context = redis.call('ZRANGE', succeeded .. name, 0, 0, 'REV')[1]
  if context then
    local format, model, labels, metadata, created_at =
      fields(row .. context, 'format', 'model', 'labels', 'metadata', 'created_at')
    if model and tonumber(format or 1) <= tonumber(ARGV[3]) then
      local parts = {cjson.encode(name), cjson.encode(model), labels, metadata or '{}', created_at}
      found[#found + 1] = '[' .. table.concat(parts, ',') .. ']'
    end
  end
end
return '[' .. table.concat(found, ',') .. ']'
