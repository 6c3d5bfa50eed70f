"""Random contexts and training examples for the tiny models."""

import pytest

from tests.worker.cpt.tasks import Task, random_task


@pytest.fixture
def task() -> Task:
    """Four examples of different lengths, all in the context and trained on, and a fifth that is only trained on."""
    return random_task()
