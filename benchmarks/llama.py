"""Classification with llama.cpp, through llama-cpp-python's C interface, if that is installed.

The prefix is decoded once, as sequence 0, and shared with the sequences of queries. Queries are decoded `together` at a
time. Where labels have more than one token, the inner nodes of their trie follow in the same pass: each path to a leaf
is a sequence, the query's tokens belong to all of its sequences, and a node to those that pass through it.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worker.cpt.scoring.trie import LabelTrie

MOST_TOGETHER = 16
_SEQUENCES = 64  # llama.cpp's limit in its smallest build
_CELLS = 4096
_BATCH = 2048

Paths = list[list[int]]  # of nodes of the trie
Place = tuple[int, int, list[int], bool]  # token, position, sequences, whether its logits are wanted


def available() -> bool:
    """Whether llama-cpp-python is installed."""
    return importlib.util.find_spec("llama_cpp") is not None


class LlamaScorer:
    """Log-probabilities of labels after `context` ids and a query, with the quantised model of a GGUF file."""

    def __init__(
        self, gguf: Path, context: Sequence[int], label_ids: Sequence[Sequence[int]], together: int, threads: int
    ) -> None:
        import llama_cpp  # optional, and slow to import  # noqa: PLC0415

        self._api: Any = llama_cpp
        self._trie = LabelTrie.build(label_ids)
        self._paths = _leaf_paths(self._trie)
        self._together = together
        self._start = len(context)
        self._api.llama_backend_init()
        self._silence = self._api.llama_log_callback(lambda *_: None)  # kept: C calls it as long as it logs
        self._api.llama_log_set(self._silence, None)
        parameters = self._api.llama_model_default_params()
        # The AMX kernels of llama-cpp-python 0.3.36 crash on this model's first batch; see benchmarks/README.md.
        parameters.use_extra_bufts = False
        self._model = self._api.llama_model_load_from_file(str(gguf).encode(), parameters)
        self._context = self._api.llama_init_from_model(self._model, self._parameters(threads))
        self._memory = self._api.llama_get_memory(self._context)
        self._vocabulary = self._api.llama_vocab_n_tokens(self._api.llama_model_get_vocab(self._model))
        self._batch = self._api.llama_batch_init(_BATCH, 0, _SEQUENCES)
        self._decode([(token, place, [0], False) for place, token in enumerate(context)])

    def __del__(self) -> None:
        self._api.llama_batch_free(self._batch)
        self._api.llama_free(self._context)
        self._api.llama_model_free(self._model)

    def score(self, queries: Sequence[Sequence[int]]) -> list[list[float]]:
        """[Q, L] log-probabilities of all tokens of each label."""
        found: list[dict[int, NDArray[Any]]] = [{} for _ in queries]
        for part in self._passes(len(queries)):
            decoded = self._pass([(queries[number], paths) for number, paths in part])
            for (number, _), nodes in zip(part, decoded, strict=True):
                found[number] |= nodes
        return [[float(sum(nodes[i][token] for i, token in path)) for path in self._trie.paths] for nodes in found]

    def _passes(self, queries: int) -> list[list[tuple[int, Paths]]]:
        """What is decoded together: numbers of queries with paths of the trie, one sequence for each path."""
        most = _SEQUENCES - 1
        parts = [self._paths[start : start + most] for start in range(0, len(self._paths), most)] or [[]]
        together = max(1, min(self._together, most // max(1, len(self._paths))))
        groups = [range(start, min(start + together, queries)) for start in range(0, queries, together)]
        return [[(number, paths) for number in group] for group in groups for paths in parts]

    def _parameters(self, threads: int) -> Any:
        parameters = self._api.llama_context_default_params()
        parameters.n_ctx, parameters.n_batch, parameters.n_seq_max = _CELLS, _BATCH, _SEQUENCES
        parameters.n_threads = parameters.n_threads_batch = threads
        parameters.kv_unified = True
        return parameters

    def _pass(self, items: Sequence[tuple[Sequence[int], Paths]]) -> list[dict[int, NDArray[Any]]]:
        """Log-probabilities [V] at the end of each query (node 0) and at the inner nodes of its paths."""
        places: list[Place] = []
        first = 1
        for query, paths in items:
            sequences = dict(enumerate(paths or [[]], start=first))
            first += len(sequences)
            for sequence in sequences:
                self._api.llama_memory_seq_cp(self._memory, 0, sequence, -1, -1)
            last = len(query) - 1
            places += [(token, self._start + i, list(sequences), i == last) for i, token in enumerate(query)]
            places += [self._place(node, last, sequences) for node in _nodes(paths)]
        decoded = iter(self._decode(places))
        for sequence in range(1, first):
            self._api.llama_memory_seq_rm(self._memory, sequence, -1, -1)
        return [{node: next(decoded) for node in [0, *_nodes(paths)]} for _, paths in items]

    def _place(self, node: int, last: int, sequences: dict[int, list[int]]) -> Place:
        position = self._start + last + self._trie.depths[node - 1]
        return self._trie.tokens[node - 1], position, [s for s, path in sequences.items() if node in path], True

    def _decode(self, places: Sequence[Place]) -> list[NDArray[Any]]:
        """Log-probabilities [V] of what follows each place whose logits are wanted."""
        if len(places) > _BATCH:
            raise ValueError(f"{len(places)} tokens are more than llama.cpp's batch holds")
        batch = self._batch
        batch.n_tokens = len(places)
        for i, (token, position, sequences, wanted) in enumerate(places):
            batch.token[i], batch.pos[i], batch.logits[i] = token, position, wanted
            batch.n_seq_id[i] = len(sequences)
            for j, sequence in enumerate(sequences):
                batch.seq_id[i][j] = sequence
        if self._api.llama_decode(self._context, batch):
            raise RuntimeError("llama.cpp could not decode a batch")
        return [self._log_probabilities(i) for i, (*_, wanted) in enumerate(places) if wanted]

    def _log_probabilities(self, place: int) -> NDArray[Any]:
        pointer = self._api.llama_get_logits_ith(self._context, place)
        logits = np.ctypeslib.as_array(pointer, shape=(self._vocabulary,)).astype(np.float32)
        return logits - np.logaddexp.reduce(logits)


def _nodes(paths: Paths) -> list[int]:
    return sorted({node for path in paths for node in path})


def _leaf_paths(trie: LabelTrie) -> list[list[int]]:
    """For each inner node without children the nodes from the query's end down to it."""
    leaves = set(range(1, len(trie.tokens) + 1)) - set(trie.parents)
    return [_path(trie, leaf) for leaf in sorted(leaves)]


def _path(trie: LabelTrie, node: int) -> list[int]:
    return [] if node == 0 else [*_path(trie, trie.parents[node - 1]), node]
