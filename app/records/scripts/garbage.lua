#!lua flags=allow-oom
-- Find files that nobody wants any more: those of writers that began longer ago than the grace, and those whose remover
-- did not come back. ARGV: grace in ms, most files, who removes them.
-- Returns alternating addresses, and 1 if the file is to be removed or 0 if only what a writer left of it is.
if redis.call('EXISTS', shared('backup')) == 1 then return {} end  -- a backup keeps all files
local found = {}
for _, address in ipairs(redis.call('ZRANGE', shared('collecting'), '-inf', now, 'BYSCORE', 'LIMIT', 0, ARGV[2])) do
  forget_remover(address)
  if collect(address, ARGV[3]) == 0 then
    table.insert(found, address)
    table.insert(found, 1)
  end
end
local old = now - ARGV[1]
for _, address in ipairs(redis.call('ZRANGE', shared('pending'), '-inf', old, 'BYSCORE', 'LIMIT', 0, ARGV[2])) do
  redis.call('DEL', shared('writers', address))
  redis.call('ZREM', shared('pending'), address)
  table.insert(found, address)
  table.insert(found, collect(address, ARGV[3]) == 0 and 1 or 0)
end
return found
