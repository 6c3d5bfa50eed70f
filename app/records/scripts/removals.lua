#!lua flags=allow-oom
-- Find jobs that were deleted and whose files may still be there, with nobody at it. ARGV: lease in ms, most jobs.
-- Returns '<tenant>:<id>' of each; nobody else finds them before another lease is over.
if redis.call('EXISTS', shared('backup')) == 1 then return {} end  -- a backup keeps all files
local found = redis.call('ZRANGE', shared('removing'), '-inf', now - ARGV[1], 'BYSCORE', 'LIMIT', 0, ARGV[2])
for _, one in ipairs(found) do redis.call('ZADD', shared('removing'), now, one) end
return found
