"""SGD with a rate of its own for every tensor, fixed by the tensor's first gradient."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from rlstep.checks import between
from rlstep.optimizers.optimizer import Optimizer

_BLOCK = 1 << 22
"""Numbers whose float64 copies are there at one time."""
_ALIKE = 1e-12
"""A variance of less than this share of the mean square is float32's rounding."""


@dataclass(frozen=True, kw_only=True)
class SgdSai(Optimizer):
    """SGD-SaI (Xu et al. 2024, arXiv:2412.11768, algorithm 1): momentum SGD, no second moment.

    The first gradient g of a tensor of n numbers gives its signal-to-noise ratio, which then stays:

        r = ||g||_2 / std(g),  the unbiased standard deviation over the tensor's numbers
        m <- momentum m + (1 - momentum) g    (the first m is g)
        p <- p (1 - learning_rate weight_decay) - learning_rate r m

    It keeps one moment of every weight, 4 bytes, where AdamW keeps two; with `momentum` 0 none.

    Where a plain reading would go wrong:

    * r is measured at the first gradient that is not 0 everywhere. An adapter's A has gradient 0 as
      long as its B is 0, and would be frozen for good. Until then a tensor stands still; it does
      not decay either.
    * r is a ratio, so no scale of the loss changes it; the 1e-8 that the paper's code adds below
      the fraction would, of gradients as small as an adapter's first. A spread of 0 (a single
      number, or all alike) has no ratio: r is 1.
    * r is in the optimizer's state, 0 for not yet measured, so that a resumed run measures nothing
      twice.
    * ZeRO cuts tensors into flat pieces: the sums that r is made of are added up over all ranks.
    """

    whole_tensors: ClassVar[bool] = True

    learning_rate: float = 1e-2
    """The largest one, after the warm-up; the paper's. A weight moves by about this times the norm
    of its tensor's gradient, which is at most `gradient_clip`: to move a trained policy as far as
    AdamW does it is a few times AdamW's rate."""
    weight_decay: float = 1e-2
    """Decoupled decay of matrices; biases and norms have none."""
    momentum: float = 0.9
    """Share of the earlier m in the next; 0 keeps none."""

    def __post_init__(self) -> None:
        super().__post_init__()
        between("optimizer.momentum", self.momentum, 0.0, 0.999999)

    @property
    def moments(self) -> int:
        return 1 if self.momentum else 0

    def torch_class(self) -> tuple[type[torch.optim.Optimizer], dict[str, Any]]:
        return ScaledSgd, {"momentum": self.momentum}


class Span(NamedTuple):
    """Where a tensor lies in a flat piece of many, on one rank."""

    start: int
    length: int
    """0 where another rank has all of it."""
    whole: int
    """Numbers of the tensor on all ranks together."""


class ScaledSgd(torch.optim.Optimizer):
    """What `SgdSai` makes: see there. A gradient is what a step finds in `grad`, after clipping.

    State of a parameter: 'ratios', a list with r of each tensor in it, 0.0 before it is measured;
    'momentum', a tensor of its shape.
    """

    def __init__(
        self, params: Any, *, lr: float, momentum: float = 0.9, weight_decay: float = 0.0
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        self._layout: dict[Tensor, Sequence[Span]] = {}
        self._over_ranks: Callable[[Tensor], Tensor] = lambda sums: sums

    def lay_out(
        self, layout: Mapping[Tensor, Sequence[Span]], over_ranks: Callable[[Tensor], Tensor]
    ) -> None:
        """Take flat parameters for pieces of many tensors.

        Args:
            layout: the tensors of each parameter; of all ranks alike in number and order.
            over_ranks: float64 [tensors, 2] -> its sum over the ranks. Every rank calls it alike.
        """
        self._layout, self._over_ranks = dict(layout), over_ranks

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._step(parameter, parameter.grad, group)

    def _step(self, parameter: Tensor, gradient: Tensor, group: Mapping[str, Any]) -> None:
        state = self.state[parameter]
        gradients = self._tensors(parameter, gradient)
        ratios: list[float] = state.setdefault("ratios", [0.0] * len(gradients))
        found = self._measured(parameter, gradients, ratios)
        moments = self._moments(parameter, group["momentum"])
        ratios[:] = [old or new for old, new in zip(ratios, found, strict=True)]
        for i, weight in enumerate(self._tensors(parameter, parameter)):
            if not ratios[i]:
                continue
            change = gradients[i]
            if moments is not None:
                begins = bool(found[i]) or moments.begins
                change = moments.tensors[i].lerp_(change, 1.0 if begins else 1 - group["momentum"])
            weight.mul_(1 - group["lr"] * group["weight_decay"])
            weight.add_(change, alpha=-group["lr"] * ratios[i])

    def _tensors(self, parameter: Tensor, values: Tensor) -> list[Tensor]:
        """What a parameter, its gradient or its momentum has of each tensor."""
        if parameter not in self._layout:
            return [values]
        return [values.narrow(0, span.start, span.length) for span in self._layout[parameter]]

    def _measured(
        self, parameter: Tensor, gradients: Sequence[Tensor], ratios: Sequence[float]
    ) -> list[float]:
        """The ratios of the tensors that are measured now, 0 for the others."""
        if all(ratios):
            return [0.0] * len(ratios)
        sums = torch.zeros(len(ratios), 2, dtype=torch.float64, device=parameter.device)
        for i, gradient in enumerate(gradients):
            if not ratios[i]:
                sums[i] = _sums(gradient)
        spans = self._layout.get(parameter) or [Span(0, parameter.numel(), parameter.numel())]
        totals = self._over_ranks(sums).tolist()
        return [signal_to_noise(s.whole, *both) for s, both in zip(spans, totals, strict=True)]

    def _moments(self, parameter: Tensor, momentum: float) -> _Moments | None:
        state = self.state[parameter]
        if not momentum:
            state.pop("momentum", None)
            return None
        begins = "momentum" not in state  # also where a resumed run has a momentum at last
        if begins:
            state["momentum"] = torch.zeros_like(parameter)
        return _Moments(self._tensors(parameter, state["momentum"]), begins)


class _Moments(NamedTuple):
    tensors: list[Tensor]
    begins: bool
    """Whether they are new, so that the gradient at hand is the first."""


def _sums(values: Tensor) -> Tensor:
    """The sum of the values and that of their squares, float64 [2]: float32 sums would not do for
    a variance that is a difference of two of them."""
    total = torch.zeros(2, dtype=torch.float64, device=values.device)
    for part in values.reshape(-1).split(_BLOCK):
        exact = part.double()
        total += torch.stack([exact.sum(), exact.dot(exact)])
    return total


def signal_to_noise(number: int, total: float, squares: float) -> float:
    """||g|| / std(g) of `number` values with this sum and this sum of squares.

    0 where all of them are 0, or one is not finite: there is nothing to measure. 1 where they are
    all alike.
    """
    if not 0.0 < squares < math.inf:
        return 0.0
    variance = (squares - total * total / number) / max(number - 1, 1)
    if variance <= _ALIKE * squares / number:
        return 1.0
    return math.sqrt(squares / variance)
