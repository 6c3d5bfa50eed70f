#!lua flags=allow-oom
-- Keep every file from being removed while a backup is made, under a lease.
-- ARGV: who holds it, lease in ms (0 to let go), 1 to renew a lease that must still hold.
-- Returns 1, or 0 where another holds it or the lease to be renewed has run out.
local key = shared('backup')
local holder = redis.call('GET', key)
if holder and holder ~= ARGV[1] or ARGV[3] == '1' and not holder then return 0 end
if ARGV[2] == '0' then redis.call('DEL', key) else redis.call('SET', key, ARGV[1], 'PX', ARGV[2]) end
return 1
