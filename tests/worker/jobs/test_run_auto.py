"""Runs of the method "auto" on a tiny base model, with real records."""

from typing import Any

import pytest
from torch.utils._python_dispatch import TorchDispatchMode

from app.contract.objects import Report, Reproducibility
from app.contract.tuning import Example, Hyperparameters, ResolvedHyperparameters, TuningSpec
from app.records.claims import TuningClaim
from app.records.connection import new_id
from app.records.contexts import Submission
from app.records.store import Records
from tests.submissions import MODEL
from tests.worker.jobs.test_run import run
from tests.worker.tiny import base_model, blank_encoder, sentence_encoder
from worker.artifacts import Artifacts
from worker.classification.preparing import prepare
from worker.classification.resident import ModelChanged
from worker.cpt.formats.bundle import load
from worker.evaluation.figures import held_out_interval, wilson_interval
from worker.jobs.lease import Lease, Stopping
from worker.jobs.planning import plan
from worker.jobs.run import Result
from worker.models import LanguageModel

WORDS = {"good": ("fine", "great", "lovely", "splendid"), "bad": ("awful", "dull", "poor", "boring")}
EXAMPLES = tuple(
    Example(text=f"a {words[number]} film", label=label) for number in range(4) for label, words in WORDS.items()
)


_GIVEN = ("training_examples", "validation_examples", "calibration_texts")


def claimed(
    records: Records, base: LanguageModel, examples: tuple[Example, ...] = EXAMPLES, **given: Any
) -> TuningClaim:
    fields = {name: given.pop(name) for name in _GIVEN if name in given}
    spec = TuningSpec(examples=examples, hyperparameters=Hyperparameters(**{"steps": 2, **given}), **fields)
    records.of("default").contexts.submit(
        Submission(name=None, model=MODEL, spec=spec, plan=plan(base, spec), metadata={})
    )
    claim = records.claim([MODEL], new_id("worker"))
    assert isinstance(claim, TuningClaim)
    return claim


def result(records: Records, base: LanguageModel, artifacts: Artifacts, **given: Any) -> Result:
    return run(records, claimed(records, base, **given), base, artifacts)


def test_report_compares_both_on_held_out_examples(records: Records, base: LanguageModel, artifacts: Artifacts) -> None:
    metrics = result(records, base, artifacts).report
    assert metrics.icl
    assert metrics.tuned
    assert metrics.difference
    assert (metrics.measured_on, metrics.icl.n, metrics.tuned.n) == ("folds", 8, 8)
    assert metrics.difference.accuracy == pytest.approx(metrics.tuned.accuracy - metrics.icl.accuracy)
    assert "Only 8 examples" in metrics.notes[0]
    assert metrics.reproducibility
    assert metrics.reproducibility.model_revision == base.fingerprint
    for score in (metrics.icl, metrics.tuned):
        for name in ("accuracy", "macro_f1", "nll", "ece", "brier"):
            low, high = getattr(score, f"{name}_ci95")
            assert low <= high
    assert metrics.icl.accuracy_ci95 == wilson_interval(metrics.icl.accuracy, 8)
    assert metrics.tuned.accuracy_ci95 == held_out_interval(metrics.tuned.accuracy, 8)
    validated = result(records, base, artifacts, validation_examples=EXAMPLES).report.tuned
    assert validated
    assert validated.accuracy_ci95 == wilson_interval(validated.accuracy, len(EXAMPLES))


def test_served_says_which_of_three_it_is(records: Records, base: LanguageModel, artifacts: Artifacts) -> None:
    served = {}
    for seed in range(4):
        one = result(records, base, artifacts, seed=seed)
        stored = load(one.content)
        tuned = any(prompt.delta.any() for prompt in stored.prompts)
        assert one.report.served == ("tuned" if tuned else "calibrated")
        assert stored.classifier
        served[one.report.served] = one
    assert "tuned" in served


