#!lua flags=allow-oom
-- Set a long job aside, uncounted, if a much shorter one of its model has waited for longer than an idle worker would let
-- it. Its lease must have been held for a while.
-- ARGV: tenant, job id, fence, how long the lease must have been held and the other job queued in ms, what the job still
-- needs in ms. Returns 'parked', 'held', 'cancel' (held, but the user wants it to end) or 'lost'.
local CONSIDERED = 64
local tenant, job = ARGV[1], ARGV[2]
if not holds(tenant, job, ARGV[3]) then return 'lost' end
local row = owned(tenant, 'job', job)
local model, claimed, sequence, cancel = fields(row, 'model', 'claimed_at', 'sequence', 'cancel_requested')
if cancel == '1' then return 'cancel' end
if now - claimed < tonumber(ARGV[4]) then return 'held' end

local function waits_for_long()
  local shorter = '(' .. string.format('%.0f', ARGV[6] / 2)
  local found = redis.call('ZRANGE', shared('estimates', model), '-inf', shorter, 'BYSCORE', 'LIMIT', 0, CONSIDERED)
  for _, one in ipairs(found) do
    local other, id = named(one)
    if now - redis.call('HGET', owned(other, 'job', id), 'queued_at') >= tonumber(ARGV[5]) then return other, id end
  end
end

local other, short = waits_for_long()
if not other then return 'held' end
redis.call('ZADD', shared('queue', model, other), 0, short)
end_lease(tenant, job)
redis.call('HSET', row, 'estimate', ARGV[6])
set_status(tenant, job, 'parked', '')
redis.call('ZADD', shared('parked', model, tenant), sequence, job)
redis.call('ZREM', shared('waiting', model), tenant)
wait_in_turn(tenant, model)
return 'parked'
