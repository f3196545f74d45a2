"""What a model and its data are known by, wherever they lie: sha256 of their contents.

A model's hash is over its tensors (name, dtype, shape, bytes) in the order of their names, not over
its files. A folder that was copied, renamed, or written again in other shards keeps its hash;
another dtype is another model. Files that torch pickles are not read: such a model has none.

Data's hash is over what was loaded, in order, so another limit, order or answer shows.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rlstep.types import Prompt, Samples

_BLOCK = 1 << 20
_LONGEST_HEADER = 100_000_000
"""Bytes; the format's own bound."""
_INDEX = "model.safetensors.index.json"
_WHOLE = "model.safetensors"


class _Tensor(NamedTuple):
    name: str
    dtype: str
    shape: tuple[int, ...]
    file: Path
    start: int
    end: int


def hash_weights(folder: Path) -> str:
    """The sha256 of a model's tensors, in hexadecimal. Tensors are read side by side.

    Args:
        folder: of a model in safetensors. Its index says which files count, or else it is
            model.safetensors, or else all of them.

    Raises:
        ValueError: it has no such weights, or a file of them is cut short or no safetensors; names
            the file.
        OSError: a file cannot be read.
    """
    tensors = sorted(tensor for file in _weight_files(folder) for tensor in _tensors(file))
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        digests = list(pool.map(_digest, tensors))
    whole = hashlib.sha256()
    for tensor, digest in zip(tensors, digests, strict=True):
        whole.update(f"{json.dumps(tensor.name)} {tensor.dtype} {tensor.shape} {digest}\n".encode())
    return whole.hexdigest()


def _weight_files(folder: Path) -> list[Path]:
    if (index := folder / _INDEX).is_file():
        try:
            names = set(json.loads(index.read_text())["weight_map"].values())
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{index.name}: no index of weights: {error!r}") from error
        return [folder / Path(name).name for name in sorted(names)]
    if (folder / _WHOLE).is_file():
        return [folder / _WHOLE]
    if files := sorted(folder.glob("*.safetensors")):
        return files
    raise ValueError(f"{folder.name} has no weights in safetensors")


def _tensors(file: Path) -> Iterator[_Tensor]:
    """What the header of a safetensors file lists: its length in 8 bytes, then JSON."""
    if not file.is_file():
        raise ValueError(f"{file.name} is in the index of weights, and is missing")
    size = file.stat().st_size
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        if size < 8 or length > min(_LONGEST_HEADER, size - 8):
            raise ValueError(f"{file.name} is no safetensors file, or is cut short")
        header = opened.read(length)
    try:
        entries = json.loads(header)
        entries.pop("__metadata__", None)
        found = [
            _Tensor(
                name=name,
                dtype=str(entry["dtype"]),
                shape=tuple(map(int, entry["shape"])),
                file=file,
                start=8 + length + int(entry["data_offsets"][0]),
                end=8 + length + int(entry["data_offsets"][1]),
            )
            for name, entry in entries.items()
        ]
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise ValueError(f"{file.name}: its header is not safetensors': {error!r}") from error
    if any(not 0 <= tensor.start <= tensor.end <= size for tensor in found):
        raise ValueError(f"{file.name} is cut short: it has {size:,} bytes")
    yield from found


def _digest(tensor: _Tensor) -> str:
    digest, left = hashlib.sha256(), tensor.end - tensor.start
    with tensor.file.open("rb") as file:
        file.seek(tensor.start)
        while left:
            block = file.read(min(left, _BLOCK))
            if not block:
                raise ValueError(f"{tensor.file.name} became shorter while it was read")
            digest.update(block)
            left -= len(block)
    return digest.hexdigest()


def hash_prompts(prompts: Iterable[Prompt]) -> str:
    """The sha256 of prompts in order: each one's id, text and reference answer."""
    digest = hashlib.sha256()
    for prompt in prompts:
        row = json.dumps([prompt.prompt_id, prompt.text, prompt.answer])
        digest.update(f"{row}\n".encode())
    return digest.hexdigest()


def hash_samples(samples: Samples) -> str:
    """The sha256 of everything in them: tokens, masks, labels."""
    digest = SamplesHash()
    list(digest.passing([samples]))
    return digest.hexdigest()


@dataclass
class SamplesHash:
    """The sha256 of a stream of batches, as far as it was drawn."""

    batches: int = 0
    prompt_ids: set[str] = field(default_factory=set)
    """Of all sequences in them."""

    def __post_init__(self) -> None:
        self._digest = hashlib.sha256()

    def passing(self, batches: Iterable[Samples]) -> Iterator[Samples]:
        """The same batches; each is in the hash when it is handed on."""
        for samples in batches:
            self.batches += 1
            self._add(samples)
            self.prompt_ids.update(each.prompt_id for each in samples.sequences)
            yield samples

    def hexdigest(self) -> str:
        """Of the batches so far."""
        return self._digest.hexdigest()

    def _add(self, value: Any) -> None:
        if is_dataclass(value):
            self._digest.update(f"{type(value).__name__}(".encode())
            for part in fields(value):
                self._add(getattr(value, part.name))
        elif isinstance(value, np.ndarray):
            self._digest.update(f"{value.dtype.str}{value.shape}".encode())
            self._digest.update(np.ascontiguousarray(value).tobytes())
        elif isinstance(value, tuple | list):
            self._digest.update(f"[{len(value)}".encode())
            for item in value:
                self._add(item)
        else:
            self._digest.update(f"{value!r},".encode())