def test_trials_of_a_report_give_the_same_bits_without_a_bound(
    records: Records, base: LanguageModel, artifacts: Artifacts
) -> None:
    first = result(records, base, artifacts, steps="auto")
    chosen = ResolvedHyperparameters.model_validate_json(str(first.fields["hyperparameters"]))
    trials = [trial.model_dump() for trial in chosen.trials]
    again = run(records, claimed(records, base, steps="auto", trials=trials), base, artifacts)
    assert load(again.content).prompts[0].delta.equal(load(first.content).prompts[0].delta)
    assert again.report.tuned == first.report.tuned


def test_estimate_of_what_is_left_keeps_to_the_bound(
    records: Records, base: LanguageModel, artifacts: Artifacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    left, note = [], Lease.note

    def noting(self: Lease, fields: dict[str, Any], remaining_seconds: float | None, metrics: Any = None) -> None:
        left.append(remaining_seconds)
        note(self, fields, remaining_seconds, metrics)

    monkeypatch.setattr(Lease, "note", noting)
    result(records, base, artifacts, max_seconds=1e-6)
    assert set(left) == {0.0}
    left.clear()
    result(records, base, artifacts)
    assert any(left)


def test_encoder_takes_part_and_its_hash_is_told(records: Records, artifacts: Artifacts) -> None:
    base = base_model(0, sentence_encoder())
    one = result(records, base, artifacts)
    stored = load(one.content)
    assert stored.classifier
    assert stored.classifier.encoder_head
    assert stored.metadata["encoder"] == "encoder 0"
    assert one.report.reproducibility
    assert one.encoder == one.report.reproducibility.encoder == "encoder 0"
    assert len(one.report.weights) == 3
    tuned = result(records, base, artifacts, encoder_steps=2)
    assert (one.report.encoder_steps, tuned.report.encoder_steps) == (12, 2)
    without = result(records, base, artifacts, encoder=False)
    assert (without.report.encoder, without.report.encoder_steps) == (None, None)
    assert without.encoder is load(without.content).metadata["encoder"] is None


def test_encoder_that_held_out_examples_choose_serves_and_is_told(records: Records, artifacts: Artifacts) -> None:
    base = base_model(0, blank_encoder(), sentence_encoder())
    pairs = [(("fine", "dull")[number % 2], number) for number in range(40)]
    examples = tuple(Example(text=f"{word} {number:02}", label=word) for word, number in pairs)
    claim = claimed(records, base, examples, encoder_steps=2)
    one = run(records, claim, base, artifacts)
    assert one.encoder == load(one.content).metadata["encoder"] == "encoder 0"
    assert (one.report.encoder, one.report.encoder_steps) == ("tiny-0", 0)
    told = [event for event in records.of("default").jobs.events(claim.job_id) if event.type == "message"]
    chosen = "the sentence encoder tiny-0 serves, not tiny-9: held-out examples are predicted better by it"
    assert [(event.message, event.data) for event in told if "encoder" in event.message] == [
        (chosen, {"encoder": "tiny-0"})
    ]
    resolved = ResolvedHyperparameters.model_validate_json(str(one.fields["hyperparameters"]))
    assert resolved.encoder_steps == 2, "the same job again compares with the same"
    assert prepare(base, one.content).predictor.encoder is base.encoders[1]
    with pytest.raises(ModelChanged):
        prepare(base_model(0, blank_encoder()), one.content)


def test_report_says_what_became_of_the_trials_and_what_to_do(
    records: Records, base: LanguageModel, artifacts: Artifacts
) -> None:
    report = result(records, base, artifacts).report
    assert [trial.settings.steps for trial in report.trials] == [0, 2]
    assert {trial.status for trial in report.trials} == {"done"}
    assert report.verdict
    assert report.verdict.decision == "more_examples"


def test_same_seed_gives_the_same_bytes(records: Records, base: LanguageModel, artifacts: Artifacts) -> None:
    claim = claimed(records, base)
    assert run(records, claim, base, artifacts) == run(records, claim, base, artifacts)


@pytest.mark.parametrize("broken_after", [0, 1, 3])
def test_resumed_search_gives_what_an_unbroken_one_gives(
    records: Records, base: LanguageModel, artifacts: Artifacts, broken_after: int
) -> None:
    claim = claimed(records, base)
    unbroken = run(records, claim, base, artifacts)
    with pytest.raises(Stopping):
        run(records, claim, base, artifacts, steps=broken_after)
    assert artifacts.get_checkpoint(claim.job_id)
    assert run(records, claim, base, artifacts) == unbroken


def test_job_names_what_was_chosen(records: Records, base: LanguageModel, artifacts: Artifacts) -> None:
    one = result(records, base, artifacts)
    chosen = ResolvedHyperparameters.model_validate_json(str(one.fields["hyperparameters"]))
    assert chosen.steps == len(one.report.loss_curve)
    assert one.fields["step"] == one.fields["total_steps"]


def test_two_examples_are_tuned_without_figures(records: Records, base: LanguageModel, artifacts: Artifacts) -> None:
    metrics = result(records, base, artifacts, examples=EXAMPLES[:2]).report
    assert (metrics.served, metrics.icl, metrics.tuned, metrics.measured_on) == ("tuned", None, None, None)
    assert "too few examples" in metrics.notes[0]


def test_validation_examples_are_what_the_report_is_on(
    records: Records, base: LanguageModel, artifacts: Artifacts
) -> None:
    validation = (Example(text="a superb film", label="good"), Example(text="a bad film", label="bad"))
    metrics = result(records, base, artifacts, validation_examples=validation).report
    assert metrics.tuned
    assert (metrics.measured_on, metrics.tuned.n) == ("validation_examples", 2)


def test_many_validation_examples_are_measured_in_parts_as_if_at_once(
    records: Records, base: LanguageModel, artifacts: Artifacts
) -> None:
    few = (Example(text="a superb film", label="good"), Example(text="a bad film", label="bad"))
    once, often = (result(records, base, artifacts, validation_examples=few * times).report.tuned for times in (1, 300))
    assert once
    assert often
    assert often.n == 600
    assert often.nll == pytest.approx(once.nll, abs=1e-5)


def notes(records: Records, base: LanguageModel, artifacts: Artifacts, **given: Any) -> str:
    return " ".join(result(records, base, artifacts, **given).report.notes)


def test_notes_say_what_the_figures_are_worth(records: Records, base: LanguageModel, artifacts: Artifacts) -> None:
    usual = notes(records, base, artifacts)
    assert "Repeated texts" not in usual
    assert "only example of a label" not in usual
    assert "No min_confidence is suggested for a precision of" in usual
    assert "Repeated texts: 1 of 9" in notes(records, base, artifacts, examples=(*EXAMPLES, EXAMPLES[0]))
    alone = (*EXAMPLES, Example(text="so so", label="fair"))
    assert "The only example of a label: 1 of 9" in notes(records, base, artifacts, examples=alone)
    seen = (Example(text="a superb film", label="good"), EXAMPLES[1])
    assert "learned from too: 1 of 2" in notes(records, base, artifacts, validation_examples=seen)
    many = seen[:1] * 30
    said = notes(records, base, artifacts, validation_examples=(*many, EXAMPLES[1]))
    assert "1 to 4 measured examples: 1 of 2" in said
    assert "No examples were held out" in notes(records, base, artifacts, cross_validation=False)


def test_label_that_was_not_measured_is_named_and_has_no_figures_and_is_no_reason_to_serve(
    records: Records, base: LanguageModel, artifacts: Artifacts
) -> None:
    many = (Example(text="a superb film", label="good"),) * 30
    told = result(records, base, artifacts, validation_examples=many).report
    assert "no example was measured: 1 of 2 ('bad')" in " ".join(told.notes)
    assert told.per_label
    unmeasured = told.per_label["bad"]
    assert (unmeasured.n, unmeasured.recall) == (0, None)
    assert told.verdict
    assert told.verdict.decision == "more_examples"


def test_rare_label_that_stands_in_the_only_prompt_is_measured(
    records: Records, base: LanguageModel, artifacts: Artifacts
) -> None:
    common = tuple(Example(text=f"a fine film {number}", label="good") for number in range(60))
    rare = tuple(Example(text=f"a dull film {number}", label="bad") for number in range(3))
    trials = [{"steps": 0, "context_examples": 24, "examples": 63, "prompts": 1}]
    told = result(records, base, artifacts, examples=(*common, *rare), trials=trials).report
    assert told.per_label
    assert told.per_label["bad"].n == 3


def test_what_was_read_for_lack_of_time_is_told_and_made_up_as_all_examples_are(
    records: Records, base: LanguageModel, artifacts: Artifacts
) -> None:
    common = tuple(Example(text=f"a fine film {number}", label="good") for number in range(270))
    rare = tuple(Example(text=f"a dull film {number}", label="bad") for number in range(30))
    claim = claimed(records, base, (*common, *rare), max_seconds=0.001)
    told = run(records, claim, base, artifacts).report
    events = records.of("default").jobs.events(claim.job_id)
    assert any("what serves is fitted and measured" in str(event) for event in events)
    assert "There was no time to read more than" in " ".join(told.notes)
    assert told.per_label
    assert told.per_label["good"].n > 2 * told.per_label["bad"].n > 0
    bare = result(records, base, artifacts, head=False, calibration=False).report
    assert "There was no time" not in " ".join(bare.notes)
    whole = result(records, base, artifacts, max_seconds="none").report
    assert "There was no time" not in " ".join(whole.notes)


MANY_LABELS = tuple(
    Example(text=f"film {number} of {number % 20}", label=f"label {number % 20}") for number in range(60)
)


def test_report_says_that_labels_were_not_scored_and_gives_the_same_bits_again(
    records: Records, base: LanguageModel, artifacts: Artifacts
) -> None:
    trials = [{"steps": 0, "context_examples": 24, "examples": 60, "prompts": 2, "scored_examples": 0}]
    one = result(records, base, artifacts, examples=MANY_LABELS, trials=trials)
    assert one.report.icl is None
    assert one.report.tuned
    assert one.report.tuned.n == 60
    said = " ".join(one.report.notes)
    assert "No labels were scored, as the trials say" in said
    assert "Nothing compares with plain label scores" in said
    validation = (Example(text="film 3", label="label 3"),)
    measured = result(
        records, base, artifacts, examples=MANY_LABELS, trials=trials, validation_examples=validation
    ).report
    assert measured.icl
    assert "No labels were scored, as the trials say" in " ".join(measured.notes)
    assert "Nothing compares with plain label scores" not in " ".join(measured.notes)
    unheaded = result(records, base, artifacts, examples=MANY_LABELS, trials=trials, head=False).report
    assert unheaded.icl
    assert "No labels were scored" not in " ".join(unheaded.notes)
    chosen = ResolvedHyperparameters.model_validate_json(str(one.fields["hyperparameters"]))
    assert chosen.trials[0].scored_examples == 0
    same = [trial.model_dump() for trial in chosen.trials]
    again = result(records, base, artifacts, examples=MANY_LABELS, trials=same)
    assert again.report.tuned == one.report.tuned


def test_report_says_that_there_was_no_time_for_the_scores_of_so_many_labels(
    records: Records, base: LanguageModel, artifacts: Artifacts
) -> None:
    said = notes(records, base, artifacts, examples=MANY_LABELS, max_seconds=0.001)
    assert "There was no time for the scores of so many labels" in said


def test_only_example_of_its_label_is_no_suspect(records: Records, base: LanguageModel, artifacts: Artifacts) -> None:
    alone = [Example(text=f"text {number}", label=f"label {number}") for number in range(8)]
    metrics = result(records, base, artifacts, examples=tuple(alone)).report
    assert metrics.tuned
    assert metrics.suspect_examples == ()


def test_reference_is_compared_with_its_prompts_as_they_were(
    records: Records, base: LanguageModel, artifacts: Artifacts
) -> None:
    metrics = result(records, base, artifacts, method="cpt", cross_validation=True, learning_rate=0.1, steps=6).report
    assert metrics.icl
    assert metrics.tuned
    assert metrics.difference
    assert metrics.icl.nll != metrics.tuned.nll
    assert [(trial.settings.steps, trial.status) for trial in metrics.trials] == [(0, "done"), (6, "done")]


def test_without_prompts_as_they_were_nothing_is_compared(
    records: Records, base: LanguageModel, artifacts: Artifacts
) -> None:
    trials = [{"steps": 2, "context_examples": 4, "examples": 8, "prompts": 2}]
    metrics = result(records, base, artifacts, trials=trials).report
    assert metrics.tuned
    assert (metrics.icl, metrics.difference) == (None, None)


def test_texts_without_labels_are_part_of_what_decided_the_result(
    records: Records, base: LanguageModel, artifacts: Artifacts
) -> None:
    found = [
        result(records, base, artifacts, calibration_texts=texts).report.reproducibility
        for texts in ((), ("some text",), ("another text",))
    ]
    assert len({one.examples_sha256 for one in found if one}) == 3


def test_examples_outside_a_small_context_are_held_out(
    records: Records, base: LanguageModel, artifacts: Artifacts
) -> None:
    metrics = result(records, base, artifacts, examples=EXAMPLES[:2], training_examples=EXAMPLES[2:]).report
    assert metrics.tuned
    assert metrics.tuned.n == 6


@pytest.mark.parametrize("lever", ["head", "calibration", "cross_validation", "early_stopping"])
def test_each_lever_changes_the_result(records: Records, base: LanguageModel, artifacts: Artifacts, lever: str) -> None:
    def found(**given: Any) -> tuple[bytes, Report]:
        one = result(records, base, artifacts, steps=2, seed=1, **given)
        return one.content, one.report.model_copy(update={"reproducibility": None})  # which tells what was asked for

    assert found() != found(**{lever: False})


class Recorder(TorchDispatchMode):
    """Notes what this thread, and no other, asks torch to compute."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.operations.add(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("validation", [(), EXAMPLES[:2]])
def test_nothing_is_computed_outside_the_device(
    records: Records, base: LanguageModel, artifacts: Artifacts, validation: tuple[Example, ...]
) -> None:
    """A second thread that computes brings a second team of OpenMP threads, which slows the first one for good."""
    claim = claimed(records, base, validation_examples=validation)
    assert claim.hyperparameters.head
    with Recorder() as recorder:
        run(records, claim, base, artifacts, every=0)
    assert recorder.operations <= {"detach", "alias"}


@pytest.mark.parametrize("seed", range(4))
def test_each_example_is_held_out_once(records: Records, base: LanguageModel, artifacts: Artifacts, seed: int) -> None:
    """Four labels with one example that may stand in a prompt and one that may not."""
    words = ("fine", "awful", "odd", "short")
    inside, outside = (
        tuple(Example(text=f"{start} {word} film", label=word) for word in words) for start in ("a", "the")
    )
    metrics = run(records, claimed(records, base, inside, training_examples=outside, seed=seed), base, artifacts).report
    assert metrics.per_label
    assert [score.n for score in metrics.per_label.values()] == [2, 2, 2, 2]


def test_what_decides_a_context_is_told(records: Records, base: LanguageModel, artifacts: Artifacts) -> None:
    def told(**given: Any) -> Reproducibility:
        found = result(records, base, artifacts, **given).report.reproducibility
        assert found
        return found

    plain, validated = told(), told(validation_examples=EXAMPLES[:2])
    assert plain.examples_sha256 != validated.examples_sha256
    assert plain.hyperparameters
    assert (plain.hyperparameters.method, plain.hyperparameters.steps, plain.dtype) == ("auto", 2, "float32")
