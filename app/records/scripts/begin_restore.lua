#!lua
-- Mark a store as one that is being restored, in which nothing else is done. A gateway that runs may have swept it.
-- Returns 'begun', 'again' when an earlier restore did not end, or 'full' when the store holds something.
if redis.call('EXISTS', shared('restoring')) == 1 then return 'again' end
local cursor = '0'
repeat
  local found = redis.call('SCAN', cursor, 'MATCH', KEYS[1] .. ':*', 'COUNT', 10000)
  cursor = found[1]
  for _, key in ipairs(found[2]) do
    if key ~= shared('format') and key ~= shared('swept') then return 'full' end
  end
until cursor == '0'
redis.call('SET', shared('restoring'), 1)
return 'begun'
