#!lua
-- Create a queued batch of a context that can answer.
-- ARGV: tenant, job id, context id, address of the input, its bytes, most jobs queued in all, most of the tenant, what a
-- line is taken to need where no batch of the model has ended yet in ms, and as JSON the job's fields and the claim on an
-- idempotency key or null.
-- Returns 'created', 'unknown' when the context is gone, 'overloaded', 'jobs' or 'artifact_bytes' when the tenant has as
-- many as it may have, 'gone' when it is being deleted, or 'lost' when the claim has gone to another request. Posting the
-- same id again changes nothing, so a retry after a lost answer is safe.
local tenant, job, context, input, bytes = ARGV[1], ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])
local claim = cjson.decode(ARGV[10])
if claim == cjson.null then claim = nil end
local writer = table.concat({tenant, job, 0}, ':')
if redis.call('EXISTS', owned(tenant, 'job', job)) == 1 then
  end_writing(input, writer)
  return 'created'
end
if gone(tenant) then return 'gone' end
if not may_answer(tenant, claim) then return 'lost' end
local context_row = owned(tenant, 'context', context)
if redis.call('HGET', context_row, 'status') ~= 'succeeded' then return 'unknown' end
local full = queue_full(tenant, tonumber(ARGV[6]), tonumber(ARGV[7]))
if full then return full end
if not add_bytes(tenant, bytes) then return 'artifact_bytes' end

local row = cjson.decode(ARGV[9])
local line = tonumber(redis.call('HGET', shared('line_needs'), row.model) or ARGV[8])
row.estimate = math.max(1, math.ceil(line * row.total))
row.estimated_finish_at = estimated_finish(row.model, row.estimate)
row.bytes = bytes
redis.call('HINCRBY', context_row, 'batches', 1)
refer_for_job(tenant, job, input)
end_writing(input, writer)
create_job(tenant, job, redis.call('INCR', owned(tenant, 'sequence')), row)
keep_answer(tenant, claim)
return 'created'
