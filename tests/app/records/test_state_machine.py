"""Whatever happens in whatever order: no job is lost, and the indexes say what the rows say."""

import random
from collections.abc import Callable
from itertools import pairwise
from typing import cast

import pytest
import redis

from app.contract.names import JobStatus
from app.records.claims import Claim
from app.records.connection import new_id
from app.records.store import Records
from tests.app.records.steps import FAILURE, REPORT, delete, submit
from tests.app.records.test_parking import long_ago
from tests.submissions import MODEL

TENANTS = ("a", "b", "c")


class Machine:
    """Random changes of a few jobs by a few workers, some of which act on leases that they have lost."""

    def __init__(self, records: Records, client: redis.Redis, seed: int) -> None:
        self.records = records
        self.client = client
        self.random = random.Random(seed)
        self.jobs: list[tuple[str, str, str]] = []
        self.claims: list[Claim] = []
        self.ended: dict[str, JobStatus] = {}

    def submit(self) -> None:
        tenant = self.random.choice(TENANTS)
        context_id, job_id = submit(self.records, self.random.choice([None, "name"]), tenant)
        self.jobs.append((tenant, context_id, job_id))

    def claim(self) -> None:
        if claimed := self.records.claim([MODEL], new_id("worker")):
            self.claims.append(claimed)

    def act(self) -> None:
        if not self.claims:
            return
        claimed = self.random.choice(self.claims)
        changes: list[Callable[[], object]] = [
            lambda: self.records.beat(claimed, {"step": self.random.randrange(4)}, 5.0, {"step": 1}),
            lambda: self.records.finish_succeeded(claimed, "address", REPORT, {}),
            lambda: self.records.finish_failed(claimed, FAILURE),
            lambda: self.records.finish_cancelled(claimed),
            lambda: self.records.release(claimed),
            lambda: self.records.retry(claimed, FAILURE),
            lambda: self.park(claimed),
            lambda: self.lose(claimed),
        ]
        self.random.choice(changes)()

    def park(self, claimed: Claim) -> None:
        for tenant, _, job_id in self.jobs:
            long_ago(self.client, tenant, job_id)
        self.records.park(claimed, 1000)

    def lose(self, claimed: Claim) -> None:
        member = f"{claimed.tenant}:{claimed.job_id}"
        if self.client.zscore("{ct}:leases", member) is not None:
            self.client.zadd("{ct}:leases", {member: 0})
        self.records.sweep()

    def cancel(self) -> None:
        if self.jobs:
            tenant, _, job_id = self.random.choice(self.jobs)
            self.records.of(tenant).jobs.cancel(job_id)

    def delete(self) -> None:
        if self.jobs:
            tenant, context_id, _ = self.random.choice(self.jobs)
            delete(self.records, context_id, tenant)

    def check(self) -> None:
        """The invariants."""
        rows = {(tenant, job_id): self.row(tenant, job_id) for tenant, _, job_id in self.jobs}
        by_state: dict[str, set[str]] = {}
        for (tenant, job_id), row in rows.items():
            by_state.setdefault(row["status"], set()).add(f"{tenant}:{job_id}")
        queued, parked = by_state.get("queued", set()), by_state.get("parked", set())
        assert self.members(f"{{ct}}:queue:{MODEL}:") == queued
        assert self.members(f"{{ct}}:parked:{MODEL}:") == parked
        assert set(self.client.zrange("{ct}:leases", 0, -1)) == by_state.get("running", set())
        assert set(self.client.zrange(f"{{ct}}:running:{MODEL}", 0, -1)) == by_state.get("running", set())
        assert set(self.client.hvals("{ct}:workers")) == by_state.get("running", set())
        assert set(self.client.zrange(f"{{ct}}:estimates:{MODEL}", 0, -1)) == queued
        assert int(self.client.get("{ct}:queued") or 0) == len(queued)
        waiting = {one.partition(":")[0] for one in queued | parked}
        assert set(self.client.zrange(f"{{ct}}:waiting:{MODEL}", 0, -1)) == waiting
        backlog = sum(int(row["estimate"]) for row in rows.values() if row["status"] == "queued")
        assert int(self.client.hget("{ct}:backlog", MODEL) or 0) == backlog
        ended = {f"{tenant}:{job_id}" for (tenant, job_id), row in rows.items() if row.get("finished_at")}
        assert set(self.client.zrange("{ct}:ended", 0, -1)) == ended
        self.check_what_users_see(rows)

    def check_what_users_see(self, rows: dict[tuple[str, str], dict[str, str]]) -> None:
        for tenant in TENANTS:
            records = self.records.of(tenant)
            jobs = {job.id: job for job in records.jobs.page(100).data}
            assert set(jobs) == {job_id for owner, job_id in rows if owner == tenant}
            for status in JobStatus:
                indexed = set(self.client.zrange(f"{{ct}}:t:{tenant}:jobs:status:{status}", 0, -1))
                assert indexed == {job.id for job in jobs.values() if job.status == status}
                shown = self.client.zrange(f"{{ct}}:t:{tenant}:contexts:status:{status}", 0, -1)
                contexts = [one.context for one in records.contexts.page(100).data]
                assert set(shown) == {context.id for context in contexts if context.status == status}
                assert all(context.status == jobs[str(context.job_id)].status for context in contexts)
            for job in jobs.values():
                if job.terminal:
                    assert self.ended.setdefault(job.id, job.status) == job.status
                events = records.jobs.events(job.id)
                statuses = [event.data["status"] for event in events if event.type == "status"]
                assert statuses[-1] == job.status
                assert all(before != after for before, after in pairwise(statuses))

    def row(self, tenant: str, job_id: str) -> dict[str, str]:
        row: dict[str, str] = self.client.hgetall(f"{{ct}}:t:{tenant}:job:{job_id}")  # type: ignore[assignment]
        return row

    def members(self, prefix: str) -> set[str]:
        found = {tenant: cast("list[str]", self.client.zrange(prefix + tenant, 0, -1)) for tenant in TENANTS}
        return {f"{tenant}:{job}" for tenant, jobs in found.items() for job in jobs}


@pytest.mark.parametrize("seed", range(6))
def test_indexes_say_what_the_rows_say_after_any_changes(records: Records, client: redis.Redis, seed: int) -> None:
    machine = Machine(records, client, seed)
    changes = [machine.submit, machine.claim, machine.claim, machine.act, machine.act, machine.cancel, machine.delete]
    for _ in range(120):
        machine.random.choices(changes, weights=[3, 3, 3, 4, 4, 1, 1])[0]()
    machine.check()
    while machine.records.claim([MODEL], new_id("worker")):
        pass
    for tenant, _, job_id in machine.jobs:
        status = machine.row(tenant, job_id)["status"]
        assert status == "running" or JobStatus(status).terminal  # none is forgotten in a queue
    machine.check()
