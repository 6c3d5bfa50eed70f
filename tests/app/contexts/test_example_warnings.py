from app.contexts.example_warnings import warnings_about
from app.contract.tuning import TuningSpec


def spec(given: list[str], **changes: object) -> TuningSpec:
    """One example for each label ``given``, all of different texts."""
    examples = [{"text": f"text {number}", "label": label} for number, label in enumerate(given)]
    return TuningSpec.model_validate({"examples": examples, **changes})


def found(spec: TuningSpec) -> list[tuple[str, str]]:
    return [(warning.code, warning.param) for warning in warnings_about(spec)]


def test_sound_examples_have_no_warnings() -> None:
    assert found(spec(["a", "b", "a", "b", "a", "a", "a", "a"])) == []


def test_repeated_examples_are_one_warning_at_the_first_repeat() -> None:
    again = {"text": "text 1", "label": "b"}
    repeated = spec(["a", "b", "a", "b"], training_examples=[again], validation_examples=[again])
    assert found(repeated) == [("duplicate_examples", "/training_examples/0")]
    assert warnings_about(repeated)[0].message.endswith(": 2")


def test_label_with_one_example_is_pointed_at() -> None:
    assert found(spec(["a", "b", "a"])) == [("one_example_label", "/examples/1/label")]
    assert found(spec(["a", "b", "a"], training_examples=[{"text": "more", "label": "b"}])) == []


def test_label_without_examples_is_pointed_at_in_the_label_set() -> None:
    assert found(spec(["a", "b", "a", "b"], labels=["a", "b", "c"])) == [("one_example_label", "/labels/2")]


def test_uneven_labels_are_warned_of() -> None:
    assert found(spec(["a"] * 6 + ["b"] * 2)) == []
    assert found(spec(["a"] * 7 + ["b"] * 2)) == [("label_imbalance", "/examples")]
