"""Faults of a request in words of JSON."""

from typing import Any

import pytest
from fastapi.exceptions import RequestValidationError

from app.contract.tuning import TuningSpec
from app.routes.bodies import checked
from app.validation import fault_of

TRIAL = {"steps": 0, "context_examples": 2, "examples": 2, "prompts": 1}
EXAMPLES = [{"text": "fine", "label": "good"}, {"text": "awful", "label": "bad"}]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"examples": {}}, "/examples: must be an array"),
        ({"examples": [1]}, "/examples/0: must be an object"),
        ({"examples": [{"text": 1, "label": "good"}]}, "/examples/0/text: must be a string"),
        ({"examples": [{"text": "fine"}]}, "/examples/0/label: Field required"),
        ({"hyperparameters": {"trials": []}}, "/hyperparameters/trials: must have 1 item at least, and has 0"),
        (
            {"hyperparameters": {"trials": [TRIAL] * 17}},
            "/hyperparameters/trials: must have 16 items at most, and has 17",
        ),
        (
            {"hyperparameters": {"max_seconds": "soon"}},
            "/hyperparameters/max_seconds: must be a number or 'auto' or 'none'",
        ),
        (
            {"hyperparameters": {"max_seconds": -1}},
            "/hyperparameters/max_seconds: must be greater than 0 or 'auto' or 'none'",
        ),
        ({"hyperparameters": {"steps": 1.5}}, "/hyperparameters/steps: must be a whole number or 'auto'"),
        ({"hyperparameters": {"head": 1, "encoder": 1}}, "/hyperparameters/head: must be true or false or 'auto'"),
        ({"hyperparameters": {"method": "best"}}, "/hyperparameters/method: must be 'auto', 'cpt' or 'icl'"),
    ],
)
def test_fault_is_told_in_words_of_json_with_all_that_may_stand_there(given: dict[str, Any], said: str) -> None:
    body = {"examples": EXAMPLES} | given
    with pytest.raises(RequestValidationError) as refused:
        checked(TuningSpec, body)
    assert str(fault_of(refused.value)) == said
