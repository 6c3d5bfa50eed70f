from dataclasses import replace

import torch

from tests.worker import tiny
from tests.worker.turns import Watched
from worker.cpt.encoding.context import encode_labels
from worker.cpt.encoding.shots import Shots
from worker.cpt.encoding.template import Template
from worker.cpt.scoring.text_head import MOST_READ, TextHead
from worker.cpt.turn import ALONE

FOLDS = [[3, 0], [1, 2]]


def shots(*labels: str, copies: int = 1) -> Shots:
    tokenizer, template = tiny.tokenizer(), Template()
    return Shots(
        tokenizer=tokenizer,
        template=template,
        labels=labels,
        label_ids=tuple(map(tuple, encode_labels(tokenizer, template, labels))),
        texts=("a fine film", "an awful one", "great fun", "dull and long") * copies,
        truth=(0, 1, 0, 1) * copies,
        context=4,
    )


def head(some: Shots) -> TextHead:
    return TextHead(tiny.causal_model(), some, tiny.CONTEXT_LENGTH, FOLDS)


def test_underscores_of_a_label_read_as_spaces() -> None:
    spaces, underscores, other = (
        head(shots(*labels)).fit(ALONE)
        for labels in (("good film", "bad film"), ("good_film", "bad_film"), ("good-film", "bad-film"))
    )
    assert torch.equal(spaces.weight, underscores.weight)
    assert not torch.equal(spaces.weight, other.weight)


def test_label_of_a_held_out_example_has_no_part_in_its_prediction() -> None:
    plain = shots("good", "bad")
    first = head(plain).held_out(ALONE)
    second = head(replace(plain, truth=(1, 1, 0, 0))).held_out(ALONE)  # another truth for 0 and 3, the first fold
    assert torch.equal(first[:2], second[:2])
    assert not torch.equal(first[2:], second[2:])


def test_texts_are_read_once() -> None:
    read = head(shots("good", "bad"))
    read.fit(ALONE)
    turn = Watched()
    examples, names = read._read(turn)
    assert turn.offers == []
    assert (examples.shape[1], names.shape[1]) == (4, 2)


def test_of_many_examples_some_are_read_and_all_that_are_held_out() -> None:
    many = shots("good", "bad", copies=MOST_READ // 2)
    folds = [[1, 2], [len(many) - 1]]
    read = TextHead(tiny.causal_model(), many, tiny.CONTEXT_LENGTH, folds)
    examples, names = read._read(ALONE)
    assert MOST_READ // 2 <= int(read._truth.sum()) <= MOST_READ // 2 + 3
    assert MOST_READ < examples.shape[1] <= MOST_READ + 3
    assert names.shape[1] == 2
    assert read.held_out(ALONE).shape == (3, 2)
    assert read.fit(ALONE).weight.isfinite().all()
    assert read.harmful(ALONE) == ()
