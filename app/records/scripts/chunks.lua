#!lua flags=no-writes
-- Read the chunks of a batch. ARGV: tenant, job id, number of the first from 0.
-- Returns the fields of the job, none if there is no such job, and the chunks.
return {redis.call('HGETALL', owned(ARGV[1], 'job', ARGV[2])), redis.call('LRANGE', owned(ARGV[1], 'chunks', ARGV[2]), ARGV[3], -1)}
