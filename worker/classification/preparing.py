"""Contexts made ready to answer, from their artifacts."""

from __future__ import annotations

from worker.classification.resident import ModelChanged, Resident, UnusableContext
from worker.cpt.encoding.template import Template
from worker.cpt.formats.bundle import NewerFormat, TunedContext, load
from worker.cpt.model.sentence_encoder import SentenceEncoder
from worker.cpt.scoring.predict import Predictor
from worker.cpt.scoring.prefix import PrefixKV
from worker.models import LanguageModel


def prepare(base: LanguageModel, content: bytes) -> Resident:
    """A context that is ready to answer, from its artifact.

    Raises `NewerFormat`, `ModelChanged` if it was tuned for other files of the model, and `UnusableContext` if it does
    not fit this model.
    """
    try:
        tuned = loaded(base, content)
    except NewerFormat:
        raise
    except ValueError as error:
        raise UnusableContext(str(error)) from error
    if not made_here(base, tuned):
        raise ModelChanged(base.id)
    if not fits_encoder(base, tuned):
        raise UnusableContext("its head does not fit the sentence encoder")
    return resident(base, tuned)


def loaded(base: LanguageModel, content: bytes) -> TunedContext:
    """What an artifact holds. Raises ValueError where it is damaged or does not fit the shapes of the model."""
    words = base.model.get_input_embeddings()
    hidden = base.model.config.get_text_config().hidden_size
    return load(content, width=words.embedding_dim, hidden=hidden, vocabulary=words.num_embeddings)


def made_here(base: LanguageModel, tuned: TunedContext) -> bool:
    """Whether a context was tuned with the files that the model and, where it needs one, the encoder have here."""
    needs_encoder = tuned.classifier is not None and tuned.classifier.encoder_head is not None
    same_encoder = not needs_encoder or _encoder(base, tuned) is not None
    return tuned.metadata.get("model_sha256") == base.fingerprint and same_encoder


def fits_encoder(base: LanguageModel, tuned: TunedContext) -> bool:
    """Whether what a context has learned of the sentence encoder is of its shapes here."""
    encoder = _encoder(base, tuned)
    if tuned.classifier is None or encoder is None or (head := tuned.classifier.encoder_head) is None:
        return True
    fits = head.weight.shape[1] == encoder.size and len(head.center) <= len(encoder.layers)
    change = tuned.classifier.encoder_change
    return fits and (change is None or change.shape[1] == encoder.upper.size)


def _encoder(base: LanguageModel, tuned: TunedContext) -> SentenceEncoder | None:
    return base.encoder_of(tuned.metadata.get("encoder"))


def resident(base: LanguageModel, tuned: TunedContext) -> Resident:
    """The context, with its prefix KVs computed."""
    predictor = Predictor(
        prefixes=tuple(PrefixKV.compute(base.model, prompt.embeds) for prompt in tuned.prompts),
        label_ids=tuple(tuple(ids) for ids in tuned.metadata["label_ids"]),
        classifier=tuned.classifier,
        encoder=_encoder(base, tuned),
    )
    return Resident(predictor, Template(**tuned.metadata["template"]))
