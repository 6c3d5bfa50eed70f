"""The import rules refuse what their lists do not name."""

import tomllib
from pathlib import Path

import grimp
import pytest

from tests.house.rooms import RoomsContract

TOP = Path(__file__).parents[2]
RULES = {"houses": ["shop"], "rooms": ["shop.desk: shop.store", "shop.store:"], "third_party": ["shop: redis"]}


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a package of two rooms that keeps to its rules."""
    for room in ("desk", "store"):
        (tmp_path / "shop" / room).mkdir(parents=True)
        (tmp_path / "shop" / room / "__init__.py").touch()
    (tmp_path / "shop" / "__init__.py").touch()
    (tmp_path / "shop" / "desk" / "sell.py").write_text("import json\n\nfrom shop.store import rows\n")
    (tmp_path / "shop" / "store" / "rows.py").write_text("import redis\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path / "shop"


def complaints() -> list[str]:
    """What the contract finds, a line for each fault."""
    graph = grimp.build_graph("shop", include_external_packages=True, cache_dir=None)
    checked = RoomsContract("rules", {}, {**RULES}).check(graph, verbose=False)
    assert checked.kept == (not checked.metadata["faults"])
    return list(checked.metadata["faults"])


def test_rules_that_are_kept(shop: Path) -> None:
    assert complaints() == []


def test_new_room_is_refused(shop: Path) -> None:
    (shop / "cellar.py").touch()
    assert complaints() == ["shop.cellar is a new room: say in pyproject.toml what it may import"]


def test_import_of_a_room_that_is_not_named_is_refused(shop: Path) -> None:
    (shop / "store" / "rows.py").write_text("import shop.desk.sell\n")
    assert complaints() == ["shop.store.rows must not import shop.desk.sell (line 1)"]


def test_package_that_the_house_does_not_use_is_refused(shop: Path) -> None:
    (shop / "desk" / "sell.py").write_text("def sell() -> None:\n    import torch.nn\n")
    assert complaints() == ["shop.desk.sell must not import torch (line 2)"]


def test_room_that_is_gone_is_no_longer_listed(shop: Path) -> None:
    (shop / "desk" / "sell.py").unlink()
    (shop / "desk" / "__init__.py").unlink()
    assert complaints() == ["shop.desk is listed in pyproject.toml, but there is no such room"]


def test_every_package_of_the_product_is_under_the_rules() -> None:
    tools = tomllib.loads((TOP / "pyproject.toml").read_text())["tool"]
    shipped = {pattern.rstrip("*") for pattern in tools["setuptools"]["packages"]["find"]["include"]}
    assert shipped <= set(tools["importlinter"]["root_packages"])
