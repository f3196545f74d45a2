"""Scales of a layer's inputs and outputs: SSL and SSB."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

from rlstep.adapters.adapter import PROJECTIONS, Adapter


@dataclass(frozen=True, kw_only=True)
class Ssl(Adapter):
    """SSL: W diag(s_in), a scale of each input of a layer (Si et al. 2024, arXiv:2407.05417).

    s_in, [d_in], starts at 1. A layer's bias stays as it is. With weights in bfloat16 a scale
    within 0.2 % of 1 is rounded away, in training and when it is merged.

    peft (0.21) computes the same as IA3 with every target a feedforward layer (a test holds it
    against this), but gives no change of a weight without merging it in place, and has nothing for
    SSB: the layer is `scaled_layer.ScaledLayer`.
    """

    target_modules: tuple[str, ...] = PROJECTIONS
    """Last names of the layers that get an adapter; one that the model lacks is refused, with its
    own."""
    scales_outputs: ClassVar[bool] = False

    def put_on(self, model: Any, *, classifier: bool = False) -> Any:
        from rlstep.adapters.scaled_layer import scale_layers

        scale_layers(model, self.target_modules, outputs=self.scales_outputs, fits=self.fits)
        if classifier:
            _train_head(model)
        return model

    @contextmanager
    def off(self, model: Any) -> Iterator[None]:
        from peft.utils import ModulesToSaveWrapper

        from rlstep.adapters.scaled_layer import ScaledLayer

        kinds = ScaledLayer | ModulesToSaveWrapper
        switched = [module for module in model.modules() if isinstance(module, kinds)]
        for module in switched:
            module.enable_adapters(False)
        try:
            yield
        finally:
            for module in switched:
                module.enable_adapters(True)

    def fits(self, layer: Any) -> bool:
        from torch import nn
        from transformers.pytorch_utils import Conv1D

        return isinstance(layer, nn.Linear | Conv1D)


@dataclass(frozen=True, kw_only=True)
class Ssb(Ssl):
    """SSB: diag(s_out) W diag(s_in), a scale of each input and output of a layer (Si et al. 2024,
    arXiv:2407.05417).

    s_in, [d_in], and s_out, [d_out], start at 1; otherwise it is `Ssl`.
    """

    scales_outputs: ClassVar[bool] = True


def _train_head(model: Any) -> None:
    """Train a copy of a classifier's head; with the adapters off it is the first one."""
    from peft.utils import ModulesToSaveWrapper

    for name in ("score", "classifier"):  # transformers' names of it
        if (head := getattr(model, name, None)) is not None:
            trained = ModulesToSaveWrapper(head, "default")
            trained.modules_to_save.requires_grad_(True)
            setattr(model, name, trained)
