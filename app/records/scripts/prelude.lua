-- What every script begins with: the store's clock, its keys, and the changes that several scripts make.
-- KEYS[1] is the one hash tag of the store; every other key is computed from it. Times are milliseconds since the epoch.
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

local function shared(...) return table.concat({KEYS[1], ...}, ':') end
local function owned(tenant, ...) return table.concat({KEYS[1], 't', tenant, ...}, ':') end
local function fields(key, ...) return unpack(redis.call('HMGET', key, ...)) end

-- A member of a set that is shared between tenants, and what it names.
local function member(tenant, id) return tenant .. ':' .. id end
local function named(text) return string.match(text, '^([^:]*):(.*)$') end

local function metadata_index(tenant, name, value)
  return owned(tenant, 'contexts', 'metadata', redis.sha1hex(name .. '\0' .. value))
end

local function save(key, row)
  for name, value in pairs(row) do redis.call('HSET', key, name, value) end
end

-- Keys and tenants --------------------------------------------------------------------------------------------------

local function remove_key(hash)
  local row = shared('key', hash)
  local id, tenant = fields(row, 'id', 'tenant')
  if not id then return end
  redis.call('DEL', row)
  redis.call('HDEL', shared('hashes'), id)
  redis.call('ZREM', shared('keys'), hash)
  redis.call('ZREM', owned(tenant, 'keys'), hash)
end

-- Whether a tenant is being deleted, or was within the last day: a request of its keys may still be on its way.
local function gone(tenant)
  return redis.call('HGET', shared('tenant', tenant), 'status') == 'deleting'
    or redis.call('ZSCORE', shared('tenants', 'removed'), tenant)
end

-- What a tenant may have, by name of the limit.
local function limits_of(tenant)
  return cjson.decode(redis.call('HGET', shared('tenant', tenant), 'limits') or '{}')
end

-- Count bytes of files that a tenant is to keep; false if those are more than it may have.
local function add_bytes(tenant, bytes)
  local key, most = owned(tenant, 'artifact_bytes'), limits_of(tenant).artifact_bytes
  if most and tonumber(redis.call('GET', key) or 0) + bytes > most then return false end
  redis.call('INCRBY', key, bytes)
  return true
end

local function free_bytes(tenant, bytes)
  local key = owned(tenant, 'artifact_bytes')
  if redis.call('DECRBY', key, bytes or 0) <= 0 then redis.call('DEL', key) end
end

local function add_usage(tenant, keep, used)
  local day = math.floor(now / 86400000)
  local row, days = owned(tenant, 'usage', day), owned(tenant, 'usages')
  for name, number in pairs(used) do redis.call('HINCRBY', row, name, number) end
  redis.call('PEXPIRE', row, keep)
  redis.call('ZADD', days, day, day)
  redis.call('ZREMRANGEBYSCORE', days, '-inf', day - math.ceil(keep / 86400000))
  redis.call('PEXPIRE', days, keep)
end

-- Events ------------------------------------------------------------------------------------------------------------

local METRICS_KEPT = 200
local MESSAGES_KEPT = 1000

local function append_event(tenant, job, kind, level, message, data)
  local id = redis.call('HINCRBY', owned(tenant, 'job', job), 'events', 1)
  redis.call('RPUSH', owned(tenant, 'events', job), cjson.encode({id, kind, level, now, message, data}))
  redis.call('PUBLISH', shared('events'), member(tenant, job))
end

-- Drop every second metrics event; from now on only every second of those that would have been kept is.
local function thin_metrics(tenant, job)
  local events, odd = owned(tenant, 'events', job), false
  local all = redis.call('LRANGE', events, 0, -1)
  redis.call('DEL', events)
  for _, event in ipairs(all) do
    local metrics = cjson.decode(event)[2] == 'metrics'
    if metrics then odd = not odd end
    if not metrics or odd then redis.call('RPUSH', events, event) end
  end
end

