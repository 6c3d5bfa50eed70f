#!lua flags=no-writes
-- Read one page of keys or of tenants, newest first.
-- ARGV: kind ('key' or 'tenant'), the tenant whose keys are meant or '' for all, upper bound of the order ('+inf' or '('
-- and a number), most rows. Returns rows of {member, order, fields}, and the bound to go on from, or false at the end.
-- A member without a row is left out.
local kind, tenant, most = ARGV[1], ARGV[2], tonumber(ARGV[4])
local index = tenant == '' and shared(kind .. 's') or owned(tenant, kind .. 's')
local page = redis.call('ZRANGE', index, ARGV[3], '-inf', 'BYSCORE', 'REV', 'LIMIT', 0, most, 'WITHSCORES')
local rows = {}
for i = 1, #page, 2 do
  local row = redis.call('HGETALL', shared(kind, page[i]))
  if #row > 0 then table.insert(rows, {page[i], page[i + 1], row}) end
end
return {rows, #page == 2 * most and '(' .. page[#page]}
