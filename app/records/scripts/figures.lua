#!lua flags=no-writes
-- Figures of the queues of all tenants.
-- ARGV: models. Returns the totals, the length of the outbox, then for each model its queued jobs, what they need
-- together (ms), its running jobs.
local answer = {redis.call('HGETALL', shared('totals')), redis.call('ZCARD', shared('outbox'))}
for _, model in ipairs(ARGV) do
  table.insert(answer, redis.call('ZCARD', shared('estimates', model)))
  table.insert(answer, tonumber(redis.call('HGET', shared('backlog'), model) or 0))
  table.insert(answer, redis.call('ZCARD', shared('running', model)))
end
return answer
