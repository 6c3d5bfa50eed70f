#!lua flags=allow-oom
-- Note that a job that is held writes a file, before it does.
-- ARGV: tenant, job id, fence, address. Returns 'go', 'wait' while a file with this address is being removed, or 'lost'.
local tenant, job, fence, address = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
if not holds(tenant, job, fence) then return 'lost' end
if not begin_writing(address, table.concat({tenant, job, fence}, ':')) then return 'wait' end
local row = owned(tenant, 'job', job)
local writing = redis.call('HGET', row, 'writing') or ''
if not string.find(writing, address, 1, true) then redis.call('HSET', row, 'writing', writing .. ' ' .. address) end
return 'go'
