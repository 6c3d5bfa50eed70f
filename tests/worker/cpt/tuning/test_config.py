from typing import Any

import pytest

from worker.cpt.tuning.config import CPTConfig


@pytest.mark.parametrize("task_type", [None, "SEQ_CLS", "causal_lm"])
def test_other_task_type_is_refused(task_type: str | None) -> None:
    with pytest.raises(ValueError, match="CAUSAL_LM"):
        CPTConfig(task_type=task_type)


def test_config_without_tokens_has_one_template_token() -> None:
    config = CPTConfig(task_type="CAUSAL_LM")
    assert (config.cpt_token_ids, config.cpt_mask, config.cpt_tokens_type_mask) == ([0], [1], [1])
    assert config.num_virtual_tokens == 1


def test_mask_and_types_default_to_the_number_of_tokens() -> None:
    config = CPTConfig(task_type="CAUSAL_LM", cpt_token_ids=[5, 6, 7])
    assert config.num_virtual_tokens == 3
    assert config.cpt_mask == config.cpt_tokens_type_mask == [1, 1, 1]


@pytest.mark.parametrize("lists", [{"cpt_mask": [1]}, {"cpt_tokens_type_mask": [1, 2, 3]}])
def test_lists_of_different_lengths_are_refused(lists: dict[str, list[int]]) -> None:
    with pytest.raises(ValueError, match="same length"):
        CPTConfig(task_type="CAUSAL_LM", cpt_token_ids=[1, 2], **lists)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "setting",
    [
        {"opt_weighted_loss_type": "linear"},
        {"opt_loss_decay_factor": -1.0},
        {"opt_projection_epsilon": float("nan")},
        {"opt_projection_format_epsilon": float("inf")},
    ],
)
def test_settings_out_of_range_are_refused(setting: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(setting))):
        CPTConfig(task_type="CAUSAL_LM", **setting)