-- Those that are not kept, while they are the newest, are left in the job's row: its last are told at its end.
local function append_metrics(tenant, job, data)
  local row = owned(tenant, 'job', job)
  local stride = tonumber(redis.call('HGET', row, 'metrics_stride') or 1)
  local kept = (redis.call('HINCRBY', row, 'metrics_seen', 1) - 1) % stride == 0
  if kept then
    append_event(tenant, job, 'metrics', 'info', '', data)
    kept = redis.call('HINCRBY', row, 'metrics_kept', 1) < METRICS_KEPT
    if not kept then
      thin_metrics(tenant, job)
      redis.call('HSET', row, 'metrics_kept', METRICS_KEPT / 2, 'metrics_stride', stride * 2)
    end
  end
  if kept then redis.call('HDEL', row, 'metrics_left') else redis.call('HSET', row, 'metrics_left', data) end
end

local function append_last_metrics(tenant, job)
  local row = owned(tenant, 'job', job)
  local left = redis.call('HGET', row, 'metrics_left')
  if not left then return end
  append_event(tenant, job, 'metrics', 'info', '', left)
  redis.call('HDEL', row, 'metrics_left')
end

local function append_message(tenant, job, level, message, data)
  if redis.call('HINCRBY', owned(tenant, 'job', job), 'messages', 1) <= MESSAGES_KEPT then
    append_event(tenant, job, 'message', level, message, data)
  end
end

-- Jobs --------------------------------------------------------------------------------------------------------------

-- Users see a parked job as running.
local function shown(status) return status == 'parked' and 'running' or status end

-- Note a job's status in its row, in its context's, in the lists and in its events.
local function set_status(tenant, job, status, error)
  local row = owned(tenant, 'job', job)
  local was, kind, sequence, context = fields(row, 'status', 'kind', 'sequence', 'context_id')
  redis.call('HSET', row, 'status', status)
  was, status = shown(was), shown(status)
  if was == status then return end
  local function move(list, id, order)
    if was then redis.call('ZREM', owned(tenant, list, 'status', was), id) end
    redis.call('ZADD', owned(tenant, list, 'status', status), order, id)
  end
  move('jobs', job, sequence)
  local order = kind == 'tuning' and redis.call('HGET', owned(tenant, 'context', context), 'sequence')
  if order then
    move('contexts', context, order)
    redis.call('HSET', owned(tenant, 'context', context), 'status', status)
  end
  local data = '{"status":"' .. status .. '"' .. (error ~= '' and ',"error":' .. error or '') .. '}'
  append_event(tenant, job, 'status', status == 'failed' and 'error' or 'info', '', data)
end

-- Let a tenant wait for a worker of the model, behind those that wait already.
local function wait_in_turn(tenant, model)
  redis.call('ZADD', shared('waiting', model), 'NX', redis.call('INCR', shared('turn')), tenant)
end

local function enqueue(tenant, job)
  local model, sequence, estimate = fields(owned(tenant, 'job', job), 'model', 'sequence', 'estimate')
  redis.call('HSET', owned(tenant, 'job', job), 'queued_at', now)
  redis.call('ZADD', shared('queue', model, tenant), sequence, job)
  redis.call('ZADD', shared('estimates', model), estimate, member(tenant, job))
  redis.call('INCR', shared('queued'))
  redis.call('HINCRBY', shared('backlog'), model, estimate)
  wait_in_turn(tenant, model)
end

-- Take a job out of the queue or from among the parked ones.
local function dequeue(tenant, job)
  local model, estimate = fields(owned(tenant, 'job', job), 'model', 'estimate')
  local queue, parked = shared('queue', model, tenant), shared('parked', model, tenant)
  if redis.call('ZREM', queue, job) == 1 then
    redis.call('ZREM', shared('estimates', model), member(tenant, job))
    redis.call('DECR', shared('queued'))
    redis.call('HINCRBY', shared('backlog'), model, -estimate)
  end
  redis.call('ZREM', parked, job)
  if redis.call('EXISTS', queue, parked) == 0 then redis.call('ZREM', shared('waiting', model), tenant) end
end

-- Take a job from its worker.
local function end_lease(tenant, job)
  local worker, model = fields(owned(tenant, 'job', job), 'worker', 'model')
  redis.call('ZREM', shared('leases'), member(tenant, job))
  redis.call('ZREM', shared('running', model), member(tenant, job))
  redis.call('HSET', owned(tenant, 'job', job), 'worker', '')
  if worker and redis.call('HGET', shared('workers'), worker) == member(tenant, job) then
    redis.call('HDEL', shared('workers'), worker)
  end
end

