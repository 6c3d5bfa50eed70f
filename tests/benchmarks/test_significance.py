import pytest
import torch
from torch import Tensor

from benchmarks.accuracy.cells import Cell, packed, right_rows
from benchmarks.accuracy.significance import LEVEL, Comparison, bootstrap, compare, significant

ROWS = 500


def right(share: float, seed: int) -> Tensor:
    return torch.rand(ROWS, generator=torch.Generator().manual_seed(seed)) < share


def cell(rows: Tensor) -> Cell:
    return {"accuracy": rows.double().mean().item(), "n": len(rows), "right": packed(rows)}


def cells(ours: float, peer: float, seeds: int = 3) -> dict[str, Cell]:
    found = {}
    for seed in range(seeds):
        found[f"trec/4/{seed}/auto"] = cell(right(ours, seed))
        found[f"trec/4/{seed}/peer"] = cell(right(peer, 100 + seed))
        found[f"trec/4/{seed}/weak"] = cell(right(0.1, 200 + seed))
    return found


@pytest.mark.parametrize("count", [1, 4, 7, 500])
def test_rows_are_packed_and_found_again(count: int) -> None:
    rows = right(0.7, 0)[:count]
    assert torch.equal(right_rows({"n": count, "right": packed(rows)}), rows)


def test_chance_is_that_of_a_difference_by_rows_and_seeds() -> None:
    """One sided: what is below for sure has none, what is above has all, what differs by chance a good deal."""
    clear = torch.stack([right(0.8, seed).double() - right(0.9, seed + 9).double() for seed in range(3)])
    assert bootstrap(clear) < 0.01
    assert bootstrap(-clear) > 0.99
    even = torch.stack([right(0.8, seed).double() - right(0.8, seed + 9).double() for seed in range(3)])
    assert 0.02 < bootstrap(even) < 0.98


def test_where_seeds_disagree_their_mean_is_not_sure() -> None:
    """Rows alone would be: each seed is far from nothing."""
    apart = torch.stack([torch.full((ROWS,), value) for value in (-0.2, -0.1, 0.2)])
    assert bootstrap(apart) > 0.1


def test_best_peer_is_compared_with() -> None:
    found = compare(cells(0.8, 0.9), "trec", 4, ["weak", "peer", "absent"])
    assert found
    assert (found.peer, found.seeds) == ("peer", 3)
    assert found.p is not None
    assert found.p < 0.01
    ahead = compare(cells(0.9, 0.8), "trec", 4, ["weak", "peer"])
    assert ahead
    assert (ahead.peer, ahead.p) == ("peer", 1.0)
    assert ahead.ours > ahead.theirs


def test_peer_without_a_seed_that_auto_has_is_none() -> None:
    some = cells(0.8, 0.9)
    del some["trec/4/2/peer"]
    found = compare(some, "trec", 4, ["weak", "peer"])
    assert found
    assert found.peer == "weak"
    assert compare(some, "trec", 8, ["weak", "peer"]) is None


def test_difference_without_rows_is_not_known() -> None:
    some = cells(0.8, 0.9)
    del some["trec/4/0/peer"]["right"]
    found = compare(some, "trec", 4, ["peer"])
    assert found
    assert found.p is None


def test_many_comparisons_need_more_to_be_significant() -> None:
    """Holm: the least chance is held against the level divided by all comparisons, the next by one fewer."""

    def with_p(p: float | None) -> Comparison:
        return Comparison("trec", 4, "peer", 3, 0.8, 0.9, p)

    alone = [with_p(0.04)]
    assert significant(alone) == alone
    assert significant([with_p(0.04), with_p(0.5)]) == []
    two = [with_p(LEVEL / 2 - 1e-6), with_p(0.04)]
    assert significant(two) == two
    assert significant([with_p(None), with_p(0.04)]) == []
