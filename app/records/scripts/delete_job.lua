#!lua flags=allow-oom
-- Remove a job that has ended, with its events.
-- ARGV: tenant, job id. Returns 'deleted', the status of a job that has not ended, or false when there is no such job.
local status, finished = fields(owned(ARGV[1], 'job', ARGV[2]), 'status', 'finished_at')
if not status then return false end
if not finished then return shown(status) end
remove_job(ARGV[1], ARGV[2])
return 'deleted'
