"""The configuration of a tuned context, with the field names and defaults of the reference."""

from dataclasses import dataclass
from typing import Literal, get_args

WeightedLossType = Literal["none", "decay"]


@dataclass
class CPTConfig:
    """What a context consists of and how far and towards what it may be tuned.

    `cpt_token_ids`, `cpt_mask` and `cpt_tokens_type_mask` have one entry per context token. Token types are the
    reference's integers: 0 separator, then 4k+1 input template, 4k+2 input, 4k+3 output template, 4k+4 label of
    the k-th example. Epsilons are for a hidden size of 2048 and scale with its square root.

    Raises:
        ValueError: a task other than CAUSAL_LM, lists of different lengths, an unknown loss type, or a number
            outside its range.
    """

    task_type: str | None = None
    peft_type: str = "CPT"
    auto_mapping: dict[str, str] | None = None
    base_model_name_or_path: str | None = None
    revision: str | None = None
    inference_mode: bool = False
    num_virtual_tokens: int | None = None
    token_dim: int | None = None
    num_transformer_submodules: int | None = None
    num_attention_heads: int | None = None
    num_layers: int | None = None
    cpt_token_ids: list[int] | None = None
    cpt_mask: list[int] | None = None
    cpt_tokens_type_mask: list[int] | None = None
    opt_weighted_loss_type: WeightedLossType = "none"
    opt_loss_decay_factor: float = 1.0
    opt_projection_epsilon: float = 0.1
    opt_projection_format_epsilon: float = 0.1
    tokenizer_name_or_path: str | None = None

    def __post_init__(self) -> None:
        # An enum member of the reference's TaskType carries its name as `value`.
        if getattr(self.task_type, "value", self.task_type) != "CAUSAL_LM":
            raise ValueError("CPTConfig only supports task_type = CAUSAL_LM.")
        self.task_type = "CAUSAL_LM"
        self.peft_type = "CPT"
        self.num_layers = None
        self.num_attention_heads = None
        self.token_dim = None
        self.num_transformer_submodules = 1
        self._complete_tokens()
        self._check_numbers()

    @property
    def token_ids(self) -> list[int]:
        """The ids of the context tokens."""
        return self.cpt_token_ids or []

    @property
    def token_types(self) -> list[int]:
        """The reference's type integers of the context tokens."""
        return self.cpt_tokens_type_mask or []

    def _complete_tokens(self) -> None:
        if self.cpt_token_ids is None:
            self.cpt_token_ids = [0]
        self.num_virtual_tokens = len(self.cpt_token_ids)
        if self.cpt_mask is None:
            self.cpt_mask = [1] * self.num_virtual_tokens
        if self.cpt_tokens_type_mask is None:
            self.cpt_tokens_type_mask = [1] * self.num_virtual_tokens
        if not len(self.cpt_mask) == len(self.cpt_tokens_type_mask) == self.num_virtual_tokens:
            raise ValueError("cpt_token_ids, cpt_mask and cpt_tokens_type_mask must have the same length.")

    def _check_numbers(self) -> None:
        if self.opt_weighted_loss_type not in get_args(WeightedLossType):
            raise ValueError("opt_weighted_loss_type must be 'none' or 'decay'.")
        if not 0 <= self.opt_loss_decay_factor < float("inf"):
            raise ValueError("opt_loss_decay_factor must be a finite number, 0 or more.")
        for name in ("opt_projection_epsilon", "opt_projection_format_epsilon"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name} must be a finite number, 0 or more.")
