#!lua flags=allow-oom
-- Note that a job has written a file that no row came to refer to, or has not written it.
-- ARGV: tenant, job id, fence, address. Returns 1 if the file is to be removed by the caller, else 0.
local address = ARGV[4]
end_writing(address, table.concat({ARGV[1], ARGV[2], ARGV[3]}, ':'))
return collect(address) and 1 or 0
