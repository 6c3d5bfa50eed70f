#!lua flags=allow-oom
-- Take deliveries that are due, some of each webhook, and drop those whose webhook is gone.
-- ARGV: lease in ms, most webhooks, most deliveries of each, then '<tenant>:<webhook>' of those to be left alone.
-- Returns {'<tenant>:<id>', url, secret, row} each; those of a webhook together, oldest first.
local AT_ONCE = 1000
local most, left_alone, taken = tonumber(ARGV[2]), {}, {}
for i = 4, #ARGV do left_alone[ARGV[i]] = true end

local function take(tenant, waiting, url, secret)
  for _, id in ipairs(redis.call('ZRANGE', waiting, '-inf', now, 'BYSCORE', 'LIMIT', 0, ARGV[3])) do
    redis.call('ZADD', waiting, now + ARGV[1], id)
    table.insert(taken, {member(tenant, id), url, secret, redis.call('HGETALL', owned(tenant, 'delivery', id))})
  end
end

local function drop(tenant, waiting)
  for _, id in ipairs(redis.call('ZRANGE', waiting, 0, AT_ONCE - 1)) do
    redis.call('DEL', owned(tenant, 'delivery', id))
    redis.call('ZREM', waiting, id)
  end
end

local due = redis.call('ZRANGE', shared('outbox'), '-inf', now, 'BYSCORE', 'LIMIT', 0, most + #ARGV - 3)
for _, one in ipairs(due) do
  if most > 0 and not left_alone[one] then
    local tenant, webhook = named(one)
    local waiting = owned(tenant, 'deliveries', webhook)
    local url, secret = fields(owned(tenant, 'webhook', webhook), 'url', 'secret')
    if url then
      most = most - 1
      take(tenant, waiting, url, secret)
    else
      drop(tenant, waiting)
    end
    schedule(tenant, webhook)
  end
end
return taken
