#!lua flags=no-writes
-- Read a job. ARGV: tenant, job id. Returns its fields, none if there is no such job.
return redis.call('HGETALL', owned(ARGV[1], 'job', ARGV[2]))
