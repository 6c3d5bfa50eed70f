"""Seeded work of users, and the proof afterwards that nothing acknowledged was lost or made twice.

A request that is refused or cut off is sent again, with the same idempotency key, until it is acknowledged.
"""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from threading import Event, Lock, Thread
from typing import Any, Final

import httpx

EXAMPLES: Final = [
    {"text": "I still haven't received my card in the mail", "label": "card arrival"},
    {"text": "How do I link my card in the app?", "label": "card linking"},
    {"text": "Where is the tracking number for the card?", "label": "card arrival"},
    {"text": "Can I link a card I already have?", "label": "card linking"},
]
TEXTS: Final = ["my card never came", "add the card to my phone", "when will it be delivered?"]
_METHODS: Final[dict[str, dict[str, Any]]] = {
    "icl": {"method": "icl"},
    "cpt": {"method": "cpt", "steps": 3, "seed": 3},
}
_LINES: Final = 20
_CLIENTS: Final = 3
#: So that one worker keeps up with the jobs: a new context does not wait behind many.
_PAUSE_SECONDS: Final = 1.5
_AGAIN_SECONDS: Final = 0.5
_SETTLED_SECONDS: Final = 120.0
#: How much confidences may differ: none of the work is uncertain but for rounding.
_ROUNDING: Final = 1e-4


@dataclass
class Made:
    """A context that was acknowledged, as it must be found at the end."""

    id: str
    job: str
    method: str
    metadata: dict[str, str]
    deleted: bool = False


@dataclass
class Ledger:
    """What was acknowledged, and how often which refusal was answered."""

    contexts: list[Made] = field(default_factory=list)
    batches: list[str] = field(default_factory=list)
    changes: int = 0
    refusals: Counter[str] = field(default_factory=Counter)

    @property
    def acknowledged(self) -> int:
        """Everything."""
        return len(self.contexts) + len(self.batches) + self.changes


