"""Adding up models, one weight at a time, in float64; what is written is float32."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rlstep.interfaces import Merger
from rlstep.merging.models import ModelFolder, check_alike

if TYPE_CHECKING:
    from torch import Tensor

Floats = NDArray[np.float64]

_CHUNK = 1 << 22
"""Numbers of a weight that are added up at a time, of every model in float64."""


@dataclass(frozen=True, kw_only=True)
class Merge:
    """A merge that can be made: everything about it that could be refused has been looked at."""

    base: ModelFolder
    models: Sequence[ModelFolder]
    products: Floats
    """[K, K], the inner products of the task vectors."""
    mix: Floats
    """[K, K], see `Merger.mix`."""

    @property
    def mixed(self) -> Floats:
        """[K, K], the inner products of what becomes of them."""
        return self.mix @ self.products @ self.mix.T

    @property
    def numbers(self) -> int:
        """How many numbers are merged; a tied weight's count once."""
        return sum(int(np.prod(self.base.shapes[name])) for name in _trained(self.base))


def prepared(merger: Merger, base: ModelFolder, models: Sequence[ModelFolder]) -> Merge:
    """Compare the models with the base, and say what is to be made of them.

    Raises:
        ValueError: a model is not of the base (see `check_alike`), has another buffer, is the base
            or has weights that are no numbers; or the merger's own refusal.
    """
    check_alike(base, models)
    _check_buffers(base, models)
    products = _products(base, models)
    for model, square in zip(models, np.diag(products), strict=True):
        if not np.isfinite(square):
            raise ValueError(f"{model.path}: it, or the base, has weights that are not finite")
        if square == 0.0:
            raise ValueError(
                f"{model.path}: its weights are those of the base {base.path}; leave it out"
            )
    return Merge(base=base, models=models, products=products, mix=merger.mix(products))


def write(merge: Merge, folder: Path) -> None:
    """A Hugging Face folder, its tokenizer and settings the first model's, its weights float32.

    Raises:
        OSError: it cannot be written.
    """
    from huggingface_hub import save_torch_state_dict

    merged = dict(_merged(merge))
    save_torch_state_dict(merged, folder)
    first = merge.models[0]
    first.config.dtype = "float32"
    first.config.save_pretrained(folder)
    first.tokenizer.save_pretrained(folder)
    generation = Path(first.path) / "generation_config.json"
    if generation.is_file():
        (folder / generation.name).write_bytes(generation.read_bytes())


def _trained(base: ModelFolder) -> Iterator[str]:
    return (name for name in base.shapes if name not in base.buffers)


def _check_buffers(base: ModelFolder, models: Sequence[ModelFolder]) -> None:
    """A buffer is no weight that was trained, and is taken over as it stands."""
    for name in base.shapes.keys() & base.buffers:
        for model in models:
            if not base.weight(name).equal(model.weight(name)):
                raise ValueError(
                    f"{model.path}: its buffer {name!r} is not that of the base {base.path}, and"
                    " a buffer cannot be merged"
                )


def _products(base: ModelFolder, models: Sequence[ModelFolder]) -> Floats:
    """[K, K], of the task vectors over all weights."""
    total = np.zeros((len(models), len(models)))
    for name in _trained(base):
        for _, vectors in _chunks(base, models, name):
            total += (vectors @ vectors.T).numpy()
    return total


def _merged(merge: Merge) -> Iterator[tuple[str, Tensor]]:
    import torch

    amounts = torch.from_numpy(merge.mix.sum(0))
    trained = set(_trained(merge.base))
    for name, shape in merge.base.shapes.items():
        if name not in trained:
            yield name, merge.base.weight(name)
            continue
        chunks = _chunks(merge.base, merge.models, name)
        sums = [(start + amounts @ vectors).float() for start, vectors in chunks]
        yield name, torch.cat(sums).reshape(shape)


def _chunks(
    base: ModelFolder, models: Sequence[ModelFolder], name: str
) -> Iterator[tuple[Tensor, Tensor]]:
    """Of a weight some numbers of the base, [n], and of the task vectors, [K, n], in float64: what
    small learning rates changed is a difference of nearly equal numbers."""
    import torch

    own, others = base.weight(name).flatten(), [m.weight(name).flatten() for m in models]
    for first in range(0, max(own.numel(), 1), _CHUNK):
        part = slice(first, first + _CHUNK)
        start = own[part].double()
        yield start, torch.stack([other[part].double() for other in others]) - start
