"""The pins in ``constraints/`` belong to the ranges in ``pyproject.toml``; `make constraints` mends what fails here."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from release.constraints import WORKER_ONLY, without_cuda
from release.weights import WEIGHTS

TOP = Path(__file__).parents[2]
FILES = sorted((TOP / "constraints").glob("*.txt"))
OWN = {"contextune", *(weights.distribution for weights in WEIGHTS)}


def project(folder: str) -> dict[str, Any]:
    return dict(tomllib.loads((TOP / folder / "pyproject.toml").read_text())["project"])


def wanted(extras: bool) -> list[Requirement]:
    """What the packages of this repository need, with what their extras need."""
    found = []
    for folder in (".", "client"):
        described = project(folder)
        lists = [described["dependencies"], *(described["optional-dependencies"].values() if extras else ())]
        found += [Requirement(line) for lines in lists for line in lines]
    return [requirement for requirement in found if requirement.name not in OWN]


def pins(name: str) -> dict[str, list[str]]:
    """Versions by name; a package has several where Python versions or platforms need different ones."""
    found: dict[str, list[str]] = {}
    for line in (TOP / "constraints" / name).read_text().splitlines():
        if line[0] not in " #":
            pin = Requirement(line.removesuffix(" \\"))
            found.setdefault(canonicalize_name(pin.name), []).append(str(pin.specifier).removeprefix("=="))
    return found


@pytest.mark.parametrize(
    ("name", "extras", "left_out"),
    [("cpu.txt", True, set()), ("gateway.txt", False, set(WORKER_ONLY)), ("server.txt", False, {"torch"})],
)
def test_every_requirement_has_pins_in_its_range(name: str, extras: bool, left_out: set[str]) -> None:
    pinned = pins(name)
    assert left_out.isdisjoint(pinned)
    for requirement in wanted(extras):
        if requirement.name not in left_out:
            versions = pinned[canonicalize_name(requirement.name)]
            assert versions
            assert all(requirement.specifier.contains(version, prereleases=True) for version in versions), requirement


@pytest.mark.parametrize("name", ["gateway.txt", "server.txt"])
def test_what_images_install_has_hashes(name: str) -> None:
    text = (TOP / "constraints" / name).read_text()
    assert all(line.endswith(" \\") for line in text.splitlines() if line[0] not in " #")


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_no_address_stands_in_the_pins(file: Path) -> None:
    assert "://" not in file.read_text()


def test_images_take_the_torch_of_the_pins() -> None:
    (version,) = pins("cpu.txt")["torch"]
    named = {
        file: set(re.findall(r"torch==([\d.]+\d)", (TOP / file).read_text()))
        for file in ("docker/worker.Dockerfile", "docker-compose.yml")
    }
    assert named == {file: {version} for file in named}


def test_what_cuda_needs_is_left_out_whole() -> None:
    text = (
        "numpy==2.4 \\\n    --hash=sha256:1\nnvidia-nccl-cu13==2.29 \\\n    --hash=sha256:2\ntqdm==4.70\ntriton==3.7\n"
    )
    assert without_cuda(text) == "numpy==2.4 \\\n    --hash=sha256:1\ntqdm==4.70\n"


def test_client_and_server_are_released_together() -> None:
    (pinned,) = (Requirement(line) for line in project(".")["dependencies"] if line.startswith("contextune["))
    assert str(pinned.specifier) == f"=={project('client')['version']}"


def test_the_oldest_that_are_tested_are_the_lower_ends_of_the_ranges() -> None:
    ranges = {str(canonicalize_name(one.name)): one.specifier for one in map(Requirement, project(".")["dependencies"])}
    for name, (version,) in pins("oldest.txt").items():
        if name != "click":  # which typer brings
            (least,) = (one.version for one in ranges[name] if one.operator == ">=")
            assert Requirement(f"{name}=={least}.*").specifier.contains(version), name
