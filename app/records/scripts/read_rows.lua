#!lua flags=no-writes
-- Read rows as they are at one moment. ARGV: a tenant whose rows are all read, or '' and then keys without the hash tag.
-- Returns for each key the JSON of [key without the hash tag, type, ms to live or -1, content].
local READ = {
  string = function(key) return redis.call('GET', key) end,
  hash = function(key) return redis.call('HGETALL', key) end,
  list = function(key) return redis.call('LRANGE', key, 0, -1) end,
  set = function(key) return redis.call('SMEMBERS', key) end,
  zset = function(key) return redis.call('ZRANGE', key, 0, -1, 'WITHSCORES') end,
  stream = function(key) return redis.call('XRANGE', key, '-', '+') end,
}
local keys = {}
if ARGV[1] ~= '' then
  local cursor, known = '0', {}
  repeat
    local found = redis.call('SCAN', cursor, 'MATCH', owned(ARGV[1], '*'), 'COUNT', 10000)
    cursor = found[1]
    for _, key in ipairs(found[2]) do known[key] = true end
  until cursor == '0'
  for key in pairs(known) do table.insert(keys, key) end
else
  for i = 2, #ARGV do table.insert(keys, shared(ARGV[i])) end
end

local lines, deleted = {}, owned(ARGV[1], 'deleting', '')
for _, key in ipairs(keys) do
  local kind = redis.call('TYPE', key).ok
  if READ[kind] and string.sub(key, 1, #deleted) ~= deleted then
    local content = {string.sub(key, #KEYS[1] + 2), kind, redis.call('PTTL', key), READ[kind](key)}
    table.insert(lines, cjson.encode(content))
  end
end
return lines
