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
local full = queue_full(tenant, tonumber(ARGV[5]), tonumber(ARGV[6]))
if full then return full end
local row, job_row = cjson.decode(ARGV[7]), cjson.decode(ARGV[8])
local refused = context_refused(tenant, row.bytes or 0)
if refused then return refused end
row.spec = ARGV[4]
local sequence = create_context(tenant, context, row, ARGV[4])
job_row.estimated_finish_at = estimated_finish(row.model, job_row.estimate)
create_job(tenant, job, sequence, job_row)
keep_answer(tenant, claim)
return 'created'
