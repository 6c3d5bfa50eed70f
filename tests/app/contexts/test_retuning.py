from typing import Any

import pytest

from app.contexts.retuning import retuned
from app.contract.tuning import Example, Template, TuningSpec
from app.errors import DomainError
from app.routes.context_creation import NewContext

BASE = TuningSpec.model_validate(
    {
        "examples": [{"text": "great film", "label": "good"}, {"text": "awful plot", "label": "bad"}],
        "validation_examples": [{"text": "lovely", "label": "good"}],
        "template": {"input": "text: {text}"},
    }
)
NEW = {"text": "boring", "label": "bad"}


def of(**fields: Any) -> TuningSpec:
    body = NewContext.model_validate({"base_context": "intents", **fields})
    return retuned(BASE, body.changes, body.remove_examples)


def test_base_is_retuned_as_it_is() -> None:
    assert of() == BASE


def test_examples_are_added_behind_those_of_the_base() -> None:
    assert of(examples=[NEW]).examples == (*BASE.examples, Example(**NEW))


def test_examples_that_are_pointed_at_are_taken_out() -> None:
    spec = of(examples=[NEW], remove_examples=["/examples/1"])
    assert spec.examples == (BASE.examples[0], Example(**NEW))


def test_fields_that_are_given_take_the_place_of_the_base_s() -> None:
    spec = of(template={}, validation_examples=[], hyperparameters={"method": "icl"})
    assert (spec.template, spec.validation_examples, spec.hyperparameters.method) == (Template(), (), "icl")


def test_labels_that_are_not_described_anew_keep_the_base_s_description() -> None:
    described = [{"name": "good", "description": "praise"}, {"name": "bad", "description": "blame"}]
    base = TuningSpec.model_validate({**BASE.model_dump(), "labels": described})
    given = {"labels": ["bad", {"name": "good"}, {"name": "fine", "description": "neither"}]}
    body = NewContext.model_validate({"base_context": "intents", **given})
    spec = retuned(base, body.changes, body.remove_examples)
    assert spec.label_names == ("bad", "good", "fine")
    assert spec.label_descriptions == {"good": "praise", "bad": "blame", "fine": "neither"}
    anew = NewContext.model_validate(
        {"base_context": "intents", "labels": ["good", {"name": "bad", "description": "x"}]}
    )
    assert retuned(base, anew.changes, []).label_descriptions == {"good": "praise", "bad": "x"}


def test_example_that_the_base_has_not_is_refused_with_those_that_it_has() -> None:
    with pytest.raises(DomainError) as caught:
        of(remove_examples=["/examples/0", "/examples/99"])
    assert caught.value.param == "/remove_examples/1"
    assert caught.value.detail == "the base context has no such example; it has /examples/0 to /examples/1"


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"remove_examples": ["/examples/2"]}, "invalid_request", "/remove_examples/0"),
        ({"remove_examples": ["/examples/0"]}, "too_few_labels", "/examples"),
        ({"examples": [NEW, {"text": "boring", "label": "good"}]}, "contradicting_examples", "/examples/1"),
        ({"examples": [{"text": "great film", "label": "bad"}]}, "contradicting_examples", "/examples/0"),
        ({"labels": ["good", "fine"]}, "label_unknown", "/base_context"),
    ],
)
def test_what_does_not_fit_the_base_is_refused_by_its_place(fields: dict[str, Any], code: str, param: str) -> None:
    with pytest.raises(DomainError) as caught:
        of(**fields)
    assert (caught.value.code, caught.value.param) == (code, param)
