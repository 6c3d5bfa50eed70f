from dataclasses import replace
from typing import Any

import pytest

from tests.worker import tiny
from worker.cpt.encoding.context import Context, Tokens, encode_example, encode_labels, encode_queries, encode_query
from worker.cpt.encoding.template import Template, TokenType

EXAMPLES = [("where is my card?", "card arrival"), ("héllo 🎉 ok.", "positive"), ("x\n", "C++")]


def written(tokenizer: Any, tokens: Tokens, kind: TokenType) -> str:
    pairs = zip(tokens.ids, tokens.types, strict=True)
    text: str = tokenizer.decode([token for token, other in pairs if other == kind])
    return text


def test_context_reads_as_the_template_says(tokenizer: Any) -> None:
    context = Context.build(tokenizer, Template(), EXAMPLES)
    assert tokenizer.decode(context.tokens.ids) == (
        "input: where is my card?\noutput: card arrival\n\n"
        "input: héllo 🎉 ok.\noutput: positive\n\n"
        "input: x\n\noutput: C++"
    )


def test_each_token_has_the_role_of_its_text(tokenizer: Any) -> None:
    template = Template(input="Q: {text} <<", separator="\n", output="A: {label} !", between="\n\n")
    tokens = encode_example(tokenizer, template, "nice  day", "very good")
    assert written(tokenizer, tokens, TokenType.INPUT) == " nice  day"
    assert written(tokenizer, tokens, TokenType.INPUT_TEMPLATE) == "Q: <<"
    assert written(tokenizer, tokens, TokenType.SEPARATOR) == "\n\n\n"
    assert written(tokenizer, tokens, TokenType.LABEL) == " very good"
    assert written(tokenizer, tokens, TokenType.OUTPUT_TEMPLATE) == "A: !"


def test_label_has_the_same_ids_everywhere(tokenizer: Any) -> None:
    label_ids = tuple(encode_labels(tokenizer, Template(), ["C++", "positive"])[0])
    example = encode_example(tokenizer, Template(), "x", "C++")
    context = Context.build(tokenizer, Template(), EXAMPLES)
    for tokens in (example, context.tokens):
        assert tokens.ids[-len(label_ids) :] == label_ids
        assert tokens.types[-len(label_ids) :] == (TokenType.LABEL,) * len(label_ids)


def test_training_example_has_the_tokens_of_its_copy_in_the_context(tokenizer: Any) -> None:
    context = Context.build(tokenizer, Template(), EXAMPLES)
    example = encode_example(tokenizer, Template(), *EXAMPLES[1])
    first, end = context.tokens.span(1)
    between = example.examples.count(-1)
    assert context.tokens.ids[first - between : end] == example.ids


def test_query_is_an_example_up_to_its_label(tokenizer: Any) -> None:
    query = encode_query(tokenizer, Template(), "where is it")
    example = encode_example(tokenizer, Template(), "where is it", "here")
    assert tuple(query) == example.ids[: example.types.index(TokenType.LABEL)]


@pytest.mark.parametrize(
    "template", [Template(), Template(input="{text}", separator=" ", output="{label}", between="b")]
)
def test_queries_together_have_the_ids_that_each_has_alone(tokenizer: Any, template: Template) -> None:
    """Also where a template lets a text join what stands before it."""
    texts = ["where is it", "e", " x", "héllo 🎉 ok.", "", "a much longer text than the others are, by far"]
    alone = [encode_query(tokenizer, template, text) for text in texts]
    assert encode_queries(tokenizer, template, texts) == alone
    assert encode_queries(tokenizer, template, []) == []


def test_label_that_begins_another_is_scored_with_what_follows(tokenizer: Any) -> None:
    plain = encode_labels(tokenizer, Template(), ["card arrival", "card linking"])
    told_apart = encode_labels(tokenizer, Template(), ["card arrival", "card"])
    assert plain[0] == told_apart[0][:-1]
    assert tokenizer.decode(told_apart[0][-1]).isspace()
    assert told_apart[0][-1] == told_apart[1][-1]


