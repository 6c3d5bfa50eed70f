#!lua
-- Write rows as `read_rows` read them, those of tenants before what refers to files. ARGV: their JSON.
-- They may be of different moments. A reference to a file that the referring row does not name is left out; a file that
-- has no other is to be collected. `reconcile` lists keys, and finds the batches whose files are to be removed.
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

local files = {}
local function has(referrer, address)
  local tenant, kind, id = string.match(referrer, '^([^:]*):([^:]*):(.*)$')
  if not files[referrer] then
    files[referrer] = {}
    local named = kind == 'job' and redis.call('LRANGE', owned(tenant, 'files', id), 0, -1)
      or kind == 'context' and redis.call('HMGET', owned(tenant, kind, id), 'spec', 'artifact', 'report')
    for _, one in ipairs(named or {}) do files[referrer][one or ''] = true end
  end
  return files[referrer][address]
end

local function those_that_have(address, referrers)
  local kept = {}
  for _, one in ipairs(referrers) do
    if has(one, address) then table.insert(kept, one) end
  end
  if #kept == 0 then redis.call('ZADD', shared('collecting'), now, address) end
  return kept
end

for _, line in ipairs(ARGV) do
  local name, kind, left, content = unpack(cjson.decode(line))
  local key = shared(name)
  if string.sub(name, 1, 5) == 'refs:' then content = those_that_have(string.sub(name, 6), content) end
  if string.find(name, '^t:[^:]*:keys$') then content = {} end
  redis.call('DEL', key)
  if #content > 0 or kind == 'string' then WRITE[kind](key, content) end
  if left > 0 then redis.call('PEXPIRE', key, left) end
  local tenant, webhook = string.match(name, '^t:([^:]*):deliveries:(.*)$')
  if webhook then schedule(tenant, webhook) end
  local owner, batch = string.match(name, '^t:([^:]*):files:(.*)$')
  if batch then redis.call('ZADD', shared('removing'), 0, member(owner, batch)) end
end
return #ARGV
