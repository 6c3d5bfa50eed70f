#!lua
-- Create a context and its queued job, both or neither.
-- ARGV: tenant, context id, job id, address of the spec, most jobs queued in all, most of the tenant, and as JSON the
-- context's fields, the job's fields, and the claim on an idempotency key or null.
-- Returns 'created', 'overloaded', 'jobs', 'contexts' or 'artifact_bytes' when the tenant has as many as it may have, 'gone' when it is
-- being deleted, or 'lost' when the claim has gone to another request. Posting the same ids again changes nothing, so a
-- retry after a lost answer is safe.
local tenant, context, job = ARGV[1], ARGV[2], ARGV[3]
local key = owned(tenant, 'context', context)
local claim = cjson.decode(ARGV[9])
if claim == cjson.null then claim = nil end
if redis.call('EXISTS', key) == 1 then
  end_writing(ARGV[4], table.concat({tenant, context, 0}, ':'))
  return 'created'
end
if gone(tenant) then return 'gone' end
if not may_answer(tenant, claim) then return 'lost' end
local full, limits = queue_full(tenant, tonumber(ARGV[5]), tonumber(ARGV[6])), limits_of(tenant)
if full then return full end
if limits.contexts and redis.call('ZCARD', owned(tenant, 'contexts')) >= limits.contexts then return 'contexts' end

local row, job_row = cjson.decode(ARGV[7]), cjson.decode(ARGV[8])
if not add_bytes(tenant, row.bytes or 0) then return 'artifact_bytes' end
local sequence, version = redis.call('INCR', owned(tenant, 'sequence')), 1
if row.name ~= '' then
  local versions = owned(tenant, 'name', row.name)
  version = redis.call('HINCRBY', versions, 'last', 1)
  redis.call('HSET', versions, version, context)
  redis.call('PERSIST', versions)
  redis.call('ZADD', owned(tenant, 'contexts', 'name', row.name), sequence, context)
end
save(key, row)
redis.call('HSET', key, 'spec', ARGV[4], 'version', version, 'sequence', sequence, 'created_at', now)
refer(ARGV[4], table.concat({tenant, 'context', context}, ':'))
end_writing(ARGV[4], table.concat({tenant, context, 0}, ':'))
redis.call('ZADD', owned(tenant, 'contexts'), sequence, context)
redis.call('ZADD', owned(tenant, 'contexts', 'model', row.model), sequence, context)
for name, value in pairs(cjson.decode(row.metadata)) do
  redis.call('ZADD', metadata_index(tenant, name, value), sequence, context)
end

job_row.estimated_finish_at = estimated_finish(row.model, job_row.estimate)
create_job(tenant, job, sequence, job_row)
keep_answer(tenant, claim)
return 'created'
