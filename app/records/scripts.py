"""The job state machine: every change of a record is one Lua script, atomic, on the store's own clock.

Keys (all that the store holds):

=============================  ======  ==========================================================================
``ct:context:{id}``            hash    a context: ``name version model labels job_id tokens metrics artifact …``
``ct:spec:{context}``          string  the examples and hyperparameters as posted, JSON
``ct:job:{id}``                hash    a job: ``status fence attempt lease_until step …``
``ct:contexts``, ``ct:jobs``   zset    all ids by order of creation
``ct:queue:{model}``           zset    queued jobs by order of creation
``ct:leases``                  zset    running jobs by the end of their lease (ms)
``ct:versions:{name}``         zset    contexts of a name by version
``ct:succeeded:{name}``        zset    those of them that can answer
``ct:last-version:{name}``     string  the highest version ever given, so that none is given twice
``ct:sequence``                string  order of creation
``ct:swept``                   string  when overdue leases were last looked for (ms)
=============================  ======  ==========================================================================

A *fence* grows with each claim: a worker that lost its lease holds an old one, and all it says is refused.
Times are milliseconds since the epoch.
"""

from __future__ import annotations

from typing import Final

_PRELUDE: Final = """
local function key(kind, id) return 'ct:' .. kind .. ':' .. id end
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local function field(id, name) return redis.call('HGET', key('job', id), name) end

local function requeue(id)
  redis.call('HSET', key('job', id), 'status', 'queued', 'lease_until', 0)
  redis.call('ZREM', 'ct:leases', id)
  redis.call('ZADD', key('queue', field(id, 'model')), redis.call('ZSCORE', 'ct:jobs', id), id)
end

local function terminate(id, status, error)
  redis.call('HSET', key('job', id), 'status', status, 'finished_at', now, 'lease_until', 0, 'error', error)
  redis.call('ZREM', 'ct:leases', id)
  redis.call('ZREM', key('queue', field(id, 'model')), id)
end

local function holds(id, fence)
  return field(id, 'status') == 'running' and field(id, 'fence') == fence
end
"""

#: ARGV: context id, job id, name or '', spec, milliseconds to the estimated end, then the number of context fields, the
#: context's and the job's fields.
#: Returns the version. Posting the same ids again changes nothing, so a retry after a lost answer is safe.
SUBMIT: Final = (
    _PRELUDE
    + """
local context, job, name, spec = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local existing = redis.call('HGET', key('context', context), 'version')
if existing then return tonumber(existing) end
local sequence = redis.call('INCR', 'ct:sequence')
local version = 1
if name ~= '' then
  version = redis.call('INCR', key('last-version', name))
  redis.call('ZADD', key('versions', name), version, context)
end
local split = 6 + tonumber(ARGV[6])
redis.call('HSET', key('context', context), 'version', version, 'created_at', now, unpack(ARGV, 7, split))
redis.call('HSET', key('job', job), 'status', 'queued', 'created_at', now, 'estimated_finish_at', now + ARGV[5],
  unpack(ARGV, split + 1))
redis.call('SET', key('spec', context), spec)
redis.call('ZADD', 'ct:contexts', sequence, context)
redis.call('ZADD', 'ct:jobs', sequence, job)
redis.call('ZADD', key('queue', field(job, 'model')), sequence, job)
return version
"""
)

#: ARGV: worker id, lease in ms, models. Returns id, fields and spec of the claimed job, or false if nothing is queued.
#: A worker runs one job at a time: if it holds one already, it lost the answer to an earlier claim and gets it again.
CLAIM: Final = (
    _PRELUDE
    + """
local function answer(job)
  return {job, redis.call('HGETALL', key('job', job)), redis.call('GET', key('spec', field(job, 'context_id')))}
end
for _, job in ipairs(redis.call('ZRANGEBYSCORE', 'ct:leases', '(' .. now, '+inf')) do
  if field(job, 'worker') == ARGV[1] then return answer(job) end
end
local best, order
for i = 3, #ARGV do
  local first = redis.call('ZRANGE', key('queue', ARGV[i]), 0, 0, 'WITHSCORES')
  if first[1] and (not order or tonumber(first[2]) < order) then best, order = first[1], tonumber(first[2]) end
end
if not best then return false end
redis.call('ZREM', key('queue', field(best, 'model')), best)
redis.call('HINCRBY', key('job', best), 'fence', 1)
redis.call('HINCRBY', key('job', best), 'attempt', 1)
redis.call('HSETNX', key('job', best), 'started_at', now)
redis.call('HSET', key('job', best), 'status', 'running', 'worker', ARGV[1], 'lease_until', now + ARGV[2])
redis.call('ZADD', 'ct:leases', now + ARGV[2], best)
return answer(best)
"""
)

#: ARGV: context id or '', name, version or '', then the context's fields to read.
#: Returns the context's id, its job's status and its fields; nothing if there is no such context. A bare name means its
#: newest version that can answer, or its newest while none can.
RESOLVE: Final = (
    _PRELUDE
    + """
local context, name, version = ARGV[1], ARGV[2], ARGV[3]
if version ~= '' then context = redis.call('ZRANGEBYSCORE', key('versions', name), version, version)[1]
elseif context == '' then
  context = redis.call('ZREVRANGE', key('succeeded', name), 0, 0)[1]
    or redis.call('ZREVRANGE', key('versions', name), 0, 0)[1]
end
local job = context and redis.call('HGET', key('context', context), 'job_id')
local status = job and field(job, 'status')
return status and {context, status, redis.call('HMGET', key('context', context), unpack(ARGV, 4))}
"""
)

