#!lua
-- Add to what a tenant used today. ARGV: tenant, milliseconds to keep a day, then alternating fields and numbers.
if gone(ARGV[1]) then return false end
local used = {}
for i = 3, #ARGV, 2 do used[ARGV[i]] = ARGV[i + 1] end
add_usage(ARGV[1], ARGV[2], used)
return math.floor(now / 86400000)
