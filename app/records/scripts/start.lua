#!lua flags=allow-oom
-- Take up a store. ARGV: format that this program writes, oldest format of a program that reads it.
-- Returns the format of the store and the oldest format of a program that may read it.
local key = shared('format')
local format, reader = fields(key, 'format', 'min_reader')
if not format or tonumber(format) < tonumber(ARGV[1]) then
  redis.call('HSET', key, 'format', ARGV[1], 'min_reader', ARGV[2])
  format, reader = ARGV[1], ARGV[2]
end
return {format, reader}
