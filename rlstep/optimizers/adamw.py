"""AdamW, the optimizer of a learner that names no other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rlstep.optimizers.optimizer import Optimizer

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig(Optimizer):
    """AdamW and its schedule, counted in updates (Loshchilov and Hutter 2019, arXiv:1711.05101).

    It keeps two moments of every weight: 8 bytes.
    """

    betas: tuple[float, float] = (0.9, 0.999)
    """Decay rates of the two moments; both lie in [0, 1)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not all(0.0 <= beta < 1.0 for beta in self.betas):
            raise ValueError(f"optimizer.betas is {self.betas}; both lie in [0, 1)")

    @property
    def moments(self) -> int:
        return 2

    def torch_class(self) -> tuple[type[torch.optim.Optimizer], dict[str, Any]]:
        import torch

        return torch.optim.AdamW, {"betas": self.betas}
