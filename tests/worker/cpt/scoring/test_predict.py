from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.worker import tiny
from worker.cpt.model.base_model import word_embeddings
from worker.cpt.model.sentence_encoder import SentenceEncoder
from worker.cpt.scoring.classifier import Classifier
from worker.cpt.scoring.head import Head
from worker.cpt.scoring.mixture import Mixture
from worker.cpt.scoring.predict import Predictor
from worker.cpt.scoring.prefix import PrefixKV
from worker.cpt.scoring.scorer import score

LABELS = tuple((number, 100) for number in range(40, 50))
QUERIES, TEXTS = [[30, 31, 32], [40, 41], [50]], ["abc", "de", "f"]
ENCODER = tiny.sentence_encoder()


@pytest.fixture
def model() -> Any:
    return tiny.causal_model()


def classifier(shortlist: int | None = None) -> Classifier:
    """Of two prompts, with heads on states and on vectors."""
    generator = torch.Generator().manual_seed(1)
    encoder = Head(
        torch.zeros(1, 24), torch.ones(1, 24), 9 * torch.rand(1, 24, 10, generator=generator), torch.zeros(10)
    )
    plain = tiny.classifier(10, prompts=2)
    mixture, cheap = Mixture(torch.tensor([0.5, 0.6, 0.6]), torch.zeros(10)), Mixture(torch.ones(2), torch.zeros(10))
    return replace(plain, mixture=mixture, encoder_head=encoder, shortlist=shortlist, cheap=cheap)


def predictor(
    model: Any, one: Classifier | None, prompts: int = 2, encoder: SentenceEncoder | None = ENCODER
) -> Predictor:
    prefixes = [PrefixKV.compute(model, word_embeddings(model, ids)) for ids in [[1, 20, 21, 22], [1, 25, 26]]]
    return Predictor(tuple(prefixes[:prompts]), LABELS, one, encoder)


def test_without_a_classifier_label_scores_are_all(model: Any) -> None:
    one = predictor(model, None, prompts=1)
    expected = score(model, one.prefixes[0], LABELS, QUERIES).double().softmax(1)
    assert torch.equal(one.probabilities(model, QUERIES, TEXTS), expected)


@pytest.mark.parametrize("shortlist", [None, 0, 1, 4, 10])
def test_probabilities_sum_to_one_and_do_not_depend_on_what_else_is_asked(model: Any, shortlist: int | None) -> None:
    one = predictor(model, classifier(shortlist))
    found = one.probabilities(model, QUERIES, TEXTS)
    torch.testing.assert_close(found.sum(1), torch.ones(3, dtype=torch.float64))
    for number in range(3):
        alone = one.probabilities(model, QUERIES[number : number + 1], TEXTS[number : number + 1])
        torch.testing.assert_close(alone[0], found[number], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shortlist", [0, 4])
def test_exact_scores_all_labels_whatever_the_shortlist(model: Any, shortlist: int) -> None:
    everything = predictor(model, classifier()).probabilities(model, QUERIES, TEXTS)
    one = predictor(model, classifier(shortlist))
    assert not torch.allclose(one.probabilities(model, QUERIES, TEXTS), everything)
    torch.testing.assert_close(one.probabilities(model, QUERIES, TEXTS, exact=True), everything)


def test_labels_outside_the_shortlist_keep_what_the_heads_give_them(model: Any) -> None:
    none, some = (predictor(model, classifier(shortlist)).probabilities(model, QUERIES, TEXTS) for shortlist in (0, 4))
    assert ((some - none).abs() > 1e-6).sum(1).tolist() == [4, 4, 4]


@pytest.mark.parametrize("encoded", [True, False])
def test_shortlist_of_all_labels_is_the_exact_answer_shared_out_by_the_heads(model: Any, encoded: bool) -> None:
    whole = classifier()
    if not encoded:
        halves = Mixture(torch.tensor([0.5, 0.6]), torch.zeros(10)), Mixture(torch.ones(1), torch.zeros(10))
        whole = replace(whole, encoder_head=None, mixture=halves[0], cheap=halves[1])
    everything, listed = (
        predictor(model, replace(whole, shortlist=count)).probabilities(model, QUERIES, TEXTS) for count in (None, 10)
    )
    torch.testing.assert_close(listed, everything, rtol=1e-4, atol=1e-6)


def test_encoder_chooses_the_shortlist(model: Any) -> None:
    whole = classifier()
    some, none = (
        predictor(model, replace(whole, shortlist=count)).probabilities(model, QUERIES, TEXTS) for count in (2, 0)
    )
    likeliest = whole.listing([], ENCODER.embed(TEXTS)).topk(2, dim=1).indices.sort(1).values
    changed = [row.nonzero().flatten().tolist() for row in (some - none).abs() > 1e-6]
    assert changed == likeliest.tolist()


def test_encoder_that_is_missing_is_no_silent_loss(model: Any) -> None:
    with pytest.raises(ValueError, match="needs sentence vectors"):
        predictor(model, classifier(), encoder=None).probabilities(model, QUERIES, TEXTS)
