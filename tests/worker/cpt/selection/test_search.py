from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.worker import tiny
from worker.cpt.encoding.context import encode_labels
from worker.cpt.encoding.shots import Shots
from worker.cpt.encoding.template import Template
from worker.cpt.scoring.prefix import PrefixKV
from worker.cpt.scoring.scorer import score
from worker.cpt.selection.search import Found, Search, SearchSettings, held_out_folds
from worker.cpt.tuning.tuner import Tuner, TuningSettings

LABELS = ("good", "bad")
WORDS = (("fine", 0), ("awful", 1), ("great", 0), ("dull", 1), ("lovely", 0), ("poor", 1))
CONFIG = {"opt_projection_epsilon": 1.0, "opt_projection_format_epsilon": 1.0}
PLAIN = SearchSettings(TuningSettings(steps=3, learning_rate=0.05), (CONFIG,), stops=(3,))
WHOLE = replace(PLAIN, stops=(0, 1, 3), folds=True, calibration=True, head=True)
LABEL_ONLY = CONFIG | {"opt_weighted_loss_type": "decay", "opt_loss_decay_factor": 0.0}


@pytest.fixture
def model() -> Any:
    return tiny.causal_model()


def shots(count: int = 6, context: int | None = None) -> Shots:
    tokenizer, template = tiny.tokenizer(), Template()
    return Shots(
        tokenizer=tokenizer,
        template=template,
        labels=LABELS,
        label_ids=tuple(map(tuple, encode_labels(tokenizer, template, LABELS))),
        texts=tuple(f"a {word} film" for word, _ in WORDS[:count]),
        truth=tuple(label for _, label in WORDS[:count]),
        context=count if context is None else context,
    )


def search(model: Any, settings: SearchSettings, some: Shots | None = None) -> Search:
    return Search(model, some or shots(), settings, tiny.CONTEXT_LENGTH)


def found(model: Any, settings: SearchSettings, some: Shots | None = None) -> Found:
    running = search(model, settings, some)
    while not running.finished:
        running.step()
    return running.result()


def test_without_options_a_search_is_the_tuner(model: Any) -> None:
    one = found(model, PLAIN)
    context = shots().context_of(range(6))
    tuner = Tuner(model, context, shots().training_of(range(6)), context.config(**CONFIG), PLAIN.tuning)
    losses = [tuner.step() for _ in range(3)]
    assert len(losses) == one.steps == 3
    assert torch.equal(one.embedding + one.delta, tuner.embedding.tuned())
    assert one.held_out is None
    scores = torch.randn(4, 2)
    torch.testing.assert_close(one.classifier.probabilities(scores), scores.double().softmax(1))


def test_held_out_icl_is_the_plain_score_after_the_other_folds(model: Any) -> None:
    held_out = found(model, WHOLE).held_out
    assert held_out
    place = 0
    for fold in held_out.folds:
        kept = [number for number in range(6) if number not in fold]
        ids = shots().context_of(kept).tokens.ids
        prefix = PrefixKV.compute(model, model.get_input_embeddings()(torch.tensor(ids)).detach())
        expected = score(model, prefix, shots().label_ids, shots().queries_of(fold)).double().softmax(1)
        torch.testing.assert_close(held_out.icl[place : place + len(fold)], expected, rtol=1e-5, atol=1e-6)
        place += len(fold)
    assert place == 6


def test_what_is_held_out_has_no_part_in_its_prediction(model: Any) -> None:
    """Another text in a fold changes the predictions of that fold's trials only where it is itself predicted."""
    settings = replace(WHOLE, calibration=False, head=False, stops=(3,))
    usual = found(model, settings).held_out
    assert usual
    changed_number = usual.folds[0][0]
    texts = tuple("something else" if n == changed_number else text for n, text in enumerate(shots().texts))
    other = found(model, settings, replace(shots(), texts=texts)).held_out
    assert other
    assert other.folds == usual.folds
    same = [place for place in range(len(usual.folds[0])) if usual.folds[0][place] != changed_number]
    torch.testing.assert_close(other.tuned[same], usual.tuned[same], rtol=1e-5, atol=1e-6)
    assert not torch.allclose(other.tuned[0], usual.tuned[0])


@pytest.mark.parametrize("done", range(10))
def test_search_goes_on_from_any_state_as_if_unbroken(model: Any, done: int) -> None:
    settings = replace(WHOLE, configs=(CONFIG,))
    unbroken = found(model, settings)
    first = search(model, settings)
    for _ in range(done):
        first.step()
    state = {name: tensor.clone() for name, tensor in first.state().items()}
    second = search(model, settings)
    second.load_state(state)
    while not second.finished:
        second.step()
    resumed = second.result()
    assert torch.equal(resumed.delta, unbroken.delta)
    for name, tensor in unbroken.classifier.tensors().items():
        assert torch.equal(resumed.classifier.tensors()[name], tensor)


Change = Callable[[dict[str, Any]], object]


@pytest.mark.parametrize(
    "change",
    [
        lambda state: state.pop("run"),
        lambda state: state.update(run=torch.tensor(99)),
        lambda state: state.update(chosen=torch.tensor([7, 1])),
        lambda state: state.pop("measured/0/icl"),
        lambda state: state.pop("tuner/delta"),
    ],
)
def test_state_of_something_else_is_refused(model: Any, change: Change) -> None:
    running = search(model, WHOLE)
    for _ in range(4):
        running.step()
    state = running.state()
    change(state)
    with pytest.raises(ValueError, match="does not belong"):
        search(model, WHOLE).load_state(state)


def test_every_way_is_tried_on_every_fold(model: Any) -> None:
    settings = replace(WHOLE, configs=(CONFIG, LABEL_ONLY))
    running = search(model, settings)
    assert running.total_steps == (2 * 3 + 1) * 3
    steps = 0
    while not running.finished:
        running.step()
        steps += 1
    result = running.result()
    assert steps == running.total_steps - 3 + result.steps
    assert result.config in settings.configs


def test_small_context_is_kept_whole_and_only_others_are_held_out() -> None:
    folds = held_out_folds(shots(6, context=2), WHOLE)
    assert sorted(number for fold in folds for number in fold) == [2, 3, 4, 5]
    assert held_out_folds(shots(3), WHOLE) == []
    assert held_out_folds(shots(5, context=2), WHOLE) == []


def test_calibration_takes_from_the_scores_what_the_context_says_of_any_text(model: Any) -> None:
    """With every own copy hidden, the mean over the examples is exactly level."""
    some = shots()
    result = found(model, replace(PLAIN, calibration=True), some)
    prefix = PrefixKV.compute(model, result.embedding + result.delta)
    hidden = []
    for number in range(6):
        first, end = result.tokens.span(number)
        marks = torch.zeros(len(result.tokens), dtype=torch.bool)
        marks[first:end] = True
        hidden.append(marks)
    scores = score(model, prefix, some.label_ids, some.queries_of(range(6)), hidden=hidden).log_softmax(1)
    torch.testing.assert_close(result.classifier.score_bias, scores.mean(0), rtol=1e-5, atol=1e-5)
