#!lua flags=no-writes
-- Figures of the queues of all tenants.
-- ARGV: models. Returns the totals, how many deliveries wait, then for each model its queued jobs, what they need
-- together (ms), its running jobs.
local deliveries = 0
for _, one in ipairs(redis.call('ZRANGE', shared('outbox'), 0, -1)) do
  local tenant, webhook = named(one)
  deliveries = deliveries + redis.call('ZCARD', owned(tenant, 'deliveries', webhook))
end
local answer = {redis.call('HGETALL', shared('totals')), deliveries}
for _, model in ipairs(ARGV) do
  table.insert(answer, redis.call('ZCARD', shared('estimates', model)))
  table.insert(answer, tonumber(redis.call('HGET', shared('backlog'), model) or 0))
  table.insert(answer, redis.call('ZCARD', shared('running', model)))
end
return answer
