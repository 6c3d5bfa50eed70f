"""Peers on sentence vectors: logistic regression on frozen encoders, and SetFit, which trains the encoder too."""

from __future__ import annotations

import tempfile
import time
from functools import cache
from pathlib import Path
from typing import Any

import torch
from sklearn.linear_model import LogisticRegression

from benchmarks.accuracy.cells import Outcome, Task, seconds_clock
from worker.cpt.model.sentence_encoder import SentenceEncoder
from worker.encoders import load_encoders

#: The inverse penalty of regression on centred vectors of length 1 (calibrates best of 50, 100, 250).
_INVERSE_PENALTY = 250.0
E5 = "embedded:multilingual-e5-small"
MINILM = "embedded:all-minilm-l6-v2"
CACHE = Path(__file__).parents[2] / "build" / "benchmarks" / "models"


@cache
def _encoder(path: str) -> SentenceEncoder:
    (found,) = load_encoders(path, "cpu", CACHE, print)
    return found


def regression(task: Task, path: str) -> Outcome:
    """Logistic regression on the frozen vectors of the encoder at `path`."""
    encoder = _encoder(path)
    started = time.perf_counter()
    rows = encoder.embed([text for text, _ in task.shots])[0]
    center = rows.mean(0)
    numbers = [task.labels.index(label) for _, label in task.shots]
    head = LogisticRegression(max_iter=2000, C=_INVERSE_PENALTY).fit(_unit(rows - center), numbers)
    learned = time.perf_counter()
    vectors, embedding = _embedded(path, tuple(text for text, _ in task.test))
    scored = time.perf_counter()
    found = torch.zeros(len(task.test), len(task.labels), dtype=torch.float64)
    found[:, list(head.classes_)] = torch.tensor(head.predict_proba(_unit(vectors - center))).double()
    return Outcome(found, learned - started, embedding + time.perf_counter() - scored)


@cache
def _embedded(path: str, texts: tuple[str, ...]) -> tuple[torch.Tensor, float]:
    """Vectors of the test rows, which all draws of a data set share, and the seconds that they took."""
    started = time.perf_counter()
    vectors = torch.cat([_encoder(path).embed(texts[i : i + 64])[0] for i in range(0, len(texts), 64)])
    return vectors, time.perf_counter() - started


def _unit(rows: torch.Tensor) -> object:
    return torch.nn.functional.normalize(rows, dim=1).numpy()


def setfit_minilm(task: Task, seed: int) -> Outcome:
    """SetFit on MiniLM as its library sets it."""
    from setfit import SetFitModel  # noqa: PLC0415 - slow to import, and not needed for the others

    return _setfit(SetFitModel.from_pretrained(_encoder(MINILM).model.name_or_path, device="cpu"), task, seed)


def setfit(path: str, task: Task, seed: int) -> Outcome:
    """SetFit on the encoder at `path`, with what its texts begin with; else as its library sets it."""
    from sentence_transformers import SentenceTransformer, models  # noqa: PLC0415
    from setfit import SetFitModel  # noqa: PLC0415

    encoder = _encoder(path)
    body = models.Transformer(encoder.model.name_or_path)
    pooling = models.Pooling(encoder.model.config.hidden_size, "mean")
    model = SetFitModel(
        model_body=SentenceTransformer(modules=[body, pooling], device="cpu"), model_head=LogisticRegression()
    )
    return _setfit(model, task, seed, encoder.prompt)


def _setfit(model: Any, task: Task, seed: int, prompt: str = "") -> Outcome:
    from datasets import Dataset  # noqa: PLC0415
    from setfit import Trainer, TrainingArguments  # noqa: PLC0415

    now = seconds_clock()
    started = now()
    texts = [f"{prompt}{text}" for text, _ in task.shots]
    rows = {"text": texts, "label": [task.labels.index(label) for _, label in task.shots]}
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder, batch_size=16, num_epochs=1, seed=seed, report_to="none", save_strategy="no"
        )
        Trainer(model=model, args=arguments, train_dataset=Dataset.from_dict(rows)).train()
    learned = now()
    found = torch.as_tensor(model.predict_proba([f"{prompt}{text}" for text, _ in task.test], as_numpy=True))
    return Outcome(found, learned - started, now() - learned)
