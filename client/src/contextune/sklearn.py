"""A context as a classifier of scikit-learn: ``ContextuneClassifier().fit(texts, labels).predict(texts)``.

Needs the extra ``sklearn``. The key is that of ``CONTEXTUNE_API_KEY`` and nowhere in the estimator, so that it can be
pickled and printed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import Tags
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted

from contextune.client import Contextune


class ContextuneClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A text classifier that a Contextune service tunes and keeps.

    ``url`` is where the service is (``CONTEXTUNE_URL`` unless given), ``model`` a base model of it, ``method`` "auto",
    "cpt" or "icl", ``hyperparameters`` the others, ``timeout`` the seconds that `fit` may take. Contexts that `fit`
    made stay in the service, under ``name`` where one is given, until `delete`.

    After `fit`: ``classes_`` (labels in order, as `predict` gives them), ``context_id_`` and ``report_``.
    """

    def __init__(
        self,
        *,
        url: str | None = None,
        name: str | None = None,
        model: str | None = None,
        method: str = "auto",
        hyperparameters: Mapping[str, Any] | None = None,
        timeout: float | None = None,
    ) -> None:
        self.url = url
        self.name = name
        self.model = model
        self.method = method
        self.hyperparameters = hyperparameters
        self.timeout = timeout

    def fit(self, X: Any, y: Any) -> Self:  # noqa: N803 - scikit-learn's name
        """Tune a context on texts ``X`` and their labels ``y``, and wait until it can answer."""
        texts, labels = _texts(X), _labels(self, y)
        if len(texts) != len(labels):
            raise ValueError(f"there are {len(texts)} texts and {len(labels)} labels")
        classes, indices = np.unique(labels, return_inverse=True)
        if len(classes) < 2:
            raise ValueError(f"Classifier can't train when only one class is present: {classes[0]!r}")
        names = _names(classes)
        with Contextune(self.url) as client:
            tuning = client.contexts.create(
                [(text, names[index]) for text, index in zip(texts, indices, strict=True)],
                name=self.name,
                model=self.model,
                labels=names,
                hyperparameters={"method": self.method, **(self.hyperparameters or {})},
            )
            context = tuning.wait(self.timeout)
        self.classes_ = classes
        self.context_id_ = context.id
        self.report_ = context.report
        return self

    def predict_proba(self, X: Any) -> Any:  # noqa: N803 - scikit-learn's name
        """How likely each class is for each text: an array (texts, classes) whose rows sum to 1."""
        check_is_fitted(self, "context_id_")
        texts, names = _texts(X), _names(self.classes_)
        with Contextune(self.url) as client:
            answers = client.classify_many(self.context_id_, texts, truncate="END")
            rows = [[answer.labels[name].confidence for name in names] for answer in answers]
        return np.array(rows, dtype=np.float64).reshape(len(texts), len(names))

    def predict(self, X: Any) -> Any:  # noqa: N803 - scikit-learn's name
        """The likeliest class of each text."""
        likeliest = self.predict_proba(X).argmax(axis=1)
        return self.classes_[likeliest]

    def delete(self) -> None:
        """Delete the context in the service; the estimator is then as before `fit`."""
        check_is_fitted(self, "context_id_")
        with Contextune(self.url) as client:
            client.contexts.delete(self.context_id_)
        del self.context_id_, self.classes_, self.report_

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.one_d_array = True
        tags.input_tags.two_d_array = False
        tags.input_tags.string = True
        tags.target_tags.one_d_labels = True
        return tags


def _texts(X: Any) -> list[str]:  # noqa: N803 - scikit-learn's name
    """Texts of a list, an array, a column of one, or a series."""
    found = np.asarray(X, dtype=object)
    if found.ndim == 2 and found.shape[1] == 1:
        found = found[:, 0]
    if found.ndim != 1:
        raise ValueError(f"X must be texts in one dimension, not of shape {found.shape}")
    texts: list[str] = found.tolist()
    wrong = next((text for text in texts if not isinstance(text, str)), None)
    if wrong is not None:
        raise ValueError(f"X must be texts, not {type(wrong).__name__}")
    return texts


def _labels(estimator: ContextuneClassifier, y: Any) -> Any:
    if y is None:
        raise ValueError(f"{type(estimator).__name__} requires y to be passed, but the target y is None")
    labels = np.asarray(y)
    check_classification_targets(labels)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1:
        raise ValueError(f"y must be labels in one dimension, not of shape {labels.shape}")
    return labels


def _names(classes: Any) -> list[str]:
    """What the service calls the classes, in their order."""
    return [str(label) for label in classes.tolist()]
