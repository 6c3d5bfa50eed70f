#!lua
-- Write rows as `read_rows` read them. ARGV: their JSON. What refers to a file and is not there itself is left out.
local AT_ONCE = 1000
local function in_parts(command, key, content, step)
  for i = 1, #content, AT_ONCE * step do
    redis.call(command, key, unpack(content, i, math.min(#content, i + AT_ONCE * step - 1)))
  end
end
local WRITE = {
  string = function(key, content) redis.call('SET', key, content) end,
  hash = function(key, content) in_parts('HSET', key, content, 2) end,
  list = function(key, content) in_parts('RPUSH', key, content, 1) end,
  set = function(key, content) in_parts('SADD', key, content, 1) end,
  zset = function(key, content)
    for i = 1, #content, 2 do redis.call('ZADD', key, content[i + 1], content[i]) end
  end,
  stream = function(key, content)
    for _, entry in ipairs(content) do redis.call('XADD', key, entry[1], unpack(entry[2])) end
  end,
}

local function that_are_there(referrers)
  local kept = {}
  for _, one in ipairs(referrers) do
    local tenant, kind, id = string.match(one, '^([^:]*):([^:]*):(.*)$')
    if tenant and redis.call('EXISTS', owned(tenant, kind, id)) == 1 then table.insert(kept, one) end
  end
  return kept
end

for _, line in ipairs(ARGV) do
  local name, kind, left, content = unpack(cjson.decode(line))
  local key = shared(name)
  if string.sub(name, 1, 5) == 'refs:' then content = that_are_there(content) end
  redis.call('DEL', key)
  if #content > 0 or kind == 'string' then WRITE[kind](key, content) end
  if left > 0 then redis.call('PEXPIRE', key, left) end
  local tenant, webhook = string.match(name, '^t:([^:]*):deliveries:(.*)$')
  if webhook then schedule(tenant, webhook) end
end
return #ARGV
