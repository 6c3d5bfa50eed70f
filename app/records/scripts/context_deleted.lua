#!lua flags=allow-oom
-- Note that files of a deleted context are gone, and forget the context when all are.
-- ARGV: tenant, context id, who removed the files, their addresses. Returns 1 when all are gone, else 0.
local deleting, gone, left = owned(ARGV[1], 'deleting', ARGV[2]), {}, {}
for i = 4, #ARGV do
  gone[ARGV[i]] = true
  end_collecting(ARGV[i], ARGV[3])
end
for _, address in ipairs(cjson.decode(redis.call('HGET', deleting, 'addresses') or '[]')) do
  if not gone[address] then table.insert(left, address) end
end
if #left > 0 then
  redis.call('HSET', deleting, 'addresses', cjson.encode(left))
  return 0
end
redis.call('DEL', deleting)
redis.call('ZREM', shared('deleting'), member(ARGV[1], ARGV[2]))
return 1
