#!lua
-- Note that a request writes a file for an object that it is about to create, before it does.
-- ARGV: tenant, id of the object, address. Returns 'go', or 'wait' while a file with this address is being removed.
local tenant, id, address = ARGV[1], ARGV[2], ARGV[3]
return begin_writing(address, table.concat({tenant, id, 0}, ':')) and 'go' or 'wait'
