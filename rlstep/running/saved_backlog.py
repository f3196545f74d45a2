"""A backlog in a checkpoint: records as JSON, their arrays as safetensors, and nothing that would
be executed where it is read.

    <checkpoint>/backlog.json           records and numbers; an array is its place in the other file
                 backlog.safetensors    a tensor for each dtype, all arrays of it one after another

Prompts that the task has are kept by their ids.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np

from rlstep.running.backlog import Admitted, Backlog
from rlstep.types import (
    Completion,
    Failure,
    Group,
    Likeliest,
    Observed,
    OutcomeScore,
    Prompt,
    Rollout,
    RolloutScore,
    Sampling,
    Step,
    StepScores,
    TokenScores,
    Verdict,
    VersionSpan,
    Votes,
)

RECORDS = "backlog.json"
ARRAYS = "backlog.safetensors"
_KINDS: Mapping[str, type] = {
    kind.__name__: kind
    for kind in (
        *(Admitted, Backlog, Completion, Failure, Group, Likeliest, Observed, OutcomeScore, Prompt),
        *(Rollout, RolloutScore, Sampling, Step, StepScores, TokenScores, Verdict, VersionSpan),
        Votes,
    )
}
"""All that a file can name."""


def write_backlog(folder: Path, backlog: Backlog, prompts: Sequence[Prompt]) -> None:
    """Write both files.

    Args:
        folder: of the checkpoint, which flushes them.
        prompts: of the task.

    Raises:
        ValueError: a record holds what cannot be written; names its class.
    """
    from safetensors.numpy import save

    writer = _Writer({prompt.prompt_id: prompt for prompt in prompts})
    records = writer.written(backlog)
    arrays = {name: np.concatenate(parts) for name, parts in writer.parts.items()}
    (folder / RECORDS).write_text(json.dumps(records))
    (folder / ARRAYS).write_bytes(save(arrays))  # a full disk is an OSError so


def read_backlog(folder: Path, prompts: Sequence[Prompt]) -> Backlog | None:
    """What `write_backlog` wrote, None where a checkpoint has none.

    Args:
        folder: of the checkpoint, which was verified.
        prompts: of the task.

    Raises:
        ValueError: a file is none of ours, or names a prompt that the task does not have.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    if not (folder / RECORDS).exists():
        return None
    by_id = {prompt.prompt_id: prompt for prompt in prompts}
    try:
        reader = _Reader(by_id, load_file(folder / ARRAYS))
        found = reader.read(json.loads((folder / RECORDS).read_text()))
    except (
        *(OSError, SafetensorError, ValueError, TypeError, KeyError, IndexError, AttributeError),
        *(AssertionError, RecursionError),
    ) as error:
        raise ValueError(f"{folder / RECORDS} cannot be read: {error!r}") from error
    if not isinstance(found, Backlog):
        raise ValueError(f"{folder / RECORDS} holds {type(found).__name__}, and no backlog")
    return found


class _Writer:
    def __init__(self, prompts: Mapping[str, Prompt]) -> None:
        self._prompts = prompts
        self._sizes: dict[str, int] = defaultdict(int)
        self.parts: dict[str, list[np.ndarray]] = defaultdict(list)
        """By dtype: all arrays, flat."""

    def written(self, value: Any) -> Any:
        """As JSON: plain values and lists are themselves, all else is an object of one entry."""
        if isinstance(value, Enum):
            return {type(value).__name__: value.value}
        if value is None or isinstance(value, bool | int | float | str):
            return value
        if isinstance(value, np.ndarray | np.generic):
            return {"array": self._place(np.asarray(value))}
        if isinstance(value, Prompt) and self._prompts.get(value.prompt_id) is value:
            return {"prompt": value.prompt_id}
        if is_dataclass(value) and type(value).__name__ in _KINDS:
            named = {f.name: self.written(getattr(value, f.name)) for f in fields(value)}
            return {type(value).__name__: named}
        return self._collection(value)

    def _collection(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self.written(each) for each in value]
        if isinstance(value, tuple):
            return {"tuple": [self.written(each) for each in value]}
        if isinstance(value, set | frozenset):
            return {"set": sorted(value)}
        if isinstance(value, Mapping):
            return {"map": [[self.written(k), self.written(v)] for k, v in value.items()]}
        raise ValueError(f"a {type(value).__name__} cannot be kept in a checkpoint: {value!r:.80}")

    def _place(self, array: np.ndarray) -> list[Any]:
        """[dtype, first element, shape]."""
        name = array.dtype.name
        first = self._sizes[name]
        self.parts[name].append(array.reshape(-1))
        self._sizes[name] += array.size
        return [name, first, list(array.shape)]


class _Reader:
    def __init__(self, prompts: Mapping[str, Prompt], arrays: Mapping[str, np.ndarray]) -> None:
        self._prompts, self._arrays = prompts, arrays

    def read(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self.read(each) for each in value]
        if not isinstance(value, dict):
            return value
        ((name, inside),) = value.items()
        if name == "tuple":
            return tuple(self.read(each) for each in inside)
        if name == "set":
            return set(inside)
        if name == "map":
            return {self.read(k): self.read(v) for k, v in inside}
        if name == "array":
            return self._array(*inside)
        if name == "prompt":
            return self._prompts[inside]
        if not isinstance(inside, dict):
            return _KINDS[name](inside)
        return _KINDS[name](**{field: self.read(each) for field, each in inside.items()})

    def _array(self, name: str, first: int, shape: list[int]) -> Any:
        flat = self._arrays[name][first : first + math.prod(shape)]
        array = flat.reshape(shape).copy()
        return array if shape else array[()]
