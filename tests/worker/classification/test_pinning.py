from functools import partial
from typing import NamedTuple

import pytest
import structlog

from app.contract.objects import Report
from app.records.claims import TuningClaim
from app.records.connection import new_id
from app.records.store import Records
from tests.submissions import MODEL, submission
from tests.waiting import eventually
from tests.worker.tiny import stored_context
from worker.artifacts import Artifacts
from worker.classification.pinning import PinningThread
from worker.classification.preparing import prepare
from worker.classification.resident import Resident, ResidentContexts
from worker.models import LanguageModel


class Place(NamedTuple):
    """Where contexts are stored and kept; there is room for one that is not pinned."""

    records: Records
    base: LanguageModel
    artifacts: Artifacts
    residents: ResidentContexts

    def tuned(self, name: str, delta: float, artifact: str | None = None) -> str:
        """The artifact of a context that has just been tuned."""
        self.records.of("default").contexts.submit(submission(name))
        claim = self.records.claim([MODEL], new_id("worker"))
        assert isinstance(claim, TuningClaim)
        artifact = artifact or stored_context(self.base, self.artifacts, claim.spec, delta)
        report = Report(served="tuned")
        assert self.records.finish_succeeded(claim, artifact, report, {}) == "succeeded"
        return artifact

    def pinning(self, *refs: str) -> PinningThread:
        return PinningThread(self.records, {MODEL: self.residents}, refs)


@pytest.fixture
def place(records: Records, base: LanguageModel, artifacts: Artifacts) -> Place:
    return Place(records, base, artifacts, ResidentContexts(artifacts, partial(prepare, base), 1))


def test_pinned_contexts_are_loaded_and_stay(place: Place) -> None:
    first, second, other = (place.tuned(name, delta) for name, delta in (("a", 0.0), ("b", 0.1), ("c", 0.2)))
    place.pinning("a", "b").pin_now()
    assert len(place.residents) == 2
    kept = [place.residents.get(first), place.residents.get(second)]
    place.residents.get(other)
    assert [place.residents.get(first), place.residents.get(second)] == kept


def test_new_version_of_a_name_takes_the_place_of_the_old(place: Place) -> None:
    old, pinning = place.tuned("a", 0.0), place.pinning("a")
    pinning.pin_now()
    kept = place.residents.get(old)
    new = place.tuned("a", 0.1)
    pinning.pin_now()
    kept_new = place.residents.get(new)
    assert place.residents.get(old) is not kept
    assert place.residents.get(new) is kept_new


def test_refs_of_nothing_and_contexts_that_cannot_be_loaded_do_not_touch_the_others(place: Place) -> None:
    broken = place.artifacts.put(b"not a tuned context")
    place.tuned("a", 0.0, artifact=broken)
    place.tuned("b", 0.0, artifact="0" * 64)
    fine = place.tuned("c", 0.1)
    pinning = place.pinning("a", "b", "c", "nothing")
    for _ in range(2):
        pinning.pin_now()
    assert len(place.residents) == 1
    assert place.residents.get(fine)


def test_fault_of_ours_is_logged_whole_and_the_others_are_loaded(place: Place) -> None:
    refused, fine = place.tuned("a", 0.0), place.tuned("b", 0.1)

    def prepare_one(content: bytes) -> Resident:
        if content == place.artifacts.get(refused):
            raise KeyError("tokens")
        return prepare(place.base, content)

    residents = ResidentContexts(place.artifacts, prepare_one, 1)
    pinning = PinningThread(place.records, {MODEL: residents}, ("a", "b"))
    with structlog.testing.capture_logs() as lines:
        for _ in range(2):
            pinning.pin_now()
    assert residents.get(fine)
    assert [(line["event"], type(line.get("exc_info"))) for line in lines] == [
        ("classification_failed", KeyError),
        ("not_pinned", type(None)),
    ]


def test_thread_pins_until_it_is_stopped(place: Place) -> None:
    place.tuned("a", 0.0)
    pinning = place.pinning("a")
    pinning.start()
    eventually(lambda: len(place.residents) == 1)
    pinning.stop()
