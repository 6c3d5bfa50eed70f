#!lua flags=allow-oom
-- Remove a key. ARGV: id, and the tenant whose keys may be removed or '' for any.
-- Returns the hash of its secret, or false when there is no such key.
local hash = redis.call('HGET', shared('hashes'), ARGV[1])
if not hash then return false end
if ARGV[2] ~= '' and redis.call('HGET', shared('key', hash), 'tenant') ~= ARGV[2] then return false end
remove_key(hash)
return hash
