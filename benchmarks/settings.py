"""How much is measured: the whole of it, or as little as shows that everything runs."""

from __future__ import annotations

from dataclasses import dataclass

from app.standalone.supervisor import STEADY_SECONDS


@dataclass(frozen=True)
class Settings:
    """Sizes of a run.

    rounds: times that every contender of a cell is measured, taking turns.
    examples: K, examples of a context, all of which are trained on.
    job_examples, job_steps: the whole job.
    batches, labels: inputs classified at once; labels that are told apart.
    clients, inputs: concurrent clients of the service; inputs in each request.
    load_seconds: how long clients go on to send requests in a round; each sends one at least.
    timed_rows: rows of a step that the reference is timed on where the whole takes too long; the time is scaled then.
    timed_queries: queries that a peer is timed on where all of them would take it longer than `patience` seconds.
    profile_rounds: times that a piece of work is profiled; a step over many examples once, whose trace fills memory.
    steady_seconds: life of a worker before it is killed; one that crashes sooner is restarted with a delay.
    """

    rounds: int = 5
    examples: tuple[int, ...] = (2, 8, 24, 84)
    job_examples: int = 8
    job_steps: int = 8
    batches: tuple[int, ...] = (1, 8, 32, 256)
    labels: tuple[int, ...] = (2, 6, 77)
    clients: tuple[int, ...] = (1, 16, 64, 256)
    inputs: tuple[int, ...] = (1, 32)
    load_seconds: float = 6.0
    timed_rows: int = 8
    timed_queries: int = 32
    patience: float = 20.0
    profile_rounds: int = 3
    steady_seconds: float = STEADY_SECONDS + 1

    def rows_timed(self, examples: int) -> int:
        """How many of the training examples of a step the reference is timed on."""
        return examples if examples <= 24 else self.timed_rows

    def rounds_of_profile(self, examples: int) -> int:
        """How many times a step is profiled."""
        return self.profile_rounds if examples <= 24 else 1


FULL = Settings()
QUICK = Settings(
    rounds=2,
    examples=(2, 4),
    job_examples=2,
    job_steps=2,
    batches=(1, 4),
    labels=(2, 6),
    clients=(1, 4),
    inputs=(1, 2),
    load_seconds=1.0,
    timed_rows=1,
    timed_queries=4,
    steady_seconds=0.0,
)
