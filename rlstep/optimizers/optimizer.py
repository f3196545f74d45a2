"""The plug point: a configuration that makes a torch optimizer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from rlstep.checks import at_least

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, kw_only=True)
class Optimizer(ABC):
    """How gradients change weights, and the schedule of the rate, counted in updates."""

    whole_tensors: ClassVar[bool] = False
    """Whether it reads statistics of whole tensors. Its torch class then has a method `lay_out`,
    which is told where they lie in ZeRO's flat pieces (`sgd_sai.ScaledSgd`)."""

    learning_rate: float = 1e-6
    """The largest one, after the warm-up."""
    weight_decay: float = 0.0
    """Decoupled decay of matrices; biases and norms have none."""
    gradient_clip: float = 1.0
    """Largest global gradient norm; 0 turns clipping off."""
    warmup_updates: int = 0
    """Updates of a linear rise to learning_rate; 0 starts with it."""
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """What follows the warm-up: the same rate, or a decay to 0 at total_updates."""
    total_updates: int = 0
    """Where a linear or cosine schedule reaches 0."""

    def __post_init__(self) -> None:
        at_least("optimizer.learning_rate", self.learning_rate, 0.0)
        at_least("optimizer.weight_decay", self.weight_decay, 0.0)
        at_least("optimizer.warmup_updates", self.warmup_updates, 0)
        at_least("optimizer.gradient_clip", self.gradient_clip, 0.0)
        if self.schedule != "constant":
            at_least("optimizer.total_updates", self.total_updates, self.warmup_updates + 1)

    @property
    @abstractmethod
    def moments(self) -> int:
        """Numbers that it keeps of every weight it trains, each as wide as the weight it changes:
        float32, be it the model's own weight or the master copy of a bfloat16 one."""

    @abstractmethod
    def torch_class(self) -> tuple[type[torch.optim.Optimizer], dict[str, Any]]:
        """torch's class, and what it is given beside parameter groups and `lr`. The groups have a
        `weight_decay` each. Its state is all that a resumed run needs: tensors, lists, numbers."""
