import time
import weakref
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Event, Thread

import pytest
import torch

from app.contract.messages import ClassifyBatch, ClassifyPart, PartReply
from tests.submissions import submission
from tests.waiting import eventually
from tests.worker.tiny import CONTEXT_LENGTH, base_model, classifier, confidences, part, stored_context
from worker.artifacts import Artifacts
from worker.classification.classify import classify
from worker.classification.preparing import prepare
from worker.classification.resident import Resident, ResidentContexts
from worker.classification.together import Expired, Stopwatch, Together
from worker.cpt.encoding.context import encode_query
from worker.cpt.encoding.template import Template
from worker.cpt.scoring.mixture import Mixture
from worker.device import Device, DeviceStopped
from worker.models import LanguageModel

TEXTS = ("a fine film", "x", "this was rather long and not very good, all things considered", "so so", "x")


@pytest.fixture
def residents(base: LanguageModel, artifacts: Artifacts) -> ResidentContexts:
    return ResidentContexts(artifacts, partial(prepare, base), 10**9)


@pytest.fixture
def context(base: LanguageModel, artifacts: Artifacts) -> str:
    return stored_context(base, artifacts, submission().spec)


@pytest.fixture
def other_context(base: LanguageModel, artifacts: Artifacts) -> str:
    return stored_context(base, artifacts, submission(labels=("bad", "good", "fair")).spec, delta=0.5)


def batch_of(base: LanguageModel, *parts: ClassifyPart, small: bool = True) -> ClassifyBatch:
    return ClassifyBatch(id="batch_1", reply_to="", model=base.id, small=small, parts=parts)


def answers(base: LanguageModel, residents: ResidentContexts, *parts: ClassifyPart) -> tuple[PartReply, ...]:
    return classify(base, residents, Together(Device()), batch_of(base, *parts))


def close(rows: Sequence[Sequence[float]], others: Sequence[Sequence[float]]) -> bool:
    return torch.allclose(torch.tensor(rows), torch.tensor(others), rtol=0, atol=1e-5)


def failure(reply: PartReply) -> tuple[str, str | None]:
    assert reply.failure
    assert reply.scored == ()
    return reply.failure.code, reply.failure.param


def test_exact_parts_of_a_batch_have_all_labels_scored(
    base: LanguageModel, residents: ResidentContexts, artifacts: Artifacts
) -> None:
    whole = classifier(2)
    cut = replace(whole, shortlist=0, cheap=Mixture(torch.ones(1), torch.zeros(2)))
    spec = submission().spec
    addresses = [stored_context(base, artifacts, spec, classifier=one) for one in (whole, cut)]
    everything, shortlisted, exact = (
        confidences([reply])
        for reply in answers(
            base,
            residents,
            part(addresses[0], *TEXTS),
            part(addresses[1], *TEXTS),
            part(addresses[1], *TEXTS).model_copy(update={"exact": True}),
        )
    )
    assert close(exact, everything)
    assert not close(shortlisted, everything)


def long_text(base: LanguageModel, extra: int = 200) -> str:
    return "".join(chr(97 + index % 26) for index in range(base.context_length + extra))


def test_confidences_sum_to_1_and_differ_from_text_to_text(
    base: LanguageModel, residents: ResidentContexts, context: str
) -> None:
    rows = confidences(answers(base, residents, part(context, *TEXTS)))
    assert len(rows) == len(TEXTS)
    for row in rows:
        assert len(row) == 2
        assert sum(row) == pytest.approx(1)
    assert rows[0] != pytest.approx(rows[1], abs=1e-4)


def test_answers_do_not_depend_on_the_batch(
    base: LanguageModel, residents: ResidentContexts, context: str, other_context: str
) -> None:
    alone = [confidences(answers(base, residents, part(context, text)))[0] for text in TEXTS]
    parts = [part(other_context, "something", "else"), part(context, *TEXTS[:2]), part(context, *TEXTS[2:])]
    together = confidences(answers(base, residents, *parts))[2:]
    assert close(alone, together)


