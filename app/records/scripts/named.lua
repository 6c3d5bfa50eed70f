#!lua flags=no-writes
-- The names of a tenant that can answer, those of the newest such contexts first.
-- ARGV: tenant, how many at most.
-- Returns {name, model, labels, metadata, created_at} of the highest version of each that succeeded.
local tenant, found = ARGV[1], {}
for _, name in ipairs(redis.call('ZRANGE', owned(tenant, 'names'), 0, ARGV[2] - 1, 'REV')) do
  local context = redis.call('ZRANGE', owned(tenant, 'succeeded', name), 0, 0, 'REV')[1]
  if context then
    local row = redis.call('HMGET', owned(tenant, 'context', context), 'model', 'labels', 'metadata', 'created_at')
    if row[1] then found[#found + 1] = {name, row[1], row[2], row[3] or '{}', row[4]} end
  end
end
return found
