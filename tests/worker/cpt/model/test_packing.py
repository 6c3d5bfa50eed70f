"""How rows are cut into passes."""

import pytest

from worker.cpt.model.packing import passes


def flat(groups: list[list[list[int]]]) -> list[int]:
    return sorted(number for several in groups for numbers in several for number in numbers)


@pytest.mark.parametrize("lengths", [[5], [3, 9, 4], [7] * 40, list(range(1, 60)), [2000, 3, 3, 3]])
@pytest.mark.parametrize("at_once", [1, 2, 4])
@pytest.mark.parametrize("most", [1, 3, 100])
def test_every_row_is_in_one_pass_of_bounded_size(lengths: list[int], at_once: int, most: int) -> None:
    groups = passes(lengths, 100, most=most, at_once=at_once)
    assert flat(groups) == list(range(len(lengths)))
    for several in groups:
        assert 1 <= len(several) <= at_once
        for numbers in several:
            tokens = [lengths[number] for number in numbers]
            assert sum(tokens) < 100 + max(tokens)
            assert len(numbers) <= most + 1


def test_passes_side_by_side_are_of_one_size_and_neighbours_in_length() -> None:
    lengths = [length for length in range(10, 50) for _ in range(2)]
    ((first, second),) = passes(lengths, 10_000, at_once=2)
    tokens = [sum(lengths[number] for number in numbers) for numbers in (first, second)]
    assert abs(tokens[0] - tokens[1]) <= 2 * max(lengths)
    assert max(lengths[number] for number in first) <= min(lengths[number] for number in second)


@pytest.mark.parametrize(("most", "side_by_side"), [(1, 4), (0.5, 2), (0.01, 1)])
def test_rows_that_are_more_than_a_pass_may_hold_go_with_fewer_side_by_side(most: float, side_by_side: int) -> None:
    groups = passes([600] * 8, 100, most=most, at_once=4)
    assert {len(several) for several in groups} == {side_by_side}
    assert flat(groups) == list(range(8))


def test_few_tokens_are_not_split() -> None:
    assert passes([10, 20], 100, at_once=4) == [[[0, 1]]]
