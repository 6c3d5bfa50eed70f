"""The scripts that read and change the store, one ``.lua`` file each; each is atomic, on the store's own clock.

Every script is called with one key, the hash tag of the store, and computes the others: all keys are of one slot, so a
store in cluster mode serves them too. What a tenant owns is ``{ct}:t:<tenant>:<kind>…``:

=================================  ======  =========================================================================
``context:<id>``                   hash    a context; ``spec``, ``artifact``, ``report`` are addresses,
                                           ``batches`` counts those that need it; ``job_id`` is '' and there is no
                                           ``spec`` where it was imported
``contexts``                       zset    all ids by order of creation; ``contexts:status:<s>``, ``:model:<m>``,
                                           ``:name:<n>`` and ``:metadata:<sha1>`` are the lists' indexes
``name:<name>``                    hash    the contexts of a name by version, ``@<alias>`` → version, ``last`` version
``succeeded:<name>``               zset    those of them that can answer, by version
``names``                          zset    names that can answer, by the order of their newest such context
``job:<id>``                       hash    a job: ``status fence attempt step …``
``jobs``                           zset    all ids by order of creation; ``jobs:status:<s>``, ``:model:<m>``,
                                           ``:kind:<k>`` and ``:context:<id>`` are the lists' indexes
``chunks:<job>``                   list    what a batch has done of its input, ``Chunk`` as JSON
``files:<job>``                    list    addresses of the files that are removed with a batch
``events:<job>``                   list    ``[id, type, level, created_at, message, data]``, JSON
``sequence``                       string  order of creation
``artifact_bytes``                 string  bytes of what its contexts refer to, shared or not
``idempotency:<sha256>``           hash    what the request with a key made, or who is at it
``deleting:<context>``             hash    a deleted context whose files may still be there
``webhook:<id>``                   hash    an address that is told of events; ``webhooks`` (zset) holds their ids
``delivery:<id>``                  hash    an event on its way to a webhook
``deliveries:<webhook>``           zset    those on their way to a webhook, by when each is to be sent
``keys``                           zset    hashes of the secrets of its keys, by order of creation
``audit``                          stream  changes that were asked for
``usage:<day>``                    hash    what was used on a day since the epoch; ``usages`` holds the days
=================================  ======  =========================================================================

All else is ``{ct}:<kind>…``; members are ``<tenant>:<job>`` unless said otherwise:

=================================  ======  =========================================================================
``queue:<model>:<tenant>``         zset    queued jobs (ids) by order of creation
``parked:<model>:<tenant>``        zset    long jobs (ids) that let others by
``waiting:<model>``                zset    tenants with either, by turn; ``turn`` counts the turns
``estimates:<model>``              zset    queued jobs by what they need (ms)
``backlog``                        hash    what the queued jobs of a model need together (ms)
``queued``                         string  number of queued jobs
``leases``                         zset    running jobs by the end of their lease
``running:<model>``                zset    running jobs by their estimated end
``workers``                        hash    the job that each worker runs
``ended``                          zset    tuning jobs that ended, by when; ``ended:batch`` holds batches
``line_needs``                     hash    what a line of a model's last batch needed (ms)
``refs:<address>``                 set     what refers to a file: ``<tenant>:<kind>:<id>``
``writers:<address>``              hash    who writes it, ``<tenant>:<job>:<fence>``, and since when
``pending``                        zset    files that somebody writes, by when that began
``collecting``                     zset    files that are being removed, by the end of the remover's lease;
                                           ``collectors`` (hash) says who removes each
``deleting``                       zset    deleted contexts, by when somebody last began to remove their files
``removing``                       zset    deleted batches, by when somebody last began to remove their files
``totals``                         hash    what was counted since the store began: jobs that ended, leases lost
``outbox``                         zset    ``<tenant>:<webhook>`` by when its first delivery is to be sent
``backup``                         string  who keeps files from being removed while a backup is made
``restoring``                      string  there while a restore is under way: no other script runs
``swept``                          string  when overdue leases were last looked for
``key:<sha256>``                   hash    a key, by the hash of its secret; ``hashes`` leads there from its id
``keys``                           zset    hashes of the secrets of all keys, by order of creation
``tenant:<id>``                    hash    a tenant; ``tenants`` holds the ids by order of creation
``tenants:deleting``               set     ids of tenants that are being deleted
``tenants:removed``                zset    ids of tenants that were deleted in the last day, by when
``access``                         hash    ``made``, ``administered`` once there was a key, one with the scope admin;
                                           ``configured``: that one's hash, ``sequence``
``metered:<meter>``                string  number of the last write of one that counts usage, for a day
``audited:<write>``                string  there for a minute after an entry of an audit log was written
``format``                         hash    ``format`` of the store, ``min_reader``: the oldest that may read it
``events``                         -       channel on which the member of a changed job is published
=================================  ======  =========================================================================

A *fence* grows with each claim: a worker that lost its lease holds an old one, and all it says is refused.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Final

#: What checks a store before its use, and what restores one, run while a restore is under way; nothing else does.
_RESTORING: Final = ("start", "begin_restore", "restore_rows", "restore_jobs", "reconcile", "end_restore")
_UNLESS_RESTORING: Final = (
    "if redis.call('EXISTS', KEYS[1] .. ':restoring') == 1 then return redis.error_reply('RESTORING') end\n"
)


@cache
def source(name: str) -> str:
    """The script ``name`` as the server takes it: its first line, which says how it may be run, then the prelude."""
    folder = files(__name__)
    first, _, rest = (folder / f"{name}.lua").read_text("utf-8").partition("\n")
    guard = "" if name in _RESTORING else _UNLESS_RESTORING
    return f"{first}\n{guard}{(folder / 'prelude.lua').read_text('utf-8')}{rest}"
