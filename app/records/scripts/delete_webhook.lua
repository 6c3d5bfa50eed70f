#!lua flags=allow-oom
-- Forget a webhook. What waits in the outbox for it is dropped when it is due.
-- ARGV: tenant, id.
redis.call('ZREM', owned(ARGV[1], 'webhooks'), ARGV[2])
return redis.call('DEL', owned(ARGV[1], 'webhook', ARGV[2]))
