#!lua flags=allow-oom
-- End a job that is held.
-- ARGV: tenant, job id, fence, status, error or '', and as JSON the fields to set in the job's and the context's row,
-- the addresses of its artifact and of its report among the latter.
-- Returns the status that the job ended with, also when asked again, or 'lost'. A requested cancel wins over success.
local tenant, job, status = ARGV[1], ARGV[2], ARGV[4]
local row = owned(tenant, 'job', job)
local fence, finished, ended, cancel, context =
  fields(row, 'fence', 'finished_at', 'status', 'cancel_requested', 'context_id')
if fence == ARGV[3] and finished then return ended end
if not holds(tenant, job, ARGV[3]) then return 'lost' end
local key = owned(tenant, 'context', context)
local name, version, sequence = fields(key, 'name', 'version', 'sequence')
if cancel == '1' or not name then status = 'cancelled' end
save(row, cjson.decode(ARGV[6]))
if status == 'succeeded' then
  local result = cjson.decode(ARGV[7])
  redis.call('INCRBY', owned(tenant, 'artifact_bytes'), result.bytes)
  result.bytes = result.bytes + (redis.call('HGET', key, 'bytes') or 0)
  save(key, result)
  for _, address in ipairs({result.artifact, result.report}) do
    refer(address, table.concat({tenant, 'context', context}, ':'))
    end_writing(address, table.concat({tenant, job, fence}, ':'))
  end
  note_succeeded(tenant, context, name, version, sequence)
end
terminate(tenant, job, status, status == 'failed' and ARGV[5] or '')
return status
