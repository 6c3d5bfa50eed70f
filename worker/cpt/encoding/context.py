"""From texts and labels to typed tokens: contexts, training examples, queries and labels.

An example's tokens are those of its text up to the label, of the label, and of what follows the label, one after the
other, so that a label has the same ids in a context, in a training example and in scoring. Each part is tokenised as it
occurs in running text. Text is never read as a special token.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from worker.cpt.encoding.template import Template, TokenType
from worker.cpt.tuning.config import CPTConfig

# Stands for the text before an example: a letter, which no tokeniser joins with white space that follows it.
_ANCHOR = "a"

_Span = tuple[int, int, int]  # id, start, end


@dataclass(frozen=True)
class Tokens:
    """Typed tokens, one entry each in `ids`, `types` and `examples`.

    `examples` holds the number of the example a token belongs to, -1 for what stands between examples and for BOS.
    `context_index` is the number of a training example's own copy in the context, None if it has none.
    """

    ids: tuple[int, ...]
    types: tuple[TokenType, ...]
    examples: tuple[int, ...]
    context_index: int | None = None

    def __post_init__(self) -> None:
        if not len(self.ids) == len(self.types) == len(self.examples):
            raise ValueError("ids, types and examples must have the same length.")

    def __len__(self) -> int:
        return len(self.ids)

    def __add__(self, other: "Tokens") -> "Tokens":
        return Tokens(self.ids + other.ids, self.types + other.types, self.examples + other.examples)

    def belonging_to(self, example: int) -> "Tokens":
        """The same tokens as part of another example; those between examples stay there."""
        return replace(self, examples=tuple(example if owner >= 0 else -1 for owner in self.examples))

    def span(self, example: int) -> tuple[int, int]:
        """First token and end of an example; raises ValueError for an example without tokens."""
        if example not in self.examples:
            raise ValueError(f"The context has no example {example}.")
        first = self.examples.index(example)
        return first, first + self.examples.count(example)

    def reference_types(self) -> list[int]:
        """The reference's integers: 0 for separators, else 4 times the example plus 1 to 4."""
        pairs = zip(self.types, self.examples, strict=True)
        return [0 if kind == TokenType.SEPARATOR else 4 * example + kind for kind, example in pairs]

    @classmethod
    def from_reference(cls, ids: Sequence[int], reference_types: Sequence[int]) -> "Tokens":
        """Read the reference's integers. A separator inside an example belongs to it, any other to none."""
        types = [TokenType((number - 1) % 4 + 1) if number > 0 else TokenType.SEPARATOR for number in reference_types]
        owners = [(number - 1) // 4 if number > 0 else -1 for number in reference_types]
        before = _carried(owners)
        after = _carried(owners[::-1])[::-1]
        examples = [left if left == right else -1 for left, right in zip(before, after, strict=True)]
        return cls(tuple(ids), tuple(types), tuple(examples))


def _carried(owners: list[int]) -> list[int]:
    """Each entry, or the last entry before it that is not -1."""
    last, carried = -1, []
    for owner in owners:
        last = owner if owner >= 0 else last
        carried.append(last)
    return carried


@dataclass(frozen=True)
class Context:
    """The tokens of the examples a context consists of, in their order."""

    tokens: Tokens

    def __len__(self) -> int:
        return len(self.tokens)

    @classmethod
    def build(
        cls, tokenizer: Any, template: Template, examples: Sequence[tuple[str, str]], instructions: str = ""
    ) -> "Context":
        """Template and tokenise (text, label) pairs; BOS comes first if the tokenizer adds one, then `instructions`.

        Raises:
            ValueError: no examples, an empty text or label, or a tokenizer without offsets.
        """
        if not examples:
            raise ValueError("A context needs at least one example.")
        tokens = _untyped(_bos(tokenizer)) + _untyped(_ids(_running(tokenizer, instructions, after="")))
        for number, (text, label) in enumerate(examples):
            example = _encode(tokenizer, template, text, label, first=number == 0 and not instructions)
            tokens = tokens + example.belonging_to(number)
        return cls(tokens)

    def config(self, **settings: Any) -> CPTConfig:
        """A CPTConfig for this context; `settings` are the fields that are not the tokens themselves."""
        return CPTConfig(
            task_type="CAUSAL_LM",
            cpt_token_ids=list(self.tokens.ids),
            cpt_tokens_type_mask=self.tokens.reference_types(),
            **settings,
        )


def encode_example(tokenizer: Any, template: Template, text: str, label: str) -> Tokens:
    """A training example as it follows a context, with the `between` before it (example number 0)."""
    return _encode(tokenizer, template, text, label, first=False)


def encode_query(tokenizer: Any, template: Template, text: str) -> list[int]:
    """The ids of a query as it follows a context: `between` and everything up to the label."""
    return list(_encode_until_label(tokenizer, template, text, first=False).ids)


def encode_queries(tokenizer: Any, template: Template, texts: Sequence[str]) -> list[list[int]]:
    """The ids of each query, as `encode_query` gives them; many at once take the tokenizer a fraction of the time."""
    running = [template.between + "".join(piece for piece, _ in template.until_label(text)) for text in texts]
    return [_ids(spans) for spans in _each_running(tokenizer, running, after=_ANCHOR)]


def encode_labels(tokenizer: Any, template: Template, labels: Sequence[str]) -> list[list[int]]:
    """The ids each label is scored by.

    These are the label's ids in an example. If one label's ids are the beginning of another's ("card",
    "card arrival"), all labels get the first token of what follows them in the template, so that a label which stops
    is told from one that goes on, and more of it where that does not tell them apart ("1", "1.1" before a full stop).

    Raises:
        ValueError: two labels with the same ids, a label without any, or one that begins another whatever follows.
    """
    ids = [_encode_label(tokenizer, template, label) for label in labels]
    if any(not label for label in ids):
        raise ValueError("A label must have at least one token.")
    if len(set(map(tuple, ids))) < len(ids):
        raise ValueError("Two labels have the same tokens.")
    if _told_apart(ids):
        return ids
    after = [_encode_following(tokenizer, template, label) for label in labels]
    for count in range(1, max(map(len, after)) + 1):
        longer = [label + following[:count] for label, following in zip(ids, after, strict=True)]
        if _told_apart(longer):
            return longer
    raise ValueError("A label is the beginning of another, and what follows them in the template is so too.")


def _told_apart(ids: Sequence[Sequence[int]]) -> bool:
    """Whether none is the beginning of another, or the same."""
    distinct = {tuple(label) for label in ids}
    begun = any(label[:end] in distinct for label in distinct for end in range(1, len(label)))
    return len(distinct) == len(ids) and not begun


def _encode_following(tokenizer: Any, template: Template, label: str) -> list[int]:
    """The ids of what follows a label up to the next text."""
    ids: list[int] = []
    for piece in template.following:
        ids += _ids(_running(tokenizer, piece, after=label))
        label += piece
    return ids


def _encode(tokenizer: Any, template: Template, text: str, label: str, *, first: bool) -> Tokens:
    label_ids = _encode_label(tokenizer, template, label)
    if not text.strip() or not label_ids:
        raise ValueError("An example needs a text and a label.")
    after = _ids(_running(tokenizer, template.after_label, after=label))
    tokens = _encode_until_label(tokenizer, template, text, first=first)
    types = (TokenType.LABEL,) * len(label_ids) + (TokenType.OUTPUT_TEMPLATE,) * len(after)
    return tokens + Tokens(tuple(label_ids + after), types, (0,) * len(types))


def _encode_until_label(tokenizer: Any, template: Template, text: str, *, first: bool) -> Tokens:
    pieces = [(piece, kind, 0) for piece, kind in template.until_label(text)]
    if not first:
        pieces.insert(0, (template.between, TokenType.SEPARATOR, -1))
    running = "".join(piece for piece, _, _ in pieces)
    roles = [(kind, owner) for piece, kind, owner in pieces for _ in piece]  # one per character
    spans = _running(tokenizer, running, after="" if first else _ANCHOR)
    owned = [roles[_first_visible(running, start, end)] for _, start, end in spans]
    return Tokens(tuple(_ids(spans)), tuple(kind for kind, _ in owned), tuple(owner for _, owner in owned))


def _encode_label(tokenizer: Any, template: Template, label: str) -> list[int]:
    return _ids(_running(tokenizer, template.label_text(label), after=template.before_label))


def _running(tokenizer: Any, text: str, after: str) -> list[_Span]:
    """The tokens of `text` where it follows `after`; positions count from the start of `text`."""
    return _each_running(tokenizer, [text], after)[0] if text else []


def _each_running(tokenizer: Any, texts: Sequence[str], after: str) -> list[list[_Span]]:
    found: list[list[_Span]] = []
    if not texts:
        return found
    for text, joined in zip(texts, _tokenize(tokenizer, [after + text for text in texts]), strict=True):
        spans = [(token, start - len(after), end - len(after)) for token, start, end in joined if end > len(after)]
        alone = spans and spans[0][1] < 0  # One token spans the border: the text is tokenised on its own.
        found.append(_tokenize(tokenizer, [text])[0] if alone else spans)
    return found


def _tokenize(tokenizer: Any, texts: Sequence[str]) -> list[list[_Span]]:
    if not tokenizer.is_fast:
        raise ValueError("The tokenizer gives no offsets; a fast tokenizer is needed.")
    encoded = tokenizer(list(texts), add_special_tokens=False, return_offsets_mapping=True, split_special_tokens=True)
    rows = zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)
    return [[(token, *place) for token, place in zip(*row, strict=True)] for row in rows]


def _first_visible(text: str, start: int, end: int) -> int:
    """The character that decides a token's role: its first that is not white space, else its first."""
    visible = (position for position in range(start, end) if not text[position].isspace())
    return next(visible, min(start, len(text) - 1))


def _bos(tokenizer: Any) -> list[int]:
    # Like every call, with split_special_tokens: the tokenizer keeps the flag, and other threads use it meanwhile.
    first = tokenizer("a", split_special_tokens=True)["input_ids"][:1]
    return list(first) if first and first[0] == tokenizer.bos_token_id else []


def _untyped(ids: Iterable[int]) -> Tokens:
    ids = tuple(ids)
    return Tokens(ids, (TokenType.SEPARATOR,) * len(ids), (-1,) * len(ids))


def _ids(spans: list[tuple[int, int, int]]) -> list[int]:
    return [token for token, _, _ in spans]
