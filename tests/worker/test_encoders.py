"""Sentence encoders as they are loaded."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BertConfig, BertModel

from tests.worker.tiny import tokenizer
from worker.encoders import load_encoders


def saved(folder: Path, seed: int = 0, files: dict[str, Any] | None = None) -> Path:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
        BertModel(BertConfig(vocab_size=258, **sizes)).save_pretrained(folder)
    one = tokenizer()
    one.pad_token = "</s>"
    one.save_pretrained(folder)
    for name, content in (files or {}).items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(exist_ok=True)
        path.with_suffix(".json").write_text(json.dumps(content))
    return folder


def load(path: str | Path, cache: Path | None = None) -> Any:
    (found,) = load_encoders(str(path), "cpu", cache or Path(path).parent, lambda _: None)
    return found


def test_none_is_none(tmp_path: Path) -> None:
    assert load_encoders("none", "cpu", tmp_path, lambda _: None) == ()


@pytest.mark.parametrize("paths", ["auto,none", "none,embedded:all-minilm-l6-v2"])
def test_auto_and_none_stand_alone(paths: str, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="stand alone"):
        load_encoders(paths, "cpu", tmp_path, lambda _: None)


def test_several_stand_in_the_order_in_which_they_are_named_each_once(tmp_path: Path) -> None:
    first, second = (saved(tmp_path / name, seed) for seed, name in enumerate(("first", "second")))
    found = load_encoders(f"{second}, {first},{second}", "cpu", tmp_path, lambda _: None)
    assert [encoder.name for encoder in found] == ["second", "first"]


def test_embedded_encoders_are_the_usual_ones_the_multilingual_first(models: Path) -> None:
    found = load_encoders("", "cpu", models, lambda _: None)
    same = load_encoders(" auto", "cpu", models, lambda _: None)
    assert [encoder.fingerprint for encoder in same] == [encoder.fingerprint for encoder in found]
    assert [(encoder.name, encoder.prompt) for encoder in found] == [
        ("multilingual-e5-small", "query: "),
        ("all-minilm-l6-v2", ""),
    ]
    rows = found[1].embed(["My card never arrived.", "Where is my new card?", "The weather is fine today."])[0]
    assert rows[0] @ rows[1] > 0.5 > rows[0] @ rows[2]


def test_pooling_and_prompt_are_those_of_the_files(tmp_path: Path) -> None:
    plain = load(saved(tmp_path / "plain"))
    assert (plain.pooling, plain.prompt, plain.size) == ("mean", "", 16)
    told = load(
        saved(
            tmp_path / "told",
            files={
                "1_Pooling__config": {"pooling_mode_cls_token": True},
                "config_sentence_transformers": {"prompts": {"query": "ask: "}, "default_prompt_name": "query"},
            },
        )
    )
    assert (told.pooling, told.prompt) == ("first", "ask: ")
    assert load(saved(tmp_path / "some-e5-small")).prompt == "query: "


def test_fingerprint_is_of_the_weights(tmp_path: Path) -> None:
    first, same, other = (load(saved(tmp_path / name, seed)) for name, seed in (("a", 0), ("b", 0), ("c", 1)))
    assert first.fingerprint == same.fingerprint != other.fingerprint


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="missing"):
        load(tmp_path / "missing")
    with pytest.raises(OSError, match="embedded:minilm: there is no such encoder; there are embedded:mul"):
        load("embedded:minilm", tmp_path)


def test_pooling_that_is_not_known_is_refused(tmp_path: Path) -> None:
    files = {"1_Pooling__config": {"pooling_mode_mean_tokens": False, "pooling_mode_max_tokens": True}}
    with pytest.raises(ValueError, match="not supported"):
        load(saved(tmp_path / "max", files=files))


def test_embedded_encoder_knows_what_texts_mean(models: Path) -> None:
    encoder = load("embedded:multilingual-e5-small", models)
    assert (encoder.size, encoder.prompt) == (384, "query: ")
    rows = encoder.embed(  # of the last layer
        ["My card never arrived.", "Where is my new card?", "今天天气很好", "the weather is fine today"]
    )[0]
    likeness = rows @ rows.T
    assert likeness[0].argsort(descending=True)[1] == 1
    assert likeness[2].argsort(descending=True)[1] == 3
