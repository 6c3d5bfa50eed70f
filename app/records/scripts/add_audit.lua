#!lua flags=allow-oom
-- Append to the audit log of a tenant, once however often it is told within a minute, and drop what is too old.
-- ARGV: tenant, milliseconds to keep, id of the write, then fields.
local REMEMBERED_MS = 60000
if gone(ARGV[1]) then return false end
if not redis.call('SET', shared('audited', ARGV[3]), 1, 'NX', 'PX', REMEMBERED_MS) then return false end
local log = owned(ARGV[1], 'audit')
local oldest = string.format('%.0f', now - ARGV[2])
local id = redis.call('XADD', log, 'MINID', '~', oldest, '*', unpack(ARGV, 4))
redis.call('PEXPIRE', log, ARGV[2])
return id
