#!lua flags=allow-oom
-- Find contexts whose deletion was begun longer ago than a lease, and not ended. ARGV: lease in ms, most contexts.
-- Returns '<tenant>:<id>' of each; nobody else finds them before another lease is over.
if redis.call('EXISTS', shared('backup')) == 1 then return {} end  -- a backup keeps all files
local found = redis.call('ZRANGE', shared('deleting'), '-inf', now - ARGV[1], 'BYSCORE', 'LIMIT', 0, ARGV[2])
for _, one in ipairs(found) do redis.call('ZADD', shared('deleting'), now, one) end
return found
