#!lua flags=allow-oom
-- Ask for the end of a job: at once where no worker holds it.
-- ARGV: tenant, job id. Returns the status before, or false when there is no such job.
local tenant, job = ARGV[1], ARGV[2]
local row = owned(tenant, 'job', job)
local status = redis.call('HGET', row, 'status')
if status == 'queued' or status == 'running' or status == 'parked' then
  redis.call('HSET', row, 'cancel_requested', 1)
end
if status == 'queued' or status == 'parked' then terminate(tenant, job, 'cancelled', '') end
return shown(status)
