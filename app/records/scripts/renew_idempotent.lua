#!lua flags=allow-oom
-- Prolong a claim on an idempotency key, or give it up with a lease of 0. ARGV: tenant, key, holder, lease in ms.
-- Returns 1 if the holder still had it, else 0.
local key = owned(ARGV[1], 'idempotency', ARGV[2])
if redis.call('HGET', key, 'holder') ~= ARGV[3] then return 0 end
return redis.call('PEXPIRE', key, ARGV[4])
