from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Barrier, Thread

import pytest

from tests.submissions import submission
from tests.worker.tiny import stored_context
from worker.artifacts import ArtifactCorrupt, Artifacts
from worker.classification.preparing import prepare as prepare_resident
from worker.classification.resident import ModelChanged, Resident, ResidentContexts, UnusableContext
from worker.models import LanguageModel


class Counting:
    """Prepares contexts for real and counts."""

    def __init__(self, base: LanguageModel) -> None:
        self.prepared = 0
        self._prepare = partial(prepare_resident, base)

    def __call__(self, content: bytes) -> Resident:
        self.prepared += 1
        return self._prepare(content)


@pytest.fixture
def prepare(base: LanguageModel) -> Counting:
    return Counting(base)


@pytest.fixture
def addresses(base: LanguageModel, artifacts: Artifacts) -> list[str]:
    """Three contexts of the same size."""
    return [stored_context(base, artifacts, submission().spec, delta) for delta in (0.0, 0.1, 0.2)]


def size(base: LanguageModel, artifacts: Artifacts, address: str) -> int:
    return ResidentContexts(artifacts, partial(prepare_resident, base), 1).get(address).nbytes


def test_context_is_prepared_once(artifacts: Artifacts, prepare: Counting, addresses: list[str]) -> None:
    residents = ResidentContexts(artifacts, prepare, 10**9)
    first = residents.get(addresses[0])
    assert residents.get(addresses[0]) is first
    assert (prepare.prepared, len(residents)) == (1, 1)


def test_one_load_serves_all_who_wait_for_it(artifacts: Artifacts, prepare: Counting, addresses: list[str]) -> None:
    residents = ResidentContexts(artifacts, prepare, 10**9)
    together, found = Barrier(8), []

    def ask() -> None:
        together.wait(30)
        found.append(residents.get(addresses[0]))

    threads = [Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(found) == 8
    assert len({id(one) for one in found}) == 1
    assert prepare.prepared == 1


def test_least_recently_used_context_goes_first(
    base: LanguageModel, artifacts: Artifacts, prepare: Counting, addresses: list[str]
) -> None:
    first, second, third = addresses
    residents = ResidentContexts(artifacts, prepare, 2 * size(base, artifacts, first))
    kept = residents.get(first)
    residents.get(second)
    residents.get(first)
    residents.get(third)
    assert (len(residents), prepare.prepared) == (2, 3)
    assert residents.get(first) is kept
    residents.get(third)
    assert prepare.prepared == 3
    residents.get(second)
    assert (len(residents), prepare.prepared) == (2, 4)


def test_context_in_use_stays_however_large(artifacts: Artifacts, prepare: Counting, addresses: list[str]) -> None:
    residents = ResidentContexts(artifacts, prepare, 1)
    for address in addresses:
        assert residents.get(address) is residents.get(address)
        assert len(residents) == 1


def test_missing_and_damaged_artifacts_are_refused_each_time(
    artifacts: Artifacts, prepare: Counting, addresses: list[str], tmp_path: Path
) -> None:
    residents = ResidentContexts(artifacts, prepare, 10**9)
    for path in tmp_path.rglob(f"{addresses[0]}*"):
        path.write_bytes(b"damaged")
    for _ in range(2):
        with pytest.raises(ArtifactCorrupt):
            residents.get(addresses[0])
        with pytest.raises(FileNotFoundError):
            residents.get("0" * 64)
    with pytest.raises(UnusableContext, match="safetensors"):
        residents.get(artifacts.put(b"not a tuned context"))
    assert len(residents) == 0
    assert residents.get(addresses[1])


def test_context_of_other_weights_is_refused_even_if_the_embeddings_are_the_same(
    artifacts: Artifacts, prepare: Counting, base: LanguageModel
) -> None:
    address = stored_context(replace(base, fingerprint="f" * 64), artifacts, submission().spec)
    with pytest.raises(ModelChanged, match="other weights than those that tiny, or its sentence encoder, has now"):
        ResidentContexts(artifacts, prepare, 10**9).get(address)
