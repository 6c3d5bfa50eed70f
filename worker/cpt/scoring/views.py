"""Which hidden states of a query are read."""

from dataclasses import dataclass
from typing import Final, Literal


@dataclass(frozen=True)
class View:
    """One state of a query: after which share of the layers it is read, at the last token or averaged over all."""

    depth: float
    at: Literal["last", "mean"]

    def layer(self, layers: int) -> int:
        """Number of the hidden state, 0 being the embeddings."""
        return round(self.depth * layers)


#: Middle layers know topics, late ones what label is about to be written.
VIEWS: Final = (View(0.6, "mean"), View(0.8, "last"), View(1.0, "last"))
