from typing import Any

import pytest
from pydantic import ValidationError

from app.contract.texts import MAX_LABEL_BYTES, MAX_TEXT_BYTES
from app.contract.tuning import Example, Hyperparameters, Template, TuningSpec

GOOD, BAD = {"text": "great film", "label": "good"}, {"text": "awful plot", "label": "bad"}


def fault(kind: type[Any], **fields: Any) -> tuple[str, str | None]:
    """Code and pointer of what is wrong."""
    with pytest.raises(ValidationError) as caught:
        kind.model_validate(fields)
    first = caught.value.errors()[0]
    where = first.get("ctx", {}).get("param") or "".join(f"/{part}" for part in first["loc"])
    return first["type"], where


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "text_empty"),
        (" \t\n", "text_empty"),
        ("\u200b \u2060\ufeff", "text_empty"),
        ("a\0b", "text_invalid"),
        ("a\ud800", "text_invalid"),
        ("x" * (MAX_TEXT_BYTES + 1), "text_too_long"),
        ("é" * (MAX_TEXT_BYTES // 2 + 1), "text_too_long"),
    ],
)
def test_bad_texts_and_labels_are_refused(text: str, code: str) -> None:
    assert fault(Example, text=text, label="good") == (code, "/text")
    assert fault(Example, text="great", label=text) == (code, "/label")


