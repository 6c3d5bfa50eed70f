"""Plain contexts: what a request brings is answered for like a context, and kept while it is used."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from transformers import OPTConfig, OPTForCausalLM

from app.contract.messages import ClassifyBatch, PartReply
from app.contract.plain import PlainContext, PlainLabel
from app.contract.tuning import Template as ContextTemplate
from tests.worker.tiny import CONTEXT_LENGTH, confidences, part
from worker.artifacts import Artifacts
from worker.classification.classify import classify
from worker.classification.plain import prepare_plain
from worker.classification.preparing import prepare
from worker.classification.resident import ResidentContexts
from worker.classification.together import Together
from worker.cpt.encoding.context import Context, encode_labels, encode_query
from worker.cpt.encoding.template import Template
from worker.cpt.scoring.prefix import PrefixKV
from worker.cpt.scoring.scorer import score
from worker.device import Device
from worker.models import LanguageModel

EXAMPLES = (("a fine film", "good"), ("dull", "bad"))
LABELS = (PlainLabel(name="good"), PlainLabel(name="bad", description="it was no fun"))
PLAIN = PlainContext(examples=EXAMPLES, labels=LABELS)
#: With this template they fit into the context of the tiny model, but are too many to read each one's text.
MANY_LABELS = tuple(PlainLabel(name=letter * 10) for letter in "abcdefghijklmnopqrst")
BARE = ContextTemplate(input="{text}", separator="=", output="{label}", between=";")
SAME = (PlainLabel(name="é"), PlainLabel(name="e\u0301"))
TEXT = "s"
#: Together they fit into the context of the tiny model, but none of them once more after both.
LONG = (("w" * 180, "good"), ("v" * 180, "bad"))
#: With the bare template they leave room for the shortest text with the longest label, to the token.
FULL = (("w" * 247, "good"), ("v" * 247, "bad"))


@pytest.fixture
def residents(base: LanguageModel, artifacts: Artifacts) -> ResidentContexts:
    return ResidentContexts(artifacts, partial(prepare, base), 10**9, partial(prepare_plain, base))


def ask(base: LanguageModel, residents: ResidentContexts, plain: PlainContext, *, along: bool = True) -> PartReply:
    contexts = {plain.address: plain} if along else {}
    asked = ClassifyBatch(
        id="batch_1", reply_to="", model=base.id, small=True, parts=(part(plain.address, TEXT),), plain=contexts
    )
    (reply,) = classify(base, residents, Together(Device()), asked)
    return reply


@pytest.mark.parametrize(
    ("plain", "corrected_by"),
    [
        (PlainContext(labels=LABELS, examples=EXAMPLES), [text for text, _ in EXAMPLES]),
        (PlainContext(labels=MANY_LABELS, template=BARE), ["N/A", "...", "?"]),
        (PlainContext(labels=LABELS, examples=LONG), ["N/A", "...", "?"]),
        (
            PlainContext(labels=LABELS, examples=(("w" * 250, "good"), ("fine", "good"), ("dull", "bad"))),
            ["fine", "dull"],
        ),
        (PlainContext(labels=LABELS, examples=(*LONG, ("fine", "good"), ("nice", "good"))), ["N/A", "...", "?"]),
        (PlainContext(labels=LABELS, examples=FULL, template=BARE), ["?"]),
    ],
)
def test_answer_is_that_of_the_context_less_what_it_says_of_any_text(
    base: LanguageModel, residents: ResidentContexts, plain: PlainContext, corrected_by: list[str]
) -> None:
    template = Template(**plain.template.model_dump())
    ids = Context.build(base.tokenizer, template, plain.shown).tokens.ids
    prefix = PrefixKV.compute(base.model, base.model.get_input_embeddings()(torch.tensor(ids)))
    queries = [encode_query(base.tokenizer, template, text) for text in (TEXT, *corrected_by)]
    labels = encode_labels(base.tokenizer, template, [label.name for label in plain.labels])
    scores = score(base.model, prefix, labels, queries).double().log_softmax(1)
    expected = (scores[0] - scores[1:].mean(0)).softmax(0).tolist()
    reply = ask(base, residents, plain)
    assert list(confidences([reply])[0]) == pytest.approx(expected, abs=1e-5)
    assert reply.context_tokens == len(ids)


def test_no_text_is_read_past_the_positions_of_the_model(base: LanguageModel) -> None:
    sizes = {"hidden_size": 32, "word_embed_proj_dim": 32, "ffn_dim": 48, "num_hidden_layers": 2}
    config = OPTConfig(vocab_size=258, num_attention_heads=4, max_position_embeddings=CONTEXT_LENGTH, **sizes)
    positioned = replace(base, model=OPTForCausalLM(config).eval().requires_grad_(False))
    plain = PlainContext(labels=LABELS, examples=LONG)
    assert len(prepare_plain(positioned, plain).predictor.prefixes) == 1


def test_context_is_kept_by_its_address_and_asked_for_where_it_is_not(
    base: LanguageModel, residents: ResidentContexts
) -> None:
    refused = ask(base, residents, PLAIN, along=False)
    assert refused.failure is not None
    assert refused.failure.code == "examples_needed"
    first = ask(base, residents, PLAIN)
    assert ask(base, residents, PLAIN, along=False) == first
    assert len(residents) == 1


def test_label_without_an_example_is_shown_by_its_description_or_its_name() -> None:
    assert PlainContext(labels=LABELS).shown == (("good", "good"), ("it was no fun", "bad"))
    assert PlainContext(labels=LABELS, examples=EXAMPLES[:1]).shown == (("it was no fun", "bad"), EXAMPLES[0])


def test_instructions_and_descriptions_change_the_answer(base: LanguageModel, residents: ResidentContexts) -> None:
    plain = PlainContext(labels=LABELS)
    instructed = PlainContext(labels=LABELS, instructions="Was it fun?")
    undescribed = PlainContext(labels=tuple(PlainLabel(name=label.name) for label in LABELS))
    rows = [confidences([ask(base, residents, one)])[0] for one in (plain, instructed, undescribed)]
    assert rows[0] != pytest.approx(rows[1], abs=1e-4)
    assert rows[0] != pytest.approx(rows[2], abs=1e-4)


@pytest.mark.parametrize(
    ("plain", "code", "param"),
    [
        (PlainContext(labels=LABELS, examples=(("long " * 200, "good"),)), "context_too_long", "/examples"),
        (PlainContext(labels=LABELS, instructions="long " * 200), "context_too_long", "/labels"),
        (PlainContext(labels=LABELS, examples=(*FULL, ("x", "bad")), template=BARE), "context_too_long", "/examples"),
        (
            PlainContext(labels=(PlainLabel(name="é"), PlainLabel(name="e\u0301"))),
            "labels_indistinguishable",
            "/labels",
        ),
    ],
)
def test_what_the_model_cannot_read_is_refused(
    base: LanguageModel, residents: ResidentContexts, plain: PlainContext, code: str, param: str
) -> None:
    failure = ask(base, residents, plain).failure
    assert failure is not None
    assert (failure.code, failure.param) == (code, param)
    assert len(residents) == 0
