"""A tiny random base model that reads any text: a Llama over bytes."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import BertConfig, BertModel, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from app.contract.messages import ClassifyPart, PartReply, Truncate
from app.contract.tuning import TuningSpec
from worker.artifacts import Artifacts
from worker.cpt.formats.bundle import Prompt, TunedContext, save
from worker.cpt.model.sentence_encoder import SentenceEncoder
from worker.cpt.scoring.classifier import Classifier
from worker.cpt.scoring.head import Head
from worker.cpt.scoring.mixture import Mixture
from worker.cpt.scoring.views import VIEWS
from worker.jobs.encoding import encode
from worker.models import LanguageModel

CONTEXT_LENGTH = 512


def tokenizer() -> Any:
    """One token a byte; composed and decomposed letters are the same to it."""
    alphabet = ["<s>", "</s>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    bytewise = Tokenizer(models.BPE(vocab={token: id_ for id_, token in enumerate(alphabet)}, merges=[]))
    bytewise.normalizer = normalizers.NFC()
    bytewise.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytewise.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=bytewise, bos_token="<s>", eos_token="</s>")


def causal_model(seed: int = 0, context_length: int = CONTEXT_LENGTH) -> Any:
    """Random weights, large enough that texts make a difference."""
    config = LlamaConfig(
        vocab_size=258,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=context_length,
        bos_token_id=0,
        eos_token_id=1,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config).eval().requires_grad_(False)
    for weight in model.parameters():
        if weight.dim() > 1:
            weight.mul_(10)
    return model


def sentence_encoder(seed: int = 0) -> SentenceEncoder:
    """A random encoder of 24 numbers."""
    config = BertConfig(
        vocab_size=258, hidden_size=24, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2, pad_token_id=1
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = BertModel(config, add_pooling_layer=False)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.mul_(10)
    return SentenceEncoder(f"tiny-{seed}", model, tokenizer(), "mean", "query: ", f"encoder {seed}").prepare()


def blank_encoder() -> SentenceEncoder:
    """An encoder to which all texts of a length are alike."""
    found = sentence_encoder(9)
    with torch.no_grad():
        found.model.get_input_embeddings().weight.zero_()
    return found


def base_model(seed: int = 0, *encoders: SentenceEncoder) -> LanguageModel:
    model = causal_model(seed)
    return LanguageModel(
        id="tiny",
        model=model,
        tokenizer=tokenizer(),
        context_length=CONTEXT_LENGTH,
        parameters=sum(weight.numel() for weight in model.parameters()),
        flops=1e9,
        embedding_norm=model.get_input_embeddings().weight.norm(dim=1).mean().item(),
        fingerprint=f"{seed:064x}",
        encoders=encoders,
    )


def classifier(labels: int, hidden: int = 16, prompts: int = 1) -> Classifier:
    """Random heads on the states under each prompt, mixed with the label scores."""
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> torch.Tensor:
        return torch.rand(shape, generator=generator)

    views = len(VIEWS), hidden
    heads = [Head(random(*views), random(*views), 9 * random(*views, labels), random(labels)) for _ in range(prompts)]
    return Classifier(random(prompts, labels), Mixture(random(2), random(labels)), tuple(heads))


def stored_context(
    base: LanguageModel,
    artifacts: Artifacts,
    spec: TuningSpec,
    delta: float = 0.0,
    classifier: Classifier | None = None,
) -> str:
    """Address of a context that answers for ``base``; every delta has the value ``delta``."""
    shots = encode(base, spec).shots
    tokens = shots.context_of(range(shots.context)).tokens
    embedding = base.model.get_input_embeddings()(torch.tensor(tokens.ids)).detach()
    metadata = {
        "model_sha256": base.fingerprint,
        "labels": spec.label_names,
        "label_ids": shots.label_ids,
        "template": spec.template.model_dump(),
        "encoder": base.encoders[0].fingerprint if base.encoders else None,
    }
    prompts = (Prompt(tokens, embedding, torch.full_like(embedding, delta)),)
    return artifacts.put(save(TunedContext(prompts, metadata, classifier)))


def part(artifact: str, *inputs: str, truncate: Truncate = "NONE", first: int = 0) -> ClassifyPart:
    return ClassifyPart(artifact=artifact, truncate=truncate, first=first, inputs=inputs)


def confidences(replies: Iterable[PartReply]) -> Sequence[tuple[float, ...]]:
    """Of every input, in order; none may have failed."""
    rows = []
    for reply in replies:
        assert reply.failure is None, reply.failure
        rows += [one.confidences for one in reply.scored]
    return rows
