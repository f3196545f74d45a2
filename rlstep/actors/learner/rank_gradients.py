"""The gradients of all ranks without ZeRO, where every rank has its whole own."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor, nn

_CHUNK = 1 << 20
"""Numbers that a rank sends each other one at a time."""


class ModuleGradients:
    """Those of a module's parameters (implements `aggregation.aggregator.RankGradients`).

    A chunk of every rank's gradient is cut into p parts, and part k of all of them goes to rank k,
    which adds their inner products up: over all chunks a rank sends and receives d numbers, and
    only the p x p sums are gathered.
    """

    def __init__(self, module: nn.Module) -> None:
        self.rank, self.ranks = dist.get_rank(), dist.get_world_size()
        self._parameters = [p for p in module.parameters() if p.requires_grad and p.numel()]

    @property
    def own(self) -> list[Tensor]:
        """Zeros where this rank's micro-batches had no part of a parameter, or there was none."""
        for p in self._parameters:
            if p.grad is None:
                p.grad = torch.zeros_like(p)
        return [p.grad for p in self._parameters if p.grad is not None]

    def gram(self) -> NDArray[np.float64]:
        device = self._parameters[0].device
        products = torch.zeros(self.ranks, self.ranks, dtype=torch.float64, device=device)
        for chunk in self._chunks():
            parts = torch.empty_like(chunk)
            dist.all_to_all_single(parts.view(-1), chunk.view(-1))
            exact = parts.double()
            products += exact @ exact.T
        dist.all_reduce(products)
        return products.cpu().numpy()

    def _chunks(self) -> Iterator[Tensor]:
        """[p, c], zeros behind the end of a tensor."""
        for gradient in self.own:
            for piece in gradient.detach().reshape(-1).split(self.ranks * _CHUNK):
                padding = -len(piece) % self.ranks
                yield nn.functional.pad(piece, (0, padding)).view(self.ranks, -1).contiguous()

    def scale(self, factor: float) -> None:
        for gradient in self.own:
            gradient.mul_(factor) if factor else gradient.zero_()