class Work:
    """Clients that create, change and delete contexts and post batches, from `start` until `stop`."""

    def __init__(self, url: str, name: str, seed: int) -> None:
        self.ledger = Ledger()
        self._url, self._name = url, name
        self._over, self._lock = Event(), Lock()
        self._expected = self._reference()
        self._threads = [
            Thread(target=self._client, args=(random.Random(f"{seed} {n}"), n), daemon=True) for n in range(_CLIENTS)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End once all that was begun is acknowledged."""
        self._over.set()
        for thread in self._threads:
            thread.join()

    def expected(self, method: str) -> list[float]:
        """The confidences that every context of this method must give."""
        return self._expected[method][1]

    def context(self, method: str) -> str:
        """A context of this method that stays."""
        return self._expected[method][0]

    def _reference(self) -> dict[str, tuple[str, list[float]]]:
        found = {}
        with self._http() as http:
            for method, hyperparameters in _METHODS.items():
                body = {"examples": EXAMPLES, "hyperparameters": hyperparameters}
                posted = http.post("/contexts", json=body).raise_for_status().json()
                succeeded(http, posted["job"]["id"], _SETTLED_SECONDS)
                context = posted["context"]["id"]
                found[method] = context, confidences(http.post("/classify", json=classification(context)))
        return found

    def _http(self) -> httpx.Client:
        return httpx.Client(base_url=self._url, timeout=30, trust_env=False)

    def _client(self, chance: random.Random, number: int) -> None:
        with self._http() as http:
            mine: list[Made] = []
            for turn in range(1_000_000):
                if self._over.is_set():
                    return
                key = f"{self._name}-{number}-{turn}"
                kind = chance.choices(("create", "batch", "delete", "patch"), (8, 2, 2, 3))[0]
                live = [made for made in mine if not made.deleted]
                if kind == "batch":
                    self._batch(http, key)
                elif kind == "create" or not live:
                    mine.append(self._create(http, key, chance.choice(tuple(_METHODS))))
                elif kind == "delete":
                    self._delete(http, chance.choice(live))
                else:
                    self._patch(http, chance.choice(live), key)
                time.sleep(_PAUSE_SECONDS)

    def _until_acknowledged(self, http: httpx.Client, method: str, path: str, **request: Any) -> httpx.Response:
        while True:
            try:
                response = http.request(method, path, **request)
                if response.is_success:
                    return response
                code = str(response.json()["code"])
            except httpx.TransportError as error:
                code = type(error).__name__
            with self._lock:
                self.ledger.refusals[code] += 1
            time.sleep(_AGAIN_SECONDS)

    def _create(self, http: httpx.Client, key: str, method: str) -> Made:
        metadata = {"run": self._name, "key": key}
        body = {"examples": EXAMPLES, "hyperparameters": _METHODS[method], "metadata": metadata}
        headers = {"Idempotency-Key": key}
        created = self._until_acknowledged(http, "POST", "/contexts", json=body, headers=headers).json()
        made = Made(created["context"]["id"], created["job"]["id"], method, metadata)
        with self._lock:
            self.ledger.contexts.append(made)
        return made

    def _batch(self, http: httpx.Client, key: str) -> None:
        content = "".join(json.dumps({"text": TEXTS[n % len(TEXTS)]}) + "\n" for n in range(_LINES))
        headers = {"Content-Type": "application/jsonl", "Idempotency-Key": key}
        query = {"context": self.context("icl"), "top_k": 2}
        request = {"params": query, "content": content, "headers": headers}
        batch = self._until_acknowledged(http, "POST", "/batches", **request).json()["id"]
        with self._lock:
            self.ledger.batches.append(batch)

    def _delete(self, http: httpx.Client, made: Made) -> None:
        self._until_acknowledged(http, "DELETE", f"/contexts/{made.id}")
        made.deleted = True
        with self._lock:
            self.ledger.changes += 1

    def _patch(self, http: httpx.Client, made: Made, key: str) -> None:
        self._until_acknowledged(http, "PATCH", f"/contexts/{made.id}", json={"metadata": {"changed": key}})
        made.metadata["changed"] = key
        with self._lock:
            self.ledger.changes += 1

    def lost(self) -> list[str]:
        """What was acknowledged and is not as it was said to be, once all jobs have ended; nothing is right."""
        found: list[str] = []
        with self._http() as http:
            for made in self.ledger.contexts:
                found += _faults_of(http, made, self.expected(made.method))
            for batch in self.ledger.batches:
                found += _faults_of_batch(http, batch, self.expected("icl"))
            listed, after = [], None
            while True:
                query: dict[str, Any] = {"metadata[run]": self._name, "limit": 100} | (
                    {"after": after} if after else {}
                )
                page = http.get("/contexts", params=query).raise_for_status().json()
                listed += [one["id"] for one in page["data"]]
                if not (after := page["next"]):
                    break
            kept = [made.id for made in self.ledger.contexts if not made.deleted]
            found += [f"{one} was made without being told of" for one in set(listed) - set(kept)]
        return found


def _faults_of(http: httpx.Client, made: Made, expected: Sequence[float]) -> list[str]:
    if made.deleted:
        status = http.get(f"/contexts/{made.id}").status_code
        return [] if status == 404 else [f"{made.id} was deleted and is there ({status})"]
    try:
        succeeded(http, made.job, _SETTLED_SECONDS)
        context = http.get(f"/contexts/{made.id}").raise_for_status().json()
        answered = confidences(http.post("/classify", json=classification(made.id)))
    except (RuntimeError, httpx.HTTPError) as error:
        return [f"{made.id}: {error}"]
    faults = [] if context["metadata"] == made.metadata else [f"{made.id} has other metadata"]
    return faults if same(answered, expected) else [*faults, f"{made.id} answers otherwise"]


def _faults_of_batch(http: httpx.Client, batch: str, expected: Sequence[float]) -> list[str]:
    try:
        succeeded(http, batch, _SETTLED_SECONDS)
        lines = http.get(f"/batches/{batch}/results").raise_for_status().text.splitlines()
    except (RuntimeError, httpx.HTTPError) as error:
        return [f"{batch}: {error}"]
    results = [json.loads(line) for line in lines]
    answered = [label["confidence"] for one in results[: len(TEXTS)] for label in one["labels"].values()]
    if [one["index"] for one in results] != list(range(_LINES)):
        return [f"{batch} has {len(results)} results"]
    return [] if same(sorted(answered), sorted(expected)) else [f"{batch} answers otherwise"]


def classification(context: str) -> dict[str, Any]:
    return {"context": context, "inputs": TEXTS}


def confidences(response: httpx.Response) -> list[float]:
    """Confidence of each label in each answer, one after the other."""
    answers = response.raise_for_status().json()["classifications"]
    return [label["confidence"] for answer in answers for label in answer["labels"].values()]


def same(values: Sequence[float], others: Sequence[float]) -> bool:
    return len(values) == len(others) and all(
        abs(one - other) <= _ROUNDING for one, other in zip(values, others, strict=True)
    )


def succeeded(http: httpx.Client, job: str, seconds: float) -> None:
    """Wait for a job's success. Raises RuntimeError, and what the client raises."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        found = http.get(f"/jobs/{job}", params={"wait": 10}).raise_for_status().json()
        if found["terminal"]:
            if found["status"] != "succeeded":
                raise RuntimeError(f"{job} has {found['status']}: {found['error']}")
            return
    raise RuntimeError(f"{job} has not ended")
