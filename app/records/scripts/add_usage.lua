#!lua
-- Add to what a tenant used today, once however often it is told.
-- ARGV: tenant, milliseconds to keep a day, who counted it, the number of this write among theirs, then alternating
-- fields and numbers. A write follows once the one before was answered.
local REMEMBERED_MS = 86400000
local last = shared('metered', ARGV[3])
if tonumber(redis.call('GET', last) or 0) >= tonumber(ARGV[4]) then return false end
if gone(ARGV[1]) then return false end
redis.call('SET', last, ARGV[4], 'PX', REMEMBERED_MS)
local used = {}
for i = 5, #ARGV, 2 do used[ARGV[i]] = ARGV[i + 1] end
add_usage(ARGV[1], ARGV[2], used)
return math.floor(now / 86400000)
