#!lua flags=allow-oom
-- Remove a context and cancel its job where that has not ended.
-- ARGV: tenant, context id, how long the counter of a name without versions is kept, in ms.
-- Returns its job's id and its artifact ('' if none); false when there is no such context; 'in_use' when an alias points
-- at it.
local tenant, context = ARGV[1], ARGV[2]
local key = owned(tenant, 'context', context)
local name, job, artifact, model, status, version, metadata, aliases =
  fields(key, 'name', 'job_id', 'artifact', 'model', 'status', 'version', 'metadata', 'aliases')
if not job then return false end
if (aliases or '[]') ~= '[]' then return 'in_use' end
local row = owned(tenant, 'job', job)
local running = redis.call('HGET', row, 'status')
if running == 'queued' or running == 'running' or running == 'parked' then
  redis.call('HSET', row, 'cancel_requested', 1)
end
if running == 'queued' or running == 'parked' then
  terminate(tenant, job, 'cancelled', '')
  status = 'cancelled'
end
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
redis.call('DEL', key, owned(tenant, 'spec', context), owned(tenant, 'report', context))
return {job, artifact or ''}
