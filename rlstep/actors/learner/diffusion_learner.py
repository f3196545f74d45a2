"""A learner rank of a masked diffusion model: its sequences stand on canvases, under maskings.

Dimensions: n canvases of a micro-batch, C tokens each.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from rlstep.actors.learner.models import Wanted
from rlstep.actors.learner.publisher import PublishingLearner
from rlstep.diffusion.canvas import Hidden, left_to_right, masked_copies, read_canvas
from rlstep.diffusion.elbo import CanvasBatch, canvas_batch, weighted_logprobs
from rlstep.tensors.batching import Rows
from rlstep.types import Floats, Samples, TokenIds


class DiffusionLearner(PublishingLearner):
    """Every sequence is trained as `elbo_samples` rows, one a masking.

    A loss of an ELBO adds up over the rows (see `Loss.of_elbo`), so they go through micro-batches
    of the token budget like any others: the gradient is exact, and memory does not grow with the
    number of maskings.
    """

    def __init__(self, *args: Any, **place: Any) -> None:
        super().__init__(*args, **place)
        self._canvas = read_canvas(self.config.model.path)

    def train(self, samples: Samples) -> dict[str, float]:
        """As any learner's; all ranks draw the same maskings, new ones at every call.

        They are drawn from the run's seed and the updates that were made, so a resumed run has the
        same ones. Old logprobs are of the same maskings, which makes a row's ratio 1 before the
        first update.
        """
        rng = np.random.default_rng([self._seed, self.updates])
        number = self.config.elbo_samples
        return super().train(masked_copies(samples, self._canvas, number, rng))

    def rows_of(self, samples: Samples) -> Sequence[Hidden]:
        return [sequence.canvas for sequence in samples.sequences]  # type: ignore[union-attr]

    def pack(self, token_ids: Sequence[Any], rows: Rows) -> Any:
        """Canvases; nothing else can stand in their rows."""
        chosen = [token_ids[position] for row in rows for position in row]
        return canvas_batch(chosen, self._canvas).to(self.device)

    def forward(self, model: Any, batch: Any, wanted: Wanted = Wanted()) -> Tensor:
        """float32 [n, C], weights * logprobs of the hidden tokens; see `weighted_logprobs`."""
        assert isinstance(batch, CanvasBatch)
        logits = model(input_ids=batch.seen).logits
        return weighted_logprobs(logits, batch, self._canvas.mask, wanted.temperature)

    def predict(self, token_ids: Sequence[TokenIds], log_ratios: bool = False) -> dict[int, Floats]:
        """Of every token the logprob given those before it, all behind it hidden.

        It is the chain rule in one of the orders of unmasking, so a row's sum is a log-likelihood,
        in that order. It takes a canvas for every token: it is meant for the weight sync's probe
        and for held-out solutions, and training has the ELBO.

        Returns:
            On rank 0 all rows, float32 [L] by position in `token_ids`, 0 at the first token.
        """
        assert not log_ratios, f"{self.name}: an ELBO's samples have no reference"
        chains = [left_to_right(row, self._canvas) for row in token_ids]
        flat = torch.zeros(sum(map(len, chains)), device=self.device)
        for index, values in self.own_rows(list(chain(*chains)), self.engine).items():
            flat[index] = values.sum()  # one token of it counts
        dist.all_reduce(flat)  # a row's tokens may fall to several ranks
        if self.rank:
            return {}
        ends = np.cumsum([0] + [len(each) for each in chains])
        parts = np.split(flat.cpu().numpy(), ends[1:-1])
        return {p: np.concatenate([[np.float32(0.0)], part]) for p, part in enumerate(parts)}
