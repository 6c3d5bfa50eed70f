#!lua
-- Add to what a tenant used today. ARGV: tenant, milliseconds to keep a day, then alternating fields and numbers.
if gone(ARGV[1]) then return false end
local day = math.floor(now / 86400000)
local row, days = owned(ARGV[1], 'usage', day), owned(ARGV[1], 'usages')
for i = 3, #ARGV, 2 do redis.call('HINCRBY', row, ARGV[i], ARGV[i + 1]) end
redis.call('PEXPIRE', row, ARGV[2])
redis.call('ZADD', days, day, day)
redis.call('ZREMRANGEBYSCORE', days, '-inf', day - math.ceil(ARGV[2] / 86400000))
redis.call('PEXPIRE', days, ARGV[2])
return day
