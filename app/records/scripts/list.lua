#!lua flags=no-writes
-- Read one page of a list, newest first, from indexes alone.
-- ARGV: tenant, kind ('context' or 'job'), upper bound of the order ('+inf' or '(' and a number), most rows, then the
-- indexes that each row must be in. Walks the smallest of them, a bounded part of it at a time.
-- Returns rows of {id, order, fields}, and the bound to go on from, or false at the end.
local WALKED, CHUNK = 10000, 500
local tenant, kind, upper, most = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local indexes = {}
for i = 5, #ARGV do table.insert(indexes, owned(tenant, kind .. 's', ARGV[i])) end
table.sort(indexes, function(a, b) return redis.call('ZCARD', a) < redis.call('ZCARD', b) end)
local walked = table.remove(indexes, 1) or owned(tenant, kind .. 's')
local chunk = #indexes == 0 and most or CHUNK

local function in_all(ids)
  local keep = {}
  for i = 1, #ids do keep[i] = true end
  for _, index in ipairs(indexes) do
    for i, score in ipairs(redis.call('ZMSCORE', index, unpack(ids))) do keep[i] = keep[i] and score end
  end
  return keep
end

local rows, seen = {}, 0
while seen < WALKED do
  local page = redis.call('ZRANGE', walked, upper, '-inf', 'BYSCORE', 'REV', 'LIMIT', 0, chunk, 'WITHSCORES')
  if #page == 0 then return {rows, false} end
  local ids = {}
  for i = 1, #page, 2 do table.insert(ids, page[i]) end
  for i, keep in ipairs(in_all(ids)) do
    upper = '(' .. page[2 * i]
    if keep then table.insert(rows, {ids[i], page[2 * i], redis.call('HGETALL', owned(tenant, kind, ids[i]))}) end
    if #rows == most then return {rows, upper} end
  end
  seen = seen + #ids
end
return {rows, upper}
