#!lua
-- Claim an idempotency key for a request, or find what it made before.
-- ARGV: tenant, key, holder, route, lease in ms.
-- Returns {'begun'}, {'in_progress', route}, or {'answered', route, content, answer}.
local key = owned(ARGV[1], 'idempotency', ARGV[2])
local route, content, answer, holder = fields(key, 'route', 'content', 'answer', 'holder')
if answer then return {'answered', route, content, answer} end
if holder and holder ~= ARGV[3] then return {'in_progress', route} end
redis.call('HSET', key, 'holder', ARGV[3], 'route', ARGV[4])
redis.call('PEXPIRE', key, ARGV[5])
return {'begun'}
