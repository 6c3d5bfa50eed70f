#!lua flags=allow-oom
-- End a batch that is held, all of whose lines are done.
-- ARGV: tenant, job id, fence, address of its report or '', its bytes, what a line needed in ms or ''.
-- Returns the status that the job ended with, also when asked again, or 'lost'. A requested cancel wins over success.
local tenant, job, fence, report = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local row = owned(tenant, 'job', job)
local held, finished, ended, cancel, total, model =
  fields(row, 'fence', 'finished_at', 'status', 'cancel_requested', 'total', 'model')
if held == fence and finished then return ended end
if not holds(tenant, job, fence) then return 'lost' end
local status = cancel == '1' and 'cancelled' or 'succeeded'
if status == 'succeeded' then
  redis.call('HSET', row, 'step', total, 'fraction', 1)
  if ARGV[6] ~= '' then redis.call('HSET', shared('line_needs'), model, ARGV[6]) end
  if report ~= '' then
    redis.call('HSET', row, 'report', report)
    redis.call('HINCRBY', row, 'bytes', ARGV[5])
    redis.call('INCRBY', owned(tenant, 'artifact_bytes'), ARGV[5])
    refer_for_job(tenant, job, report)
    end_writing(report, table.concat({tenant, job, fence}, ':'))
  end
end
terminate(tenant, job, status, '')
return status