@pytest.mark.parametrize(
    ("template", "labels"),
    [
        (Template(output="output: {label}."), ["1", "1.1", "2"]),
        (Template(output="output: {label}."), ["card", "card."]),
        (Template(output="output: {label}/"), ["billing", "billing/refund"]),
        (Template(output="({label})"), ["C", "C) x"]),
        (Template(between="\n"), ["a", "a\nb"]),
        (Template(between=""), ["card", "card arrival"]),
    ],
)
def test_as_much_of_what_follows_is_scored_as_tells_labels_apart(template: Template, labels: list[str]) -> None:
    bytewise = tiny.tokenizer()
    scored = encode_labels(bytewise, template, labels)
    following = template.after_label + template.between + "input: "
    for ids, label in zip(scored, labels, strict=True):
        text = bytewise.decode(ids).removeprefix(" ")
        assert text.startswith(label)
        assert f"{label}{following}".startswith(text)
    for ids in scored:
        assert [other[: len(ids)] for other in scored].count(ids) == 1


def test_no_more_of_what_follows_is_scored_than_is_needed(tokenizer: Any) -> None:
    for template in (Template(), Template(output="{label}, ", between="; ")):
        for labels in (["card arrival", "card"], ["card arrival", "card linking"]):
            extra = 1 if "card" in labels else 0
            examples = [encode_example(tokenizer, template, "x", label) for label in labels]
            own = [example.types.count(TokenType.LABEL) for example in examples]
            assert [len(ids) - extra for ids in encode_labels(tokenizer, template, labels)] == own


@pytest.mark.parametrize(
    ("template", "labels"),
    [
        (Template(input="{text}", separator="=", output="{label}", between=""), ["card", "card arrival"]),
        (Template(input="{text}", separator="=", output="{label}/", between="b"), ["a", "a/b"]),
    ],
)
def test_labels_that_nothing_tells_apart_are_refused(template: Template, labels: list[str]) -> None:
    with pytest.raises(ValueError, match="beginning of another"):
        encode_labels(tiny.tokenizer(), template, labels)


def test_labels_with_equal_tokens_are_refused(tokenizer: Any) -> None:
    with pytest.raises(ValueError, match="same tokens"):
        encode_labels(tokenizer, Template(), ["good", "good"])


def test_special_tokens_in_texts_are_plain_text(tokenizer: Any) -> None:
    query = encode_query(tokenizer, Template(), "a <|im_start|> b")
    assert not set(query) & set(tokenizer.all_special_ids)
    assert "<|im_start|>" in tokenizer.decode(query)


@pytest.mark.parametrize("example", [(" ", "label"), ("text", "")])
def test_empty_text_or_label_is_refused(tokenizer: Any, example: tuple[str, str]) -> None:
    with pytest.raises(ValueError, match="text and a label"):
        Context.build(tokenizer, Template(output="={label}"), [example])


def test_context_without_examples_is_refused(tokenizer: Any) -> None:
    with pytest.raises(ValueError, match="at least one"):
        Context.build(tokenizer, Template(), [])


def test_reference_integers_round_trip(task: Any) -> None:
    tokens = task.context.tokens
    assert Tokens.from_reference(tokens.ids, tokens.reference_types()) == tokens
    assert tokens.reference_types()[0] == 0
    assert max(tokens.reference_types()) == 4 * 3 + 4


def test_span_covers_a_whole_example_and_nothing_between(task: Any) -> None:
    first, end = task.context.tokens.span(2)
    assert set(task.context.tokens.examples[first:end]) == {2}
    assert TokenType.SEPARATOR in task.context.tokens.types[first:end]
    with pytest.raises(ValueError, match="no example 4"):
        task.context.tokens.span(4)


def test_tokens_of_different_lengths_are_refused(task: Any) -> None:
    with pytest.raises(ValueError, match="same length"):
        replace(task.context.tokens, ids=(1, 2))
