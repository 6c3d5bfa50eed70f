#!lua flags=allow-oom
-- Remove a context from all lists, end its job, and leave a row that names the files to be removed.
-- ARGV: tenant, context id, how long the counter of a name without versions is kept, in ms, who removes the files.
-- Returns its job's id, '' where it was imported, milliseconds that its worker may write for it or another may be at its
-- files, and the addresses of those that the caller is to remove; false when there is no such context and none is being
-- deleted; 'aliased' when an alias points at it, 'in_batch' when a batch needs it.
local tenant, context, remover = ARGV[1], ARGV[2], ARGV[4]
local key, deleting = owned(tenant, 'context', context), owned(tenant, 'deleting', context)

local function answer()
  local job, addresses, lease = fields(deleting, 'job_id', 'addresses', 'lease_until')
  if tonumber(lease) > now then return {job, lease - now, {}} end
  local left, ours, wait = {}, {}, 0
  for _, address in ipairs(cjson.decode(addresses)) do
    local others = collect(address, remover)
    if others then table.insert(left, address) end
    if others == 0 then table.insert(ours, address) end
    wait = math.max(wait, others or 0)
  end
  redis.call('HSET', deleting, 'addresses', #left == 0 and '[]' or cjson.encode(left))
  return {job, #ours == 0 and wait or 0, ours}
end

local name, job, model, status, version, metadata, aliases, artifact, spec, report, bytes =
  fields(key, 'name', 'job_id', 'model', 'status', 'version', 'metadata', 'aliases', 'artifact', 'spec', 'report', 'bytes')
if (job or redis.call('EXISTS', deleting) == 1) and redis.call('EXISTS', shared('backup')) == 1 then return 'backup' end
if not job then return redis.call('EXISTS', deleting) == 1 and answer() end
if (aliases or '[]') ~= '[]' then return 'aliased' end
if tonumber(redis.call('HGET', key, 'batches') or 0) > 0 then return 'in_batch' end

local row = owned(tenant, 'job', job)
local state, fence, writing = fields(row, 'status', 'fence', 'writing')
local lease = redis.call('ZSCORE', shared('leases'), member(tenant, job)) or 0
if state == 'queued' or state == 'running' or state == 'parked' then
  redis.call('HSET', row, 'cancel_requested', 1)
  redis.call('HINCRBY', row, 'fence', 1)
  terminate(tenant, job, 'cancelled', '')
  status = 'cancelled'
end

local addresses = {}
writing = writing or redis.call('HGET', key, 'writing') or ''  -- its job may be deleted
for address in string.gmatch(writing, '%S+') do
  if address ~= artifact and address ~= report then table.insert(addresses, address) end
end
free_bytes(tenant, bytes)
for _, address in ipairs({spec or '', artifact or '', report or ''}) do
  redis.call('SREM', shared('refs', address), table.concat({tenant, 'context', context}, ':'))
  if address ~= '' then table.insert(addresses, address) end
end
for _, address in ipairs(addresses) do end_all_writing(address, tenant, job) end
redis.call('DEL', deleting)
redis.call('HSET', deleting, 'format', 1, 'job_id', job, 'fence', fence or 0, 'lease_until', lease,
  'addresses', #addresses == 0 and '[]' or cjson.encode(addresses))
redis.call('ZADD', shared('deleting'), now, member(tenant, context))

redis.call('ZREM', owned(tenant, 'contexts'), context)
redis.call('ZREM', owned(tenant, 'contexts', 'model', model), context)
redis.call('ZREM', owned(tenant, 'contexts', 'status', status), context)
for k, v in pairs(cjson.decode(metadata)) do redis.call('ZREM', metadata_index(tenant, k, v), context) end
if name ~= '' then
  local versions = owned(tenant, 'name', name)
  redis.call('HDEL', versions, version)
  redis.call('ZREM', owned(tenant, 'contexts', 'name', name), context)
  redis.call('ZREM', owned(tenant, 'succeeded', name), context)
  if redis.call('EXISTS', owned(tenant, 'succeeded', name)) == 0 then redis.call('ZREM', owned(tenant, 'names'), name) end
  if redis.call('HLEN', versions) == 1 then redis.call('PEXPIRE', versions, ARGV[3]) end
end
redis.call('DEL', key)
return answer()
