#!lua flags=allow-oom
-- Give a queued job to a worker, under a lease: the next of the tenant whose turn it is.
-- ARGV: worker id, lease in ms, newest format of a row that the worker reads, models.
-- Returns tenant, id, fields of the job, and the address of its spec or, of a batch, its context's labels; false if there
-- is none. A worker runs one job at a time: if it holds one already, it lost the answer to an earlier claim and gets it again.
local CONSIDERED = 16

local function answer(tenant, job)
  local row = owned(tenant, 'job', job)
  local context, kind = fields(row, 'context_id', 'kind')
  local needed = redis.call('HGET', owned(tenant, 'context', context), kind == 'batch' and 'labels' or 'spec')
  return {tenant, job, redis.call('HGETALL', row), needed}
end

local held = redis.call('HGET', shared('workers'), ARGV[1])
if held and tonumber(redis.call('ZSCORE', shared('leases'), held) or 0) > now then return answer(named(held)) end

local function first_readable(tenant, set)
  for _, job in ipairs(redis.call('ZRANGE', set, 0, CONSIDERED - 1)) do
    if tonumber(redis.call('HGET', owned(tenant, 'job', job), 'format')) <= tonumber(ARGV[3]) then return job end
  end
end

-- A parked job lets at most one job of its own tenant by at a time.
local function next_of(tenant, model)
  local parked = first_readable(tenant, shared('parked', model, tenant))
  if parked and redis.call('HGET', owned(tenant, 'job', parked), 'let_by') == '1' then return parked end
  local queued = first_readable(tenant, shared('queue', model, tenant))
  if parked and queued then redis.call('HSET', owned(tenant, 'job', parked), 'let_by', 1) end
  return queued or parked
end

local waiting = {}
for i = 4, #ARGV do
  local turns = redis.call('ZRANGE', shared('waiting', ARGV[i]), 0, CONSIDERED - 1, 'WITHSCORES')
  for k = 1, #turns, 2 do table.insert(waiting, {tenant = turns[k], turn = tonumber(turns[k + 1]), model = ARGV[i]}) end
end
table.sort(waiting, function(a, b) return a.turn < b.turn end)
for _, one in ipairs(waiting) do
  local tenant, job = one.tenant, next_of(one.tenant, one.model)
  if job then
    local row = owned(tenant, 'job', job)
    dequeue(tenant, job)
    if redis.call('ZREM', shared('waiting', one.model), tenant) == 1 then wait_in_turn(tenant, one.model) end
    redis.call('HINCRBY', row, 'fence', 1)
    local parked = redis.call('HGET', row, 'status') == 'parked'
    redis.call('HSET', row, 'was_parked', parked and 1 or 0)
    if not parked then
      redis.call('HINCRBY', row, 'attempt', 1)
      redis.call('HINCRBY', shared('totals'), 'attempts', 1)
      redis.call('HINCRBY', row, 'stalled', 1)
    end
    redis.call('HSETNX', row, 'started_at', now)
    redis.call('HSET', row, 'worker', ARGV[1], 'claimed_at', now, 'let_by', 0)
    redis.call('HSET', shared('workers'), ARGV[1], member(tenant, job))
    redis.call('ZADD', shared('leases'), now + ARGV[2], member(tenant, job))
    redis.call('ZADD', shared('running', one.model), now + redis.call('HGET', row, 'estimate'), member(tenant, job))
    set_status(tenant, job, 'running', '')
    return answer(tenant, job)
  end
end
return false
