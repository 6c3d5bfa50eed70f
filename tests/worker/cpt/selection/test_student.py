import pytest

from worker.cpt.selection.student import t95, upper_tail


@pytest.mark.parametrize(
    ("freedom", "two_sided", "one_sided"),
    [(1, 12.706, 6.314), (4, 2.776, 2.132), (5, 2.571, 2.015), (10, 2.228, 1.812), (100, 1.984, 1.660)],
)
def test_points(freedom: int, two_sided: float, one_sided: float) -> None:
    assert t95(freedom) == pytest.approx(two_sided, rel=0.01)
    assert upper_tail(one_sided, freedom) == pytest.approx(0.05, rel=0.01)
    assert upper_tail(two_sided, freedom) == pytest.approx(0.025, rel=0.01)
    assert upper_tail(-one_sided, freedom) == pytest.approx(0.95, rel=0.01)
