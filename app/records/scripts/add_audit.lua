#!lua flags=allow-oom
-- Append to the audit log of a tenant, and drop what is too old. ARGV: tenant, milliseconds to keep, then fields.
if gone(ARGV[1]) then return false end
local log = owned(ARGV[1], 'audit')
local oldest = string.format('%.0f', now - ARGV[2])
local id = redis.call('XADD', log, 'MINID', '~', oldest, '*', unpack(ARGV, 3))
redis.call('PEXPIRE', log, ARGV[2])
return id
