#!lua flags=allow-oom
-- Keep what a batch that is held has done of its input since its last chunk.
-- ARGV: tenant, job id, fence, number of the chunk from 0, the chunk as JSON, its bytes, lines answered and failed in it,
-- tokens of those answered and of the context, milliseconds to keep a day of usage, then the addresses of its files.
-- Returns 'held', also when the chunk was kept before, 'cancel' (held, but the user wants it to end) or 'lost'.
local tenant, job, fence, number = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local row, chunks = owned(tenant, 'job', job), owned(tenant, 'chunks', job)
if not holds(tenant, job, fence) then return 'lost' end
local cancel = redis.call('HGET', row, 'cancel_requested') == '1' and 'cancel' or 'held'
if redis.call('LLEN', chunks) > number then return cancel end
redis.call('RPUSH', chunks, ARGV[5])
for i = 12, #ARGV do
  refer_for_job(tenant, job, ARGV[i])
  end_writing(ARGV[i], table.concat({tenant, job, fence}, ':'))
end
leave_unreferred(tenant, job)
redis.call('INCRBY', owned(tenant, 'artifact_bytes'), ARGV[6])
redis.call('HINCRBY', row, 'bytes', ARGV[6])
local done, failed = redis.call('HINCRBY', row, 'done', ARGV[7]), redis.call('HINCRBY', row, 'failed', ARGV[8])
redis.call('HSET', row, 'step', done + failed, 'furthest', done + failed, 'stalled', 0)
add_usage(tenant, ARGV[11], {inputs = ARGV[7], input_tokens = ARGV[9], context_tokens = ARGV[10]})
return cancel
