#!lua flags=allow-oom
-- Note that a job has written a file that no row came to refer to, or has not written it.
-- ARGV: tenant, job id, fence, address. Returns 1 if the file is to be removed by the caller, else 0.
-- A remover may have been there before the last write: then both remove it, and neither ends the lease, which runs out.
local address, writer = ARGV[4], table.concat({ARGV[1], ARGV[2], ARGV[3]}, ':')
end_writing(address, writer)
local others = collect(address, writer)
if not others then return 0 end
if others > 0 then
  redis.call('ZADD', shared('collecting'), now + COLLECTING_MS, address)
  redis.call('HSET', shared('collectors'), address, '')
end
return 1
