"""The plug point of adapters."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar

PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""Llama's and Qwen's layers with a matrix, between the embeddings and the head."""


class Adapter(ABC):
    """A change of some layers that is trained in place of the model's own weights.

    A layer that has one is a module of its own, as peft's are: it has the frozen layer as
    `base_layer`, what is trained beside it, and `get_delta_weight('default')`, which gives what is
    added to the frozen weight to merge it, in the weight's own layout.
    """

    target_modules: tuple[str, ...]
    """Last names of the layers that get an adapter; one that the model lacks is refused, with its
    own."""
    field: ClassVar[str] = "model.adapter"
    """Where it stands in a learner's configuration, for messages."""

    @property
    def present(self) -> bool:
        """False of what stands for no adapter."""
        return True

    @abstractmethod
    def put_on(self, model: Any, *, classifier: bool = False) -> Any:
        """The model with new adapters that change nothing yet, the rest of it frozen.

        Args:
            model: a Hugging Face model; one on no device will do to count or to check. It may be
                changed.
            classifier: whether it has a new head, which is trained whole.
        """

    @abstractmethod
    def off(self, model: Any) -> AbstractContextManager[Any]:
        """Within it the model that `put_on` returned is the one it was put on."""

    @abstractmethod
    def fits(self, layer: Any) -> bool:
        """Whether it can change a layer of this kind."""


@dataclass(frozen=True, kw_only=True)
class NoAdapter(Adapter):
    """None: the model's own weights are trained, unless it has LoRA's."""

    target_modules: tuple[str, ...] = ()
    """Of no meaning here."""

    @property
    def present(self) -> bool:
        return False

    def put_on(self, model: Any, *, classifier: bool = False) -> Any:
        return model

    def off(self, model: Any) -> AbstractContextManager[Any]:
        return nullcontext()

    def fits(self, layer: Any) -> bool:
        return False
