"""Swap SetFit for Contextune: the same examples, the same three lines, a report besides.

    pip install 'contextune[sklearn]'

Before, with SetFit, in this process:

    from datasets import Dataset
    from setfit import SetFitModel, Trainer

    model = SetFitModel.from_pretrained("sentence-transformers/all-MiniLM-L6-v2", labels=sorted(set(labels)))
    Trainer(model, train_dataset=Dataset.from_dict({"text": texts, "label": labels})).train()
    print(model.predict(["My card got lost"]))

After, with a service that CONTEXTUNE_URL names, or the one that `contextune up` runs here:
"""

import csv
from pathlib import Path

from contextune.sklearn import ContextuneClassifier

with Path(__file__).with_name("support-intents.csv").open(newline="") as file:
    rows = list(csv.DictReader(file))
texts, labels = [row["text"] for row in rows], [row["label"] for row in rows]

model = ContextuneClassifier(name="support-intents").fit(texts, labels)
print(model.predict(["My card got lost"]))  # noqa: T201 - an example prints

if model.report_ and model.report_.tuned:
    print(f"accuracy on held-out examples: {model.report_.tuned.accuracy:.0%}")  # noqa: T201 - likewise