local function requeue(tenant, job)
  end_lease(tenant, job)
  set_status(tenant, job, 'queued', '')
  enqueue(tenant, job)
end

-- Let the outbox say when the first delivery of a webhook is due.
local function schedule(tenant, webhook)
  local first = redis.call('ZRANGE', owned(tenant, 'deliveries', webhook), 0, 0, 'WITHSCORES')
  if first[2] then
    redis.call('ZADD', shared('outbox'), first[2], member(tenant, webhook))
  else
    redis.call('ZREM', shared('outbox'), member(tenant, webhook))
  end
end

-- Put a delivery of an event into the outbox for each webhook of the tenant that wants such events.
local function tell_webhooks(tenant, kind, object)
  for _, webhook in ipairs(redis.call('ZRANGE', owned(tenant, 'webhooks'), 0, -1)) do
    local wanted = redis.call('HGET', owned(tenant, 'webhook', webhook), 'events') or ''
    if string.find(',' .. wanted .. ',', ',' .. kind .. ',', 1, true) then
      local id = 'evt_' .. string.sub(redis.sha1hex(webhook .. kind .. object), 1, 24)
      redis.call('HSET', owned(tenant, 'delivery', id), 'webhook', webhook, 'type', kind, 'object', object,
        'created_at', now)
      redis.call('ZADD', owned(tenant, 'deliveries', webhook), now, id)
      schedule(tenant, webhook)
    end
  end
end

-- Jobs that ended, by when; batches apart, as they are kept for another time.
local function ended_of(kind) return kind == 'batch' and shared('ended', 'batch') or shared('ended') end

local function terminate(tenant, job, status, error)
  append_last_metrics(tenant, job)
  end_lease(tenant, job)
  dequeue(tenant, job)
  local row = owned(tenant, 'job', job)
  redis.call('HSET', row, 'finished_at', now, 'error', error)
  local kind, context, hyperparameters = fields(row, 'kind', 'context_id', 'hyperparameters')
  redis.call('ZADD', ended_of(kind), now, member(tenant, job))
  if kind == 'batch' then redis.call('HINCRBY', owned(tenant, 'context', context), 'batches', -1) end
  if kind == 'tuning' and redis.call('EXISTS', owned(tenant, 'context', context)) == 1 then
    redis.call('HSET', owned(tenant, 'context', context), 'finished_at', now, 'error', error,
      'hyperparameters', hyperparameters)
  end
  set_status(tenant, job, status, error)
  tell_webhooks(tenant, 'job.' .. status, job)
  redis.call('HINCRBY', shared('totals'), 'jobs_' .. status, 1)
end

local function holds(tenant, job, fence)
  local status, held = fields(owned(tenant, 'job', job), 'status', 'fence')
  return status == 'running' and held == fence
end

-- Jobs that were claimed three times in a row without a step beyond the furthest are given up.
local STALLED_CLAIMS = 3

local function stalled(tenant, job)
  return tonumber(redis.call('HGET', owned(tenant, 'job', job), 'stalled') or 0) >= STALLED_CLAIMS
end

local function create_job(tenant, job, sequence, row)
  local key = owned(tenant, 'job', job)
  save(key, row)
  redis.call('HSET', key, 'sequence', sequence, 'created_at', now, 'fence', 0)
  redis.call('ZADD', owned(tenant, 'jobs'), sequence, job)
  redis.call('ZADD', owned(tenant, 'jobs', 'kind', row.kind), sequence, job)
  redis.call('ZADD', owned(tenant, 'jobs', 'model', row.model), sequence, job)
  redis.call('ZADD', owned(tenant, 'jobs', 'context', row.context_id), sequence, job)
  set_status(tenant, job, 'queued', '')
  enqueue(tenant, job)
end

-- What of jobs that may be queued is used up: 'overloaded' (all), 'jobs' (of the tenant), or nil.
local function queue_full(tenant, most, most_of_tenant)
  if tonumber(redis.call('GET', shared('queued')) or 0) >= most then return 'overloaded' end
  local queued = redis.call('ZCARD', owned(tenant, 'jobs', 'status', 'queued'))
  if queued >= (limits_of(tenant).queued_jobs or most_of_tenant) then return 'jobs' end
end