def test_text_of_just_the_limit_is_taken() -> None:
    assert Example(text="é" * (MAX_TEXT_BYTES // 2), label="good")


def test_label_may_not_be_as_long_as_a_text() -> None:
    assert Example(text="great", label="é" * (MAX_LABEL_BYTES // 2))
    assert fault(Example, text="great", label="é" * (MAX_LABEL_BYTES // 2) + "x") == ("text_too_long", "/label")


@pytest.mark.parametrize("label", [" good", "good\n"])
def test_label_with_white_space_around_it_is_refused(label: str) -> None:
    assert fault(Example, text="great", label=label) == ("text_invalid", "/label")


@pytest.mark.parametrize(
    ("fields", "code", "where"),
    [
        ({"examples": []}, "too_few_labels", "/examples"),
        ({"examples": [GOOD]}, "too_few_labels", "/examples"),
        ({"examples": [GOOD, BAD], "labels": ["good"]}, "too_few_labels", "/labels"),
        ({"examples": [GOOD, BAD], "labels": ["good", "bad", "good"]}, "invalid_request", "/labels"),
        ({"examples": [GOOD, BAD], "labels": ["good", "fine"]}, "label_unknown", "/examples/1/label"),
        (
            {"examples": [GOOD, BAD], "validation_examples": [{"text": "x", "label": "new"}]},
            "label_unknown",
            "/validation_examples/0/label",
        ),
        (
            {"examples": [GOOD, BAD], "training_examples": [BAD, {**GOOD, "label": "bad"}]},
            "contradicting_examples",
            "/training_examples/1",
        ),
        ({"examples": [{"text": str(n), "label": str(n)} for n in range(257)]}, "too_many_labels", "/examples"),
        (
            {"examples": [GOOD, BAD], "labels": ["good", "bad", *map(str, range(255))]},
            "too_many_labels",
            "/labels",
        ),
        (
            {"examples": [{"text": str(n), "label": str(n % 2)} for n in range(10_001)]},
            "too_many_examples",
            "/examples",
        ),
        (
            {
                "examples": [GOOD, BAD],
                "validation_examples": [{"text": str(n), "label": "good"} for n in range(9_999)],
            },
            "too_many_examples",
            "/examples",
        ),
        ({"examples": [GOOD, BAD], "unknown": 1}, "extra_forbidden", "/unknown"),
        ({"examples": [GOOD, {**BAD, "unknown": 1}]}, "extra_forbidden", "/examples/1/unknown"),
    ],
)
def test_examples_that_do_not_fit_together_are_refused(fields: dict[str, Any], code: str, where: str) -> None:
    assert fault(TuningSpec, **fields) == (code, where)


def test_most_that_is_allowed_is_taken() -> None:
    labels = [str(n) for n in range(256)]
    spec = TuningSpec.model_validate({"examples": [{"text": str(n), "label": str(n % 256)} for n in range(10_000)]})
    assert spec.label_names == tuple(labels)


def test_labels_are_those_of_the_examples_in_order_of_appearance() -> None:
    spec = TuningSpec.model_validate(
        {"examples": [BAD, GOOD], "training_examples": [{"text": "so so", "label": "fair"}, BAD]}
    )
    assert spec.label_names == ("bad", "good", "fair")


def test_labels_may_be_names_or_have_descriptions() -> None:
    described = {"name": "good", "description": "praise"}
    spec = TuningSpec.model_validate({"examples": [GOOD, BAD], "labels": [described, {"name": "bad"}, "fair"]})
    assert spec.label_names == ("good", "bad", "fair")
    assert spec.label_descriptions == {"good": "praise"}
    assert TuningSpec.model_validate_json(spec.model_dump_json()) == spec


@pytest.mark.parametrize(
    ("labels", "code", "where"),
    [
        (["good", {"name": "bad", "description": " "}], "text_empty", "/labels/1/described/description"),
        (["good", {"description": "no name"}], "missing", "/labels/1/described/name"),
        (["good", {"name": "bad", "weight": 1}], "extra_forbidden", "/labels/1/described/weight"),
        (["good", {"name": "good"}], "invalid_request", "/labels"),
        (["good", ["bad"]], "multi_label_unsupported", "/labels/1/name"),
        (["good", 7], "string_type", "/labels/1/name"),
    ],
)
def test_bad_label_is_refused_by_its_place(labels: list[Any], code: str, where: str) -> None:
    assert fault(TuningSpec, examples=[GOOD, BAD], labels=labels) == (code, where)


def test_several_labels_of_an_example_are_refused_by_name() -> None:
    code, where = fault(TuningSpec, examples=[GOOD, {"text": "so so", "label": ["good", "bad"]}])
    assert (code, where) == ("multi_label_unsupported", "/examples/1/label")


def test_calibration_texts_are_checked_as_texts_are() -> None:
    assert TuningSpec.model_validate({"examples": [GOOD, BAD], "calibration_texts": ["so so"]}).calibration_texts
    for texts, code, where in (
        (["fine", " "], "text_empty", "/calibration_texts/1"),
        (["x"] * 10_001, "too_many_inputs", "/calibration_texts"),
    ):
        assert fault(TuningSpec, examples=[GOOD, BAD], calibration_texts=texts) == (code, where)


def test_the_same_example_twice_is_no_contradiction() -> None:
    assert TuningSpec.model_validate({"examples": [GOOD, BAD, GOOD], "validation_examples": [BAD]})


@pytest.mark.parametrize(
    "part",
    [
        {"input": "no placeholder"},
        {"input": "{text} twice {text}"},
        {"output": "no placeholder"},
        {"output": "{label}{label}"},
    ],
)
def test_template_without_its_placeholders_is_refused(part: dict[str, str]) -> None:
    assert fault(Template, **part)[0] == "template_invalid"


@pytest.mark.parametrize(
    "values",
    [
        {"steps": 0},
        {"steps": 10_001},
        {"steps": 1.5},
        {"steps": "AUTO"},
        {"learning_rate": 0},
        {"learning_rate": float("nan")},
        {"learning_rate": float("inf")},
        {"learning_rate": 10**400},
        {"batch_size": 0},
        {"seed": -1},
        {"seed": 2**63},
        {"projection_epsilon": -0.1},
        {"projection_format_epsilon": float("inf")},
        {"weighted_loss_type": "linear"},
        {"loss_decay_factor": -0.1},
        {"loss_decay_factor": 1.1},
        {"leave_one_out": "perhaps"},
        {"token_dropout": 1.0},
        {"method": "lora"},
        {"optimizer": "sgd"},
        {"max_seconds": 0},
        {"max_seconds": float("inf")},
        {"max_seconds": True},
        {"context_examples": 0},
        {"context_examples": 2.5},
        {"target_error": 0},
        {"target_error": "0.05"},
    ],
)
def test_hyperparameters_out_of_range_are_refused(values: dict[str, Any]) -> None:
    (name,) = values
    assert fault(Hyperparameters, **values)[1] in {f"/{name}", f"/{name}/constrained-int", *alternatives(name)}


def alternatives(name: str) -> set[str]:
    """A validator also names the member of a union."""
    return {f"/{name}/{member}" for member in ("int", "float", "bool", "constrained-float", "literal['auto']")}


def test_a_refusal_does_not_tell_the_text() -> None:
    with pytest.raises(ValidationError) as caught:
        TuningSpec.model_validate({"examples": [GOOD, {**GOOD, "label": "my secret"}]})
    assert "secret" not in str(caught.value)
    assert "great" not in str(caught.value)
