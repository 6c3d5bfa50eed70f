#!lua flags=allow-oom
-- Note that the files of a deleted context are gone. ARGV: tenant, context id.
local deleting = owned(ARGV[1], 'deleting', ARGV[2])
for _, address in ipairs(cjson.decode(redis.call('HGET', deleting, 'addresses') or '[]')) do
  redis.call('ZREM', shared('collecting'), address)
end
redis.call('DEL', deleting)
redis.call('ZREM', shared('deleting'), member(ARGV[1], ARGV[2]))
return 1
