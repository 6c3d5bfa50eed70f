#!lua
-- Create a context of an adapter that was tuned elsewhere. It can answer at once and has no job.
-- ARGV: tenant, context id, address of its artifact, and as JSON its fields and the claim on an idempotency key or null.
-- Returns 'created', 'contexts' or 'artifact_bytes' when the tenant has as many as it may have, 'gone' when it is being
-- deleted, or 'lost' when the claim has gone to another request. The same id again changes nothing, so a retry after a
-- lost answer is safe.
local tenant, context, artifact = ARGV[1], ARGV[2], ARGV[3]
local claim = cjson.decode(ARGV[5])
if claim == cjson.null then claim = nil end
if redis.call('EXISTS', owned(tenant, 'context', context)) == 1 then
  end_writing(artifact, table.concat({tenant, context, 0}, ':'))
  return 'created'
end
if gone(tenant) then return 'gone' end
if not may_answer(tenant, claim) then return 'lost' end
local row = cjson.decode(ARGV[4])
local refused = context_refused(tenant, row.bytes)
if refused then return refused end
row.artifact, row.status, row.job_id, row.finished_at = artifact, 'succeeded', '', now
local sequence, version = create_context(tenant, context, row, artifact)
redis.call('ZADD', owned(tenant, 'contexts', 'status', 'succeeded'), sequence, context)
note_succeeded(tenant, context, row.name, version, sequence)
keep_answer(tenant, claim)
return 'created'
