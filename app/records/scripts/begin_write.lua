#!lua
-- Note that a job that is held writes a file, before it does.
-- ARGV: tenant, job id, fence, address. Returns 'go', 'wait' while a file with this address is being removed, or 'lost'.
local tenant, job, fence, address = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
if not holds(tenant, job, fence) then return 'lost' end
if tonumber(redis.call('ZSCORE', shared('collecting'), address) or 0) > now then return 'wait' end
redis.call('ZREM', shared('collecting'), address)
redis.call('HSET', shared('writers', address), table.concat({tenant, job, fence}, ':'), now)
redis.call('ZADD', shared('pending'), now, address)
redis.call('HSET', owned(tenant, 'job', job), 'writing', address)
return 'go'
