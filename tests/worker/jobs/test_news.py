"""What the user of a job is told while it runs, on a tiny base model, with real records."""

from dataclasses import replace
from typing import Any

import pytest
import redis
import torch

from app.contract.objects import Event
from app.contract.tuning import Example, Hyperparameters, TuningSpec
from app.records.claims import Claim, TuningClaim
from app.records.store import Records
from tests.submissions import EXAMPLES, MODEL, overdue
from tests.worker.cpt.selection.test_search import AUTO, search, several_labels
from tests.worker.cpt.selection.test_search import run as finished
from tests.worker.jobs import test_run, test_run_auto
from tests.worker.jobs.test_run import run
from tests.worker.tiny import base_model, sentence_encoder
from worker.artifacts import Artifacts
from worker.cpt.selection.search import Search
from worker.jobs.defaults import resolve
from worker.jobs.encoding import encode
from worker.jobs.lease import Stopping
from worker.jobs.news import SearchNews, which_encoder
from worker.models import LanguageModel


def events(records: Records, claim: Claim, kind: str) -> list[Event]:
    return [event for event in records.of("default").jobs.events(claim.job_id) if event.type == kind]


def metrics(records: Records, claim: Claim) -> list[dict[str, Any]]:
    return [event.data for event in events(records, claim, "metrics")]


def messages(records: Records, claim: Claim) -> list[str]:
    return [event.message for event in events(records, claim, "message")]


def test_steps_are_told_with_their_loss_rate_and_tokens_at_epsilon(
    records: Records, base: LanguageModel, artifacts: Artifacts
) -> None:
    claim = test_run.claimed(records, hyperparameters={"steps": 200})
    curve = run(records, claim, base, artifacts).report.loss_curve
    told = metrics(records, claim)
    steps = [one["step"] for one in told]
    assert steps == sorted(set(steps))
    assert steps[-1] == 200, "the last one waits for no beat"
    assert [one["loss"] for one in told] == [pytest.approx(curve[step - 1]) for step in steps]
    assert {(one["learning_rate"], one["trial"], one["prompt"]) for one in told} == {(0.1, 0, 0)}
    assert all(0 <= one["at_epsilon"] <= 1 for one in told)
    assert told[-1]["at_epsilon"] > 0
    assert messages(records, claim) == []


def test_trials_are_told_with_what_they_predict(records: Records, base: LanguageModel, artifacts: Artifacts) -> None:
    claim = test_run_auto.claimed(records, base)
    run(records, claim, base, artifacts)
    scores = metrics(records, claim)[-1]["held_out"]
    assert scores["trial"] == len(claim.hyperparameters.trials) - 1
    assert scores["examples"] == len(test_run_auto.EXAMPLES)
    assert 0 <= scores["accuracy"] <= 1
    assert scores["nll"] > 0


def test_dropped_trials_and_a_context_that_is_not_tuned_are_told_with_the_reason(
    records: Records, base: LanguageModel, artifacts: Artifacts
) -> None:
    claim = test_run_auto.claimed(records, base, max_seconds=0.001)
    assert run(records, claim, base, artifacts).report.served == "calibrated"
    *dropped, last = messages(records, claim)
    total = len(claim.hyperparameters.trials)
    reason = "was dropped: max_seconds (0 s) leaves no time for it"
    assert dropped == [f"trial {number} of {total} {reason}" for number in range(2, total + 1)]
    assert last == "the calibrated context serves, not a tuned one: there was no time to tune within max_seconds"


def test_that_labels_are_too_many_to_be_scored_and_prompts_to_be_tuned_is_told(
    records: Records, base: LanguageModel, artifacts: Artifacts
) -> None:
    claim = test_run_auto.claimed(records, base, examples=test_run_auto.MANY_LABELS, max_seconds=0.001)
    assert run(records, claim, base, artifacts).report.served == "calibrated"
    assert messages(records, claim)[-1] == (
        "the calibrated context serves, not a tuned one: there was no time to score so many labels within max_seconds, "
        "and prompts are tuned for their scores"
    )


