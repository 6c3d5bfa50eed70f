#!lua flags=allow-oom
-- Take deliveries that are due, and drop those whose webhook is gone.
-- ARGV: lease in ms, most deliveries. Returns {'<tenant>:<id>', url, secret, row} each, oldest first.
local outbox, taken = shared('outbox'), {}
for _, one in ipairs(redis.call('ZRANGE', outbox, '-inf', now, 'BYSCORE', 'LIMIT', 0, ARGV[2])) do
  local tenant, id = named(one)
  local key = owned(tenant, 'delivery', id)
  local webhook = redis.call('HGET', key, 'webhook')
  local url, secret = fields(owned(tenant, 'webhook', webhook or ''), 'url', 'secret')
  if url then
    redis.call('ZADD', outbox, now + ARGV[1], one)
    table.insert(taken, {one, url, secret, redis.call('HGETALL', key)})
  else
    redis.call('ZREM', outbox, one)
    redis.call('DEL', key)
  end
end
return taken