-- When a job that is queued now will have ended: after those that wait, those that run, and its own work; as many run at
-- a time as run now.
local function estimated_finish(model, estimate)
  local running = redis.call('ZRANGE', shared('running', model), 0, -1, 'WITHSCORES')
  local ahead = tonumber(redis.call('HGET', shared('backlog'), model) or 0)
  for i = 2, #running, 2 do ahead = ahead + math.max(0, running[i] - now) end
  return string.format('%.0f', now + math.floor(ahead / math.max(1, #running / 2)) + estimate)
end

-- Let files that a batch began to write, and does not refer to, be removed with it.
local function leave_unreferred(tenant, job)
  local row, referrer = owned(tenant, 'job', job), table.concat({tenant, 'job', job}, ':')
  for address in string.gmatch(redis.call('HGET', row, 'writing') or '', '%S+') do
    if redis.call('SISMEMBER', shared('refs', address), referrer) == 0 then
      redis.call('RPUSH', owned(tenant, 'files', job), address)
    end
  end
  redis.call('HDEL', row, 'writing')
end

-- Let files that a tuning run began to write be removed with its context.
local function leave_to_context(tenant, job)
  local id, writing = fields(owned(tenant, 'job', job), 'context_id', 'writing')
  local context = owned(tenant, 'context', id)
  if writing and redis.call('EXISTS', context) == 1 then redis.call('HSET', context, 'writing', writing) end
end

-- Forget a job that has ended. The files of a batch are still to be removed: `removals` finds them at once.
local function remove_job(tenant, job)
  local key = owned(tenant, 'job', job)
  local status, kind, model, context, bytes = fields(key, 'status', 'kind', 'model', 'context_id', 'bytes')
  redis.call('ZREM', owned(tenant, 'jobs'), job)
  redis.call('ZREM', owned(tenant, 'jobs', 'status', shown(status)), job)
  redis.call('ZREM', owned(tenant, 'jobs', 'kind', kind), job)
  redis.call('ZREM', owned(tenant, 'jobs', 'model', model), job)
  redis.call('ZREM', owned(tenant, 'jobs', 'context', context), job)
  redis.call('ZREM', ended_of(kind), member(tenant, job))
  if kind == 'batch' then leave_unreferred(tenant, job) else leave_to_context(tenant, job) end
  redis.call('DEL', key, owned(tenant, 'events', job), owned(tenant, 'chunks', job))
  if kind == 'batch' then
    free_bytes(tenant, bytes)
    redis.call('ZADD', shared('removing'), 0, member(tenant, job))
  end
end

-- Files -------------------------------------------------------------------------------------------------------------

-- A file is wanted while a row refers to it or somebody writes it. One that is not is collected: by one remover, under a
-- lease, so that a writer of the same content waits until the file is gone, and another remover takes over from one that
-- died. What a remover asks renews its lease; it removes nothing once that may be over.
local COLLECTING_MS = 60000

local function forget_remover(address)
  redis.call('ZREM', shared('collecting'), address)
  redis.call('HDEL', shared('collectors'), address)
end

-- End a lease, unless another remover has it now.
local function end_collecting(address, remover)
  if redis.call('HGET', shared('collectors'), address) == remover then forget_remover(address) end
end

local function refer(address, referrer) redis.call('SADD', shared('refs', address), referrer) end

-- Let a job have a file that is removed with it.
local function refer_for_job(tenant, job, address)
  refer(address, table.concat({tenant, 'job', job}, ':'))
  redis.call('RPUSH', owned(tenant, 'files', job), address)
end

-- Note a writer; false while the file is being removed.
local function begin_writing(address, writer)
  if tonumber(redis.call('ZSCORE', shared('collecting'), address) or 0) > now then return false end
  forget_remover(address)
  redis.call('HSET', shared('writers', address), writer, now)
  redis.call('ZADD', shared('pending'), now, address)
  return true
end

local function end_writing(address, writer)
  redis.call('HDEL', shared('writers', address), writer)
  if redis.call('EXISTS', shared('writers', address)) == 0 then redis.call('ZREM', shared('pending'), address) end
end

-- The same for all attempts at a job: one that died ended nothing.
local function end_all_writing(address, tenant, job)
  local attempt = member(tenant, job) .. ':'
  for _, one in ipairs(redis.call('HKEYS', shared('writers', address))) do
    if string.sub(one, 1, #attempt) == attempt then end_writing(address, one) end
  end
end

-- Let a file be removed by the remover that asks. Returns 0 if it is to remove the file, the milliseconds that another has
-- for that at most, or nil where the file is wanted.
local function collect(address, remover)
  if redis.call('EXISTS', shared('refs', address), shared('writers', address)) > 0 then return nil end
  local lease = tonumber(redis.call('ZSCORE', shared('collecting'), address) or 0)
  if lease > now and redis.call('HGET', shared('collectors'), address) ~= remover then return lease - now end
  redis.call('ZADD', shared('collecting'), now + COLLECTING_MS, address)
  redis.call('HSET', shared('collectors'), address, remover)
  return 0
end

-- Contexts ----------------------------------------------------------------------------------------------------------

-- What of contexts and their bytes the tenant has as much of as it may have: 'contexts', 'artifact_bytes', or nil. The
-- bytes are counted where there is room.
local function context_refused(tenant, bytes)
  local most = limits_of(tenant).contexts
  if most and redis.call('ZCARD', owned(tenant, 'contexts')) >= most then return 'contexts' end
  if not add_bytes(tenant, bytes) then return 'artifact_bytes' end
end

-- Keep a new context's row, list it, and let it have a file that was written for it. Returns its place in the order of
-- creation, and its version.
local function create_context(tenant, context, row, file)
  local key, sequence, version = owned(tenant, 'context', context), redis.call('INCR', owned(tenant, 'sequence')), 1
  if row.name ~= '' then
    local versions = owned(tenant, 'name', row.name)
    version = redis.call('HINCRBY', versions, 'last', 1)
    redis.call('HSET', versions, version, context)
    redis.call('PERSIST', versions)
    redis.call('ZADD', owned(tenant, 'contexts', 'name', row.name), sequence, context)
  end
  save(key, row)
  redis.call('HSET', key, 'version', version, 'sequence', sequence, 'created_at', now)
  refer(file, table.concat({tenant, 'context', context}, ':'))
  end_writing(file, table.concat({tenant, context, 0}, ':'))
  redis.call('ZADD', owned(tenant, 'contexts'), sequence, context)
  redis.call('ZADD', owned(tenant, 'contexts', 'model', row.model), sequence, context)
  for name, value in pairs(cjson.decode(row.metadata)) do
    redis.call('ZADD', metadata_index(tenant, name, value), sequence, context)
  end
  return sequence, version
end

-- Let a version that can answer be found by its name.
local function note_succeeded(tenant, context, name, version, sequence)
  if name == '' then return end
  redis.call('ZADD', owned(tenant, 'succeeded', name), version, context)
  redis.call('ZADD', owned(tenant, 'names'), 'GT', sequence, name)
end

-- Aliases -----------------------------------------------------------------------------------------------------------

local function aliases_of(tenant, context)
  return cjson.decode(redis.call('HGET', owned(tenant, 'context', context), 'aliases') or '[]')
end

local function set_aliases(tenant, context, aliases)
  table.sort(aliases)
  redis.call('HSET', owned(tenant, 'context', context), 'aliases', #aliases == 0 and '[]' or cjson.encode(aliases))
end

local function point_away(tenant, context, alias)
  local kept = {}
  for _, one in ipairs(aliases_of(tenant, context)) do
    if one ~= alias then table.insert(kept, one) end
  end
  set_aliases(tenant, context, kept)
end

local function point_at(tenant, context, alias)
  point_away(tenant, context, alias)
  local aliases = aliases_of(tenant, context)
  table.insert(aliases, alias)
  set_aliases(tenant, context, aliases)
end

-- Idempotency -------------------------------------------------------------------------------------------------------

-- Whether the request that holds the claim on a key may still write what it made.
local function may_answer(tenant, claim)
  return claim == nil or redis.call('HGET', owned(tenant, 'idempotency', claim.key), 'holder') == claim.holder
end

-- Keep what a request made, for those that repeat it.
local function keep_answer(tenant, claim)
  if claim == nil then return end
  local key = owned(tenant, 'idempotency', claim.key)
  redis.call('HDEL', key, 'holder')
  redis.call('HSET', key, 'content', claim.content, 'answer', claim.answer)
  redis.call('PEXPIRE', key, claim.keep)
end
