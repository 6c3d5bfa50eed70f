"""Folders of unpacked models."""

import os
import time
from pathlib import Path

import pytest

from worker.unpacking import unpacked


def fill(folder: Path) -> None:
    """Unpack two files."""
    (folder / "inner").mkdir(parents=True)
    for name in ("inner/config.json", "model.safetensors"):
        (folder / name).write_text("content")


def refuse(_: Path) -> None:
    """Not to be called."""
    raise AssertionError("unpacked twice")


def test_model_is_unpacked_once_with_the_hashes_of_its_files(tmp_path: Path) -> None:
    folder = unpacked("tiny", "hash", tmp_path / "models", fill)
    digest = "ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73"
    assert (folder / "SHA256SUMS").read_text() == f"{digest}  inner/config.json\n{digest}  model.safetensors\n"
    assert unpacked("tiny", "hash", tmp_path / "models", refuse) == folder
    assert unpacked("tiny", "hash bfloat16", tmp_path / "models", fill) != folder


def test_failure_leaves_nothing(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        fill(folder)
        raise OSError("No space left on device")

    with pytest.raises(OSError, match="No space left"):
        unpacked("tiny", "hash", tmp_path / "models", fail)
    assert list((tmp_path / "models").iterdir()) == []


def test_what_a_killed_process_left_is_removed_and_what_another_does_is_not(tmp_path: Path) -> None:
    folder = unpacked("tiny", "hash", tmp_path / "models", fill)
    abandoned, under_way = (folder.with_name(f".{folder.name}.{tail}") for tail in ("old", "new"))
    folder.rename(abandoned)
    fill(under_way)
    two_hours_ago = time.time() - 7200
    os.utime(abandoned, (two_hours_ago, two_hours_ago))
    assert unpacked("tiny", "hash", tmp_path / "models", fill) == folder
    assert (abandoned.exists(), under_way.exists()) == (False, True)
