"""LoRA, by peft."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

from rlstep.adapters.adapter import PROJECTIONS, Adapter
from rlstep.checks import at_least


@dataclass(frozen=True, kw_only=True)
class LoraConfig(Adapter):
    """LoRA: W + (alpha / rank) B A, of low rank (Hu et al. 2021, arXiv:2106.09685, section 4.1).

    A, [rank, d_in], starts at random and B, [d_out, rank], at zero. `rank` 0 trains the full model.
    """

    rank: int = 0
    """Inner size of each adapter; 0 trains the full model."""
    alpha: float = 16.0
    """An adapter's product is multiplied by alpha / rank."""
    target_modules: tuple[str, ...] = PROJECTIONS
    """Last names of the layers that get an adapter; one that the model lacks is refused, with its
    own."""
    field: ClassVar[str] = "model.lora"

    def __post_init__(self) -> None:
        at_least("lora.rank", self.rank, 0)

    @property
    def present(self) -> bool:
        return self.rank > 0

    def put_on(self, model: Any, *, classifier: bool = False) -> Any:
        import peft

        return peft.get_peft_model(
            model,
            peft.LoraConfig(
                r=self.rank,
                lora_alpha=self.alpha,  # type: ignore[arg-type]  # only ever divided by r
                target_modules=list(self.target_modules),
                task_type=peft.TaskType.TOKEN_CLS if classifier else peft.TaskType.CAUSAL_LM,
            ),
        )

    def off(self, model: Any) -> AbstractContextManager[Any]:
        return model.disable_adapter()

    def fits(self, layer: Any) -> bool:
        from torch import nn
        from transformers.pytorch_utils import Conv1D

        return isinstance(layer, nn.Linear | nn.Embedding | Conv1D)
