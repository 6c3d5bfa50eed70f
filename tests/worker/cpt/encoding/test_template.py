import pytest

from worker.cpt.encoding.template import Template, TokenType


@pytest.mark.parametrize("text", ["no text", "{text} {text}"])
def test_input_needs_the_text_exactly_once(text: str) -> None:
    with pytest.raises(ValueError, match="text"):
        Template(input=text)


@pytest.mark.parametrize("output", ["no label", "{label}{label}"])
def test_output_needs_the_label_exactly_once(output: str) -> None:
    with pytest.raises(ValueError, match="label"):
        Template(output=output)


def test_white_space_before_the_label_belongs_to_it() -> None:
    template = Template(output="it is  {label}!")
    assert template.label_text("good") == "  good"
    assert template.until_label("x")[-1] == ("it is", TokenType.OUTPUT_TEMPLATE)
    assert template.after_label == "!"


def test_braces_in_texts_are_left_alone() -> None:
    pieces = Template().until_label("{label} {0} {text}")
    assert ("{label} {0} {text}", TokenType.INPUT) in pieces