def test_answers_with_a_head_do_not_depend_on_the_batch_and_are_not_the_plain_ones(
    base: LanguageModel, residents: ResidentContexts, artifacts: Artifacts, context: str
) -> None:
    headed = stored_context(base, artifacts, submission().spec, classifier=classifier(2))
    together = confidences(answers(base, residents, part(headed, *TEXTS)))
    alone = [confidences(answers(base, residents, part(headed, text)))[0] for text in TEXTS]
    assert close(together, alone)
    assert not close(together, confidences(answers(base, residents, part(context, *TEXTS))))
    assert all(sum(row) == pytest.approx(1) for row in together)


@pytest.mark.parametrize("capacity", [1, 10**9])
def test_parts_are_answered_in_their_order_each_by_its_own_context_however_many_fit(
    base: LanguageModel, artifacts: Artifacts, context: str, other_context: str, capacity: int
) -> None:
    residents = ResidentContexts(artifacts, partial(prepare, base), capacity)
    parts = part(context, "a"), part(other_context, "b"), part("0" * 64, "e"), part(context, "c", "d")
    replies = answers(base, residents, *parts)
    assert [[len(one.confidences) for one in reply.scored] for reply in replies] == [[2], [3], [], [2, 2]]
    assert failure(replies[2])[0] == "context_not_found"


def of_a_newer_format(artifact: bytes) -> bytes:
    """The artifact as a newer release may write it, with tensors of other names."""
    return artifact.replace(rb"\"format\": 1", rb"\"format\": 2").replace(b"prompts.0.ids", b"prompts.0.xyz")


def test_failing_part_does_not_touch_the_others(
    base: LanguageModel, residents: ResidentContexts, context: str, artifacts: Artifacts, tmp_path: Path
) -> None:
    damaged = artifacts.put(b"damaged")
    for path in tmp_path.rglob(f"{damaged}*"):
        path.write_bytes(b"otherwise damaged")
    foreign = stored_context(base_model(seed=1), artifacts, submission().spec)
    newer = artifacts.put(of_a_newer_format(artifacts.get(context)))
    too_long = part(context, "fine", long_text(base))
    good = part(context, *TEXTS)
    refused = [part(address, "a") for address in (damaged, foreign, newer)]
    replies = answers(base, residents, part("0" * 64, "a"), good, too_long, refused[0], good, *refused[1:])
    assert [failure(replies[index])[0] for index in (0, 2, 3, 5, 6)] == [
        "context_not_found",
        "input_too_long",
        "artifact_corrupt",
        "model_changed",
        "format_unsupported",
    ]
    for reply in (replies[1], replies[4]):
        assert close(confidences([reply]), confidences(answers(base, residents, good)))


class Short(Device):
    """A device without memory for the first pass of a large batch."""

    passes = 0

    def let_small_query_pass(self) -> None:
        self.passes += 1
        if self.passes == 1:
            raise MemoryError


def test_context_that_fails_while_it_is_computed_does_not_touch_the_others(
    base: LanguageModel, residents: ResidentContexts, context: str, other_context: str
) -> None:
    parts = part(context, "a"), part(other_context, "b"), part(context, "c")
    replies = classify(base, residents, Together(Short()), batch_of(base, *parts, small=False))
    assert [failure(replies[index])[0] for index in (0, 2)] == ["out_of_memory"] * 2
    assert len(confidences(replies[1:2])) == 1


def test_parts_that_cannot_be_computed_do_not_wait_for_the_device(
    base: LanguageModel, residents: ResidentContexts
) -> None:
    device = Device()
    device.stop()
    replies = classify(base, residents, Together(device), batch_of(base, part("0" * 64, "a"), part("1" * 64, "a")))
    assert [failure(reply)[0] for reply in replies] == ["context_not_found"] * 2


@pytest.mark.parametrize("loaded", [False, True])
def test_device_that_stops_answers_nothing_so_that_another_worker_may(
    base: LanguageModel, artifacts: Artifacts, context: str, loaded: bool
) -> None:
    device = Device()
    residents = ResidentContexts(artifacts, lambda content: device.run(partial(prepare, base, content)), 10**9)
    if loaded:
        residents.get(context)
    device.stop()
    with pytest.raises(DeviceStopped):
        classify(base, residents, Together(device), batch_of(base, part(context, "a")))


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("expires", [False, True])
def test_contexts_are_let_go_once_a_batch_has_ended_whatever_went_wrong(
    base: LanguageModel, artifacts: Artifacts, context: str, other_context: str, expires: bool
) -> None:
    watched: list[weakref.ref[Resident]] = []

    def watch(content: bytes) -> Resident:
        resident = prepare(base, content)
        watched.append(weakref.ref(resident))
        return resident

    class Late(Device):
        """A device on which every large batch expires."""

        def let_small_query_pass(self) -> None:
            if expires:
                raise Expired

    residents = ResidentContexts(artifacts, watch, 10**9)
    parts = part(context, "a"), part(other_context, "b"), part("0" * 64, "c")
    with suppress(Expired):
        classify(base, residents, Together(Late()), batch_of(base, *parts, small=False))
    del residents
    assert len(watched) == 2
    eventually(lambda: [one() for one in watched] == [None, None])