def test_reference_may_stop_before_its_first_step_and_says_so(
    records: Records, base: LanguageModel, artifacts: Artifacts
) -> None:
    """Labels that have nothing to do with the texts are learned by heart."""
    examples = enumerate(2 * test_run_auto.EXAMPLES)
    more = tuple(
        Example(text=f"{one.text} {place}", label=("good", "bad")[place * 7 % 3 % 2]) for place, one in examples
    )
    claim = test_run_auto.claimed(
        records,
        base,
        training_examples=more,
        method="cpt",
        cross_validation=True,
        early_stopping=True,
        learning_rate=0.5,
        steps=12,
        projection_epsilon=1.0,
        projection_format_epsilon=1.0,
    )
    report = run(records, claim, base, artifacts).report
    assert report.served == "icl"
    (told,) = messages(records, claim)
    assert told.startswith("the plain context serves, not a tuned one: held-out examples are predicted better by it")


def test_tuning_of_the_encoder_that_is_dropped_is_told(records: Records, artifacts: Artifacts) -> None:
    base = base_model(0, sentence_encoder())
    claim = test_run_auto.claimed(records, base, max_seconds=0.001, encoder_steps=5)
    assert run(records, claim, base, artifacts).report.encoder_steps == 0
    reason = "max_seconds (0 s) leaves no time for it"
    assert messages(records, claim)[0] == f"the tuning of the sentence encoder was dropped: {reason}"


def test_encoder_that_is_not_tuned_for_another_s_sake_is_told() -> None:
    """Vectors that tell the labels apart are put in the place of the other encoder's."""
    some = several_labels(20, 80)
    base = base_model(0, sentence_encoder(0), sentence_encoder(1))
    running = Search(base.model, base.encoders, some, replace(AUTO, encoder_steps=2))
    news = SearchNews(running, resolve(base, Hyperparameters(), encode(base, TuningSpec(examples=EXAMPLES))))
    while not all(other.whole for other in running.encoding.others):
        running.step()
    (other,) = running.encoding.others
    known = torch.eye(other._found.shape[2])[list(some.truth)]
    other._found[:, [20 + other._order.index(number) for number in range(80)]] = known
    running.step()
    (told,) = news.messages()
    assert told.text.startswith("the tuning of the sentence encoder was dropped: as they are, another one tells these")


def test_encoder_that_is_dropped_is_told(records: Records, artifacts: Artifacts) -> None:
    base = base_model(0, sentence_encoder(0), sentence_encoder(1))
    claim = test_run_auto.claimed(records, base, test_run_auto.EXAMPLES * 2, max_seconds=0.001, encoder_steps=0)
    run(records, claim, base, artifacts)
    reason = "max_seconds (0 s) leaves no time for it"
    assert messages(records, claim)[0] == f"the sentence encoder tiny-1 was dropped: {reason}"


def test_encoder_that_serves_as_it_is_although_it_was_tuned_is_told() -> None:
    running = search(base_model().model, replace(AUTO, encoder_steps=2))
    tuned = finished(running)
    assert which_encoder(running, tuned) is None
    told = which_encoder(running, replace(tuned, encoder_steps=0))
    assert told
    reason = "held-out examples are predicted better by it"
    assert told.text == f"the sentence encoder serves as it is, not tuned: {reason}"
    untuned = search(base_model().model, AUTO)
    assert which_encoder(untuned, finished(untuned)) is None


def test_job_of_a_lost_worker_says_where_it_goes_on(
    records: Records, client: redis.Redis, base: LanguageModel, artifacts: Artifacts
) -> None:
    claim = test_run.claimed(records)
    with pytest.raises(Stopping):
        run(records, claim, base, artifacts, steps=2)
    overdue(client, claim.job_id)
    records.sweep()
    again = records.claim([MODEL], "another")
    assert isinstance(again, TuningClaim)
    run(records, again, base, artifacts)
    assert messages(records, claim) == [
        "its worker was lost: the job goes back to the queue",
        "going on from the checkpoint after step 2",
    ]


def test_job_whose_checkpoint_is_gone_or_of_no_use_says_that_it_begins_again(
    records: Records, client: redis.Redis, base: LanguageModel, artifacts: Artifacts
) -> None:
    claim = test_run.claimed(records)
    for worker in ("second", "third"):
        overdue(client, claim.job_id)
        records.sweep()
        again = records.claim([MODEL], worker)
        assert isinstance(again, TuningClaim)
        run(records, again, base, artifacts)
        artifacts.put_checkpoint(claim.job_id, b"junk")
    assert [one for one in messages(records, claim) if "again" in one] == [
        "beginning again: there is no checkpoint",
        "beginning again: the checkpoint cannot be used here",
    ]
