"""Idempotency keys (draft-ietf-httpapi-idempotency-key-header): what a repeated request made the first time.

It knows nothing of HTTP: an answer is a text that the caller wrote, such as a status and the ids of what was created.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Final

from app.records.connection import Store, new_id

#: A request holds a key for so long unless it renews its claim.
CLAIM_SECONDS: Final = 60


class ClaimLost(Exception):
    """The claim on an idempotency key ran out, and another request has the key; nothing was written."""


@dataclass(frozen=True)
class KeyClaim:
    """This request is the first with its key, or the first since another gave up."""

    key: str
    holder: str
    keep_seconds: float

    def answered(self, content: str, answer: str) -> Answered:
        """What to keep once the script that creates has created: the hash of the content, and the answer."""
        return Answered(self.key, self.holder, content, answer, int(self.keep_seconds * 1000))


@dataclass(frozen=True)
class Answered:
    """An answer that is kept (for ``keep`` ms) for those that repeat the request, and the claim it was made under."""

    key: str
    holder: str
    content: str
    answer: str
    keep: int

    def as_json(self) -> str:
        """As the scripts take it."""
        return json.dumps(self.__dict__)


@dataclass(frozen=True)
class Earlier:
    """What an earlier request with the same key was, and what it answered."""

    route: str
    content: str
    answer: str


@dataclass(frozen=True)
class InProgress:
    """Another request with the same key is at it."""

    route: str


class IdempotencyKeys:
    """The idempotency keys of a tenant. Every method raises `StoreUnavailable`."""

    def __init__(self, store: Store, tenant: str, keep_seconds: float) -> None:
        self._store = store
        self._tenant = tenant
        self._keep_seconds = keep_seconds

    def begin(self, key: str, route: str) -> KeyClaim | InProgress | Earlier:
        """Claim a key for `CLAIM_SECONDS`, or say who has it or what it led to."""
        claim = KeyClaim(hashlib.sha256(key.encode()).hexdigest(), new_id("claim"), self._keep_seconds)
        answer = self._store.run("begin_idempotent", self._tenant, claim.key, claim.holder, route, CLAIM_SECONDS * 1000)
        if answer[0] == "begun":
            return claim
        return InProgress(answer[1]) if answer[0] == "in_progress" else Earlier(*answer[1:4])

    def renew(self, claim: KeyClaim) -> bool:
        """Hold a key for another `CLAIM_SECONDS`; False if the claim has run out."""
        return bool(self._store.run("renew_idempotent", self._tenant, claim.key, claim.holder, CLAIM_SECONDS * 1000))

    def give_up(self, claim: KeyClaim) -> None:
        """Leave a key to the next request: this one has made nothing."""
        self._store.run("renew_idempotent", self._tenant, claim.key, claim.holder, 0)

    def answer(self, answered: Answered) -> None:
        """Keep what a request made, where the script that made it did not. Raises `ClaimLost`."""
        if not self._store.run("answer_idempotent", self._tenant, answered.as_json()):
            raise ClaimLost
