#!lua flags=no-writes
-- Read one page of the audit log of a tenant, newest first. ARGV: tenant, upper bound ('+' or '(' and an id), most rows,
-- milliseconds that events are kept. Returns rows of {id, id, fields}, and the bound to go on from, or false at the end.
local most, rows = tonumber(ARGV[3]), {}
local oldest = string.format('%.0f', now - ARGV[4])
local events = redis.call('XREVRANGE', owned(ARGV[1], 'audit'), ARGV[2], oldest, 'COUNT', most)
for _, event in ipairs(events) do table.insert(rows, {event[1], event[1], event[2]}) end
return {rows, #rows == most and '(' .. rows[most][1]}
