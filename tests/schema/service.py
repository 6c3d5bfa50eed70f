"""A gateway in a process of its own, a tenant with a context, and a worker's place taken by threads."""

from __future__ import annotations

import json
import queue
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import Any

from app.access.secrets import hash_of, new_secret
from app.config import Settings
from app.contract.access import KeyLimits, Scope
from app.contract.announcements import ANNOUNCE_EVERY_SECONDS
from app.contract.messages import ClassifyReply, Message, PartReply, PlanReply, Scored
from app.contract.names import classify_queue, plan_queue
from app.records.connection import connect, new_id
from app.records.store import Records
from tests.app.gateway_process import gateway_process
from tests.app.records.steps import succeed
from tests.app.standin import MODEL, StandIn
from tests.submissions import plan

TENANT = "own"
OTHER_TENANT = "others"


@dataclass(frozen=True)
class Described:
    """Where a service is, and who gives keys for it."""

    url: str
    records: Records

    def key(self, *scopes: Scope, tenant: str = TENANT) -> str:
        secret = new_secret()
        self.records.access.create_key(new_id("key"), hash_of(secret), tenant, "test", scopes, KeyLimits(), None)
        return secret


@contextmanager
def described(folder: Path, store_url: str, bus_url: str) -> Iterator[Described]:
    """A service that answers every question, though not as a model would."""
    settings = Settings(data_dir=folder, store_url=store_url, bus_url=bus_url)
    client = connect(store_url)
    records = Records(client, artifacts_url=settings.artifacts_url)
    for tenant in (TENANT, OTHER_TENANT):
        succeed(records, "support-intents", tenant)
        records.of(tenant).contexts.set_alias("support-intents", "prod", 1)
    models = {"CONTEXTUNE_MODELS": json.dumps({MODEL: {"path": "none"}}), "CONTEXTUNE_WEBHOOKS": "public"}
    with ExitStack() as stack:
        stack.callback(client.close)
        for of, answer in ((plan_queue, _planned), (classify_queue, _classified)):
            stack.enter_context(_answering(bus_url, of, answer))
        _, port = stack.enter_context(gateway_process(settings, **models))
        yield Described(f"http://127.0.0.1:{port}", records)


def _planned(request: dict[str, Any]) -> Message:
    return PlanReply(id=request["id"], plan=plan())


def _classified(request: dict[str, Any]) -> Message:
    """Every label is as likely as the others."""

    def scored(part: dict[str, Any]) -> tuple[Scored, ...]:
        brought = request["plain"].get(part["artifact"])
        labels = len(brought["labels"]) if brought else 2
        one = Scored(confidences=(1 / labels,) * labels, tokens=3, truncated=False)
        return (one,) * len(part["inputs"])

    return ClassifyReply(id=request["id"], parts=tuple(PartReply(scored=scored(part)) for part in request["parts"]))


@contextmanager
def _answering(bus_url: str, of: Callable[[str], str], answer: Callable[[dict[str, Any]], Message]) -> Iterator[None]:
    """A worker that answers the requests of one queue, and says that it lives."""
    stopped = Event()

    def work() -> None:
        with StandIn(bus_url) as worker:
            while not stopped.is_set():
                worker.announce()
                try:
                    request = worker.take(ANNOUNCE_EVERY_SECONDS, of)
                except queue.Empty:
                    continue
                worker.say(request, answer(request))

    thread = Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join(30)
