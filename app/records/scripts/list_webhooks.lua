#!lua flags=no-writes
-- ARGV: tenant. Returns its webhooks, newest first, as {id, row}.
local rows = {}
for _, id in ipairs(redis.call('ZREVRANGE', owned(ARGV[1], 'webhooks'), 0, -1)) do
  table.insert(rows, {id, redis.call('HGETALL', owned(ARGV[1], 'webhook', id))})
end
return rows