def test_expired_batch_is_not_computed(base: LanguageModel, residents: ResidentContexts, context: str) -> None:
    with pytest.raises(Expired):
        classify(base, residents, Together(Device()), batch_of(base, part(context, "x")), deadline=time.monotonic())


def test_pointer_to_a_long_input_counts_from_the_start_of_its_request(
    base: LanguageModel, residents: ResidentContexts, context: str
) -> None:
    (reply,) = answers(base, residents, part(context, "fine", long_text(base), first=64))
    assert failure(reply) == ("input_too_long", "/inputs/65")
    assert reply.failure
    assert reply.failure.message.startswith("input 65 has ")


@pytest.mark.parametrize("truncate", ["START", "END"])
def test_long_input_is_cut_to_the_room_there_is(
    base: LanguageModel, residents: ResidentContexts, context: str, truncate: str
) -> None:
    text = long_text(base)
    (reply,) = answers(base, residents, part(context, "short", text, truncate=truncate))  # type: ignore[arg-type]
    short, cut = reply.scored
    assert (short.truncated, cut.truncated) == (False, True)
    resident = residents.get(context)
    room = CONTEXT_LENGTH - resident.predictor.tokens - max(len(ids) for ids in resident.predictor.label_ids)
    assert 0.95 * room < cut.tokens <= room
    kept = cut.tokens - len(encode_query(base.tokenizer, Template(), ""))
    same = text[:kept] if truncate == "END" else text[-kept:]
    assert confidences(answers(base, residents, part(context, same)))[0] == pytest.approx(cut.confidences, abs=1e-5)


@pytest.mark.parametrize("truncate", ["NONE", "START", "END"])
def test_input_that_just_fits_is_left_alone(
    base: LanguageModel, residents: ResidentContexts, context: str, truncate: str
) -> None:
    resident = residents.get(context)
    room = CONTEXT_LENGTH - resident.predictor.tokens - max(len(ids) for ids in resident.predictor.label_ids)
    text = "x" * (room - len(encode_query(base.tokenizer, Template(), "")))
    (reply,) = answers(base, residents, part(context, text, truncate=truncate))  # type: ignore[arg-type]
    assert (reply.scored[0].tokens, reply.scored[0].truncated) == (room, False)
    assert torch.tensor(reply.scored[0].confidences).isfinite().all()


@pytest.mark.parametrize("truncate", ["START", "END"])
def test_input_of_which_only_white_space_is_left_is_too_long(
    base: LanguageModel, residents: ResidentContexts, context: str, truncate: str
) -> None:
    blank = " " * 2 * CONTEXT_LENGTH
    text = blank + "x" if truncate == "END" else "x" + blank
    (reply,) = answers(base, residents, part(context, text, truncate=truncate))  # type: ignore[arg-type]
    assert failure(reply) == ("input_too_long", "/inputs/0")


class Meeting(Device):
    """A device on which a batch that lets a small one pass first waits until there is one, and then for its answer."""

    def __init__(self) -> None:
        super().__init__()
        self.reached = Event()
        self.answered: list[bool] = []

    def let_small_query_pass(self) -> None:
        self.reached.set()
        eventually(lambda: len(self._waiting) == 1)
        super().let_small_query_pass()
        eventually(lambda: self.answered == [True])


def test_small_batch_passes_a_large_one_that_is_being_computed_whatever_its_contexts(
    base: LanguageModel, residents: ResidentContexts, context: str, other_context: str
) -> None:
    for one in (context, other_context):
        residents.get(one)
    device = Meeting()
    together = Together(device)

    def ask(small: bool) -> None:
        parts = [part(context, "x"), part(other_context, "x")] if small else [part(context, "x")]
        replies = classify(base, residents, together, batch_of(base, *parts, small=small))
        assert not any(reply.failure for reply in replies)
        device.answered.append(small)

    large, small = Thread(target=ask, args=(False,)), Thread(target=ask, args=(True,))
    large.start()
    assert device.reached.wait(60)
    small.start()
    for thread in (small, large):
        thread.join(60)
    assert device.answered == [True, False]


