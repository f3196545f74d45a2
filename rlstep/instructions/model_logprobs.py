"""Logprobs of a model on this machine, without a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from rlstep.types import Floats, TokenIds


class ModelLogprobs:
    """A Hugging Face causal model by plain forwards (see `difficulty.Logprobs`).

    Rows of one batch are padded on the right, behind which nothing is read, so that a row's numbers
    do not depend on its neighbours but for rounding.

    Args:
        path: a folder or a hub id.
        batch: rows of one forward.

    Raises:
        OSError: there is no such model.
    """

    def __init__(self, path: str, batch: int = 16) -> None:
        from transformers import AutoModelForCausalLM

        self._model: Any = AutoModelForCausalLM.from_pretrained(path).eval()
        self._batch = batch

    @property
    def vocabulary(self) -> int:
        """How many tokens it knows."""
        return self._model.config.vocab_size

    def __call__(self, rows: Sequence[TokenIds]) -> list[Floats]:
        found: list[Floats] = [np.zeros(0, np.float32)] * len(rows)
        by_length = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        for start in range(0, len(rows), self._batch):
            places = by_length[start : start + self._batch]
            for place, row in zip(places, self._forward([rows[i] for i in places]), strict=True):
                found[place] = row
        return found

    def _forward(self, rows: Sequence[TokenIds]) -> list[Floats]:
        import torch

        from rlstep.tensors.logprobs import token_logprobs

        ids = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.int64)
        mask = torch.zeros_like(ids)
        for i, row in enumerate(rows):
            ids[i, : len(row)] = torch.from_numpy(row.astype(np.int64))
            mask[i, : len(row)] = 1
        with torch.no_grad():
            logits = self._model(input_ids=ids, attention_mask=mask).logits
            numbers = token_logprobs(logits, ids).numpy()
        return [numbers[i, : len(row)] for i, row in enumerate(rows)]
