#!lua flags=no-writes
-- Find a key by the hash of its secret. ARGV: hash, or '' for none.
-- Returns 1 if a key was ever made or else 0; the same of one with the scope admin; then the row of the key, or false where there is none or it has expired;
-- then the milliseconds until it expires, or false.
local made = redis.call('HEXISTS', shared('access'), 'made')
local administered = redis.call('HEXISTS', shared('access'), 'administered')
local row = redis.call('HGETALL', shared('key', ARGV[1]))
if #row == 0 then return {made, administered, false, false} end
local expires = redis.call('HGET', shared('key', ARGV[1]), 'expires_at')
if expires == '' then return {made, administered, row, false} end
local left = expires - now
return {made, administered, left > 0 and row, left > 0 and left}
