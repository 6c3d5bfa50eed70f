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


def test_many_labels_with_one_example_are_counted_after_the_first() -> None:
    warnings = warnings_about(spec([f"label {number}" for number in range(77)]))
    assert [warning.param for warning in warnings] == [*(f"/examples/{index}/label" for index in range(3)), "/examples"]
    assert "one example or none: 74" in warnings[-1].message


def test_labels_that_people_read_as_one_are_warned_of() -> None:
    two = ["lost card", "Lost_card"] * 2
    assert found(spec(two)) == [("similar_labels", "/examples/1/label")]
    unused = spec(["a", "b"] * 2, labels=["a", "b", "A"])
    assert found(unused) == [("one_example_label", "/labels/2"), ("similar_labels", "/labels/2")]