def test_batches_of_many_threads_are_answered_as_if_alone(
    base: LanguageModel, residents: ResidentContexts, context: str, other_context: str
) -> None:
    expected = {one: confidences(answers(base, residents, part(one, *TEXTS))) for one in (context, other_context)}
    together, wrong = Together(Device()), []

    def ask(artifact: str) -> None:
        for _ in range(10):
            rows = confidences(classify(base, residents, together, batch_of(base, part(artifact, *TEXTS))))
            if not close(rows, expected[artifact]):
                wrong.append(rows)

    threads = [Thread(target=ask, args=(artifact,)) for artifact in (context, other_context) * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert wrong == []


def kept_busy(device: Device) -> Event:
    """What lets the device go on; it has begun to wait for that."""
    begun, free = Event(), Event()

    def wait() -> None:
        begun.set()
        free.wait(60)

    Thread(target=device.run, args=(wait,), daemon=True).start()
    assert begun.wait(60)
    return free


def asked_while_busy(
    base: LanguageModel, residents: ResidentContexts, *batches: ClassifyBatch
) -> tuple[list[list[PartReply]], list[Stopwatch]]:
    """Replies and times of batches that all wait while the device is busy with something else."""
    device = Device()
    together, watches, free = Together(device), [Stopwatch() for _ in batches], kept_busy(device)
    replies: list[list[PartReply]] = [[] for _ in batches]

    def ask(number: int) -> None:
        replies[number] += classify(base, residents, together, batches[number], stopwatch=watches[number])

    threads = [Thread(target=ask, args=(number,)) for number in range(len(batches))]
    for number, thread in enumerate(threads, 1):
        thread.start()
        eventually(lambda number=number: len(device._waiting) == number)  # type: ignore[misc]
    free.set()
    for thread in threads:
        thread.join(60)
    device.stop()
    return replies, watches


def test_batches_that_wait_are_computed_together_and_answered_as_if_alone(
    base: LanguageModel, residents: ResidentContexts, context: str, other_context: str
) -> None:
    for one in (context, other_context):
        residents.get(one)
    parts = part(context, "a", "b"), part(context, "c"), part(other_context, "d"), part("0" * 64, "e")
    small = [batch_of(base, parts[0]), batch_of(base, *parts[1:3]), batch_of(base, parts[0], parts[3])]
    replies, watches = asked_while_busy(base, residents, *small, batch_of(base, parts[1], small=False))
    assert [failure(reply)[0] for found in replies for reply in found if reply.failure] == ["context_not_found"]
    for batch, found in zip(small, replies, strict=False):
        for reply, alone in zip(found, answers(base, residents, *batch.parts), strict=True):
            assert reply.failure is not None or close(confidences([reply]), confidences([alone]))
    assert len({(watch.began, watch.ended) for watch in watches[:3]}) == 1
    took = watches[0].ended - watches[0].began
    assert [watch.seconds / took for watch in watches[:3]] == pytest.approx([2 / 6, 2 / 6, 2 / 6])
    assert watches[3].began >= watches[0].ended  # large ones are no company for small ones


def test_device_that_fails_a_batch_fails_its_company(
    base: LanguageModel, residents: ResidentContexts, context: str
) -> None:
    class Failing(Device):
        def let_small_query_pass(self) -> None:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")

    residents.get(context)
    device, errors = Failing(), list[str]()
    together, free = Together(device), kept_busy(device)

    def ask() -> None:
        try:
            classify(base, residents, together, batch_of(base, part(context, "a"), small=False))
        except RuntimeError as error:
            errors.append(str(error))

    threads = [Thread(target=ask), Thread(target=ask)]
    for number, thread in enumerate(threads, 1):
        thread.start()
        eventually(lambda number=number: len(device._waiting) == number)  # type: ignore[misc]
    free.set()
    for thread in threads:
        thread.join(60)
    assert errors == ["CUDA error: an illegal memory access was encountered"] * 2
    assert device.unusable is not None
    device.stop()
