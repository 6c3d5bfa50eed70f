"""What makes a model another one."""

import json
import os
from pathlib import Path

import pytest

from worker.identity import fingerprint, model_files


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    model = tmp_path / "model"
    model.mkdir()
    for name in ("config.json", "model.safetensors", "tokenizer.json", "README.md"):
        (model / name).write_text(name)
    return model


def of(folder: Path, hashed: list[str] | None = None) -> str:
    noted = [] if hashed is None else hashed
    return fingerprint(model_files(folder), folder.parent / "cache", lambda: noted.append("hashed"))


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_each_file_of_weights_tokenizer_and_configuration_counts(folder: Path, name: str) -> None:
    before = of(folder)
    (folder / name).write_text("another")
    assert of(folder) != before


def test_other_files_do_not_count(folder: Path) -> None:
    before = of(folder)
    (folder / "README.md").write_text("another")
    (folder / "vocab.txt").write_text("what tokenizer.json has already")
    assert of(folder) == before


def test_every_file_of_sharded_weights_counts(folder: Path) -> None:
    shards = {"a": "model-1.safetensors", "b": "model-2.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    for name in shards.values():
        (folder / name).write_text(name)
    before = of(folder)
    (folder / "model-2.safetensors").write_text("another")
    assert of(folder) != before


def test_files_are_read_again_only_when_size_or_time_changed(folder: Path) -> None:
    hashed: list[str] = []
    first = of(folder, hashed)
    assert of(folder, hashed) == first
    assert len(hashed) == 1
    os.utime(folder / "model.safetensors", (1, 1))
    assert of(folder, hashed) == first
    assert len(hashed) == 2


@pytest.mark.parametrize("content", ["", "[]", "{"])
def test_damaged_cache_costs_only_time(folder: Path, content: str) -> None:
    first = of(folder)
    (folder.parent / "cache" / "hashes.json").write_text(content)
    assert of(folder) == first


def test_cache_that_cannot_be_written_costs_only_time(folder: Path) -> None:
    (folder.parent / "cache").write_text("a file where the folder would be")
    assert of(folder) == of(folder)


def test_folder_without_weights_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        of(tmp_path)
