#!lua flags=no-writes
-- Find the context of a ref.
-- ARGV: tenant, context id or '', name, what follows its @ (a version, an alias, '' or 'latest').
-- Returns the context's id and fields, and the job that a bare name without a version that
-- succeeded waits for, or false; false when there is no such context. A bare name means its highest version that
-- succeeded, or its newest while none has.
local tenant, context, name, selector = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local versions, pending = owned(tenant, 'name', name), false

local function newest_pending()
  local all = owned(tenant, 'contexts', 'name', name)
  for start = 0, redis.call('ZCARD', all), 100 do
    for _, one in ipairs(redis.call('ZRANGE', all, start, start + 99, 'REV')) do
      local status, job = fields(owned(tenant, 'context', one), 'status', 'job_id')
      if status == 'queued' or status == 'running' then return job end
    end
  end
  return false
end

if context == '' then
  if selector == '' or selector == 'latest' then
    context = redis.call('ZRANGE', owned(tenant, 'succeeded', name), 0, 0, 'REV')[1]
    if not context then
      context = redis.call('ZRANGE', owned(tenant, 'contexts', 'name', name), 0, 0, 'REV')[1]
      pending = context and newest_pending()
    end
  elseif string.match(selector, '^%d') then
    context = redis.call('HGET', versions, selector)
  else
    local version = redis.call('HGET', versions, '@' .. selector)
    context = version and redis.call('HGET', versions, version)
  end
end
local row = context and redis.call('HGETALL', owned(tenant, 'context', context)) or {}
if #row == 0 then return false end
return {context, row, pending}