#: ARGV: job id, fence, lease in ms, milliseconds to the estimated end or '', then fields to set.
#: Returns 'held', 'cancel' (held, but the user wants it to end) or 'lost'.
BEAT: Final = (
    _PRELUDE
    + """
local job = ARGV[1]
if not holds(job, ARGV[2]) then return 'lost' end
redis.call('HSET', key('job', job), 'lease_until', now + ARGV[3])
redis.call('ZADD', 'ct:leases', now + ARGV[3], job)
if ARGV[4] ~= '' then redis.call('HSET', key('job', job), 'estimated_finish_at', now + ARGV[4]) end
if #ARGV > 4 then redis.call('HSET', key('job', job), unpack(ARGV, 5)) end
return field(job, 'cancel_requested') == '1' and 'cancel' or 'held'
"""
)

#: ARGV: job id, fence, status, error or '', artifact or '', metrics or '', then job fields to set.
#: Returns the status that the job ended with, also when asked again, or 'lost'. A requested cancel wins over success.
FINISH: Final = (
    _PRELUDE
    + """
local job, status = ARGV[1], ARGV[3]
if field(job, 'fence') == ARGV[2] and field(job, 'finished_at') then return field(job, 'status') end
if not holds(job, ARGV[2]) then return 'lost' end
local context = field(job, 'context_id')
local name = redis.call('HGET', key('context', context), 'name')
if field(job, 'cancel_requested') == '1' or not name then status = 'cancelled' end
if #ARGV > 6 then redis.call('HSET', key('job', job), unpack(ARGV, 7)) end
if status == 'succeeded' then
  redis.call('HSET', key('context', context), 'artifact', ARGV[5], 'metrics', ARGV[6])
  if name ~= '' then
    redis.call('ZADD', key('succeeded', name), redis.call('HGET', key('context', context), 'version'), context)
  end
end
terminate(job, status, status == 'failed' and ARGV[4] or '')
return status
"""
)

#: ARGV: job id, fence, 1 if the attempt counts or 0. Puts a claimed job back into the queue.
#: Returns 'released', 'cancelled' if that was asked for, or 'lost'.
RELEASE: Final = (
    _PRELUDE
    + """
if not holds(ARGV[1], ARGV[2]) then return 'lost' end
if field(ARGV[1], 'cancel_requested') == '1' then
  terminate(ARGV[1], 'cancelled', '')
  return 'cancelled'
end
if ARGV[3] == '0' then redis.call('HINCRBY', key('job', ARGV[1]), 'attempt', -1) end
requeue(ARGV[1])
return 'released'
"""
)

#: ARGV: job id. Returns the status before, or false when there is no such job.
CANCEL: Final = (
    _PRELUDE
    + """
local status = field(ARGV[1], 'status')
if status == 'queued' or status == 'running' then
  redis.call('HSET', key('job', ARGV[1]), 'cancel_requested', 1)
end
if status == 'queued' then terminate(ARGV[1], 'cancelled', '') end
return status
"""
)

#: ARGV: attempts allowed, error for a job that used them up, most jobs to handle, lease in ms.
#: Returns the jobs whose worker is gone, as alternating id and new status. When nobody has looked for longer than a
#: lease, it may be that nobody could beat either: every job then gets a new lease to prove that its worker lives.
SWEEP: Final = (
    _PRELUDE
    + """
local changed = {}
local swept = redis.call('GETSET', 'ct:swept', now)
if swept and now - swept > tonumber(ARGV[4]) then
  for _, job in ipairs(redis.call('ZRANGE', 'ct:leases', 0, -1)) do
    redis.call('ZADD', 'ct:leases', now + ARGV[4], job)
  end
end
for _, job in ipairs(redis.call('ZRANGEBYSCORE', 'ct:leases', '-inf', now, 'LIMIT', 0, ARGV[3])) do
  if field(job, 'cancel_requested') == '1' then terminate(job, 'cancelled', '')
  elseif tonumber(field(job, 'attempt')) >= tonumber(ARGV[1]) then terminate(job, 'failed', ARGV[2])
  else requeue(job) end
  table.insert(changed, job)
  table.insert(changed, field(job, 'status'))
end
return changed
"""
)

#: ARGV: context id. Cancels its job where that still runs. Returns the artifact ('' if none), or false for no context.
DELETE: Final = (
    _PRELUDE
    + """
local context = ARGV[1]
local row = redis.call('HMGET', key('context', context), 'name', 'job_id', 'artifact')
if not row[2] then return false end
local status = field(row[2], 'status')
if status == 'queued' then terminate(row[2], 'cancelled', '') end
if status == 'running' then redis.call('HSET', key('job', row[2]), 'cancel_requested', 1) end
redis.call('ZREM', 'ct:contexts', context)
if row[1] ~= '' then
  redis.call('ZREM', key('versions', row[1]), context)
  redis.call('ZREM', key('succeeded', row[1]), context)
end
redis.call('DEL', key('context', context), key('spec', context))
return row[3] or ''
"""
)
