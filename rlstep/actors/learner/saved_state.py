"""What a learner needs to go on bit by bit, in files that hold numbers and names and nothing else.

    <directory>/learner/state.json              of rank 0: counters, schedule, layout of the others
                        model.safetensors       of rank 0: buffers, and all weights at ZeRO 0 to 2
                        rank-00000.safetensors  of each rank: float32 weights and moments as it has
                                                them, what is frozen at ZeRO 3, random state

A piece is what the optimizer updates on a rank: a parameter at ZeRO 0, above a flat row of many
parameters' parts, of which state.json has names and shapes in order.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

FOLDER = "learner"
"""The one checkpoint in a directory that a learner saved."""
STATE = "state.json"
MODEL = "model.safetensors"
_FORMAT = "rlstep learner 1"
_PLAIN = "plain"
"""In a rank's file the optimizer's state that is no tensor, as JSON, by piece."""
_COUNTERS = ("global_steps", "global_samples", "skipped_steps")
"""DeepSpeed's."""
_SCHEDULE = ("last_epoch", "_step_count")
"""torch's. Rates and factors are the configuration's, as it is when the run goes on."""


def rank_file(rank: int) -> str:
    return f"rank-{rank:05d}.safetensors"


def save(
    engine: Any, directory: str, stage: int, counters: Mapping[str, int], *, rank: int, ranks: int
) -> None:
    """Every rank calls it, with DeepSpeed's engine.

    Args:
        stage: of ZeRO, as it is used.
        counters: the learner's own.
    """
    folder = Path(directory) / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    with _partitioned(engine):
        tensors, plain = _own_part(engine, stage, rank)
        save_file(tensors, folder / rank_file(rank), {_PLAIN: json.dumps(plain)})
        if rank == 0:
            save_file(_model(engine.module, stage), folder / MODEL)
    if rank:
        return
    schedule = engine.lr_scheduler.state_dict()
    state = {
        "format": _FORMAT,
        "zero_stage": stage,
        "world_size": ranks,
        "counters": dict(counters),
        "engine": {name: getattr(engine, name) for name in _COUNTERS},
        "schedule": {name: schedule[name] for name in _SCHEDULE},
        **_layout(engine, stage),
    }
    (folder / STATE).write_text(json.dumps(state))


def restore(engine: Any, directory: str, stage: int, *, rank: int, ranks: int) -> dict[str, int]:
    """Take what `save` wrote; the optimizer's settings stay. Every rank calls it.

    Returns:
        The learner's own counters.

    Raises:
        FileNotFoundError: the directory holds no checkpoint of a learner.
        ValueError: of another format, model or ZeRO stage, above ZeRO 0 of another number of ranks;
            or a file is not what its name says.
    """
    folder = Path(directory) / FOLDER
    state = read_state(folder)
    for name, own in (("zero_stage", stage), ("world_size", ranks)):
        if state[name] != own and (stage or name == "zero_stage"):
            raise ValueError(
                f"{name} is {own}, and {folder} was saved with {state[name]}, the one that it can"
                " go on with"
            )
    if any(state[name] != found for name, found in _layout(engine, stage).items()):
        raise ValueError(f"{folder} is of another model: its weights have other names or shapes")
    tensors, plain = _read(folder / rank_file(rank if rank < state["world_size"] else 0))
    _set_random_state(tensors)
    if stage == 0 and rank:  # every rank holds all, and rank 0 wrote it
        tensors, plain = _read(folder / rank_file(0))
    with _partitioned(engine):
        put(_model(engine.module, stage), _read(folder / MODEL)[0])
        _set_own_part(engine, stage, tensors, plain)
    schedule = engine.lr_scheduler
    schedule.load_state_dict(
        schedule.state_dict() | {name: int(state["schedule"][name]) for name in _SCHEDULE}
    )
    for name in _COUNTERS:
        setattr(engine, name, int(state["engine"][name]))
    return {name: int(value) for name, value in state["counters"].items()}


def read_state(folder: Path) -> dict[str, Any]:
    """state.json. Raises as `restore`."""
    if not (folder / STATE).is_file():
        pickled = sorted(folder.glob("*.pt")) if folder.is_dir() else []
        if pickled:
            raise ValueError(
                f"{folder} holds a checkpoint as DeepSpeed pickles them ({pickled[0].name}), of an"
                " earlier rlstep: unpickling runs what a file says, so it is not read. Export it"
                " with the version that saved it, and begin from that folder as model.path"
            )
        raise FileNotFoundError(f"there is no checkpoint in {str(folder.parent)!r}")
    try:
        state = json.loads((folder / STATE).read_text())
        known = state["format"] == _FORMAT
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{folder / STATE} cannot be read: {error!r}") from error
    if not known:
        raise ValueError(f"{folder / STATE} is of format {state['format']!r}, not {_FORMAT!r}")
    return state


def full_weights(folder: Path) -> dict[str, Tensor]:
    """All weights and buffers by the names of the model in the learner, its adapters included; at
    ZeRO 3 put together of the ranks' parts, in float32 but for what is frozen. A tied weight has
    the first of its names.

    Raises:
        FileNotFoundError, ValueError: see `restore`.
    """
    state, weights = read_state(folder), _read(folder / MODEL)[0]
    if state["zero_stage"] < 3:
        return weights
    ranks = [_read(folder / rank_file(rank))[0] for rank in range(state["world_size"])]

    def joined(rows: list[Tensor], shape: list[int]) -> Tensor:
        return torch.cat(rows)[: math.prod(shape)].reshape(shape)

    for i, piece in enumerate(state["pieces"]):
        start = 0
        for name, shape in piece:
            end = start - (-math.prod(shape) // len(ranks))  # the last ranks' end is padding
            rows = [tensors[f"{i}/weights"][start:end] for tensors in ranks]
            weights[name], start = joined(rows, shape), end
    for name, shape in state["frozen"]:
        weights[name] = joined([tensors[f"{name}/frozen"] for tensors in ranks], shape)
    return weights


def put(own: Mapping[str, Tensor], saved: Mapping[str, Tensor]) -> None:
    """Copy by name, into the dtype that is there.

    Raises:
        ValueError: names or shapes differ.
    """
    for name in sorted(own.keys() ^ saved.keys()):
        raise ValueError(f"{name} is only in {'the model' if name in own else 'the checkpoint'}")
    for name, value in own.items():
        _fill(name, value, saved[name])


def model_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Weights, a tied one once, and the buffers that belong to the model."""
    kept = module.state_dict().keys()
    buffers = {name: buffer for name, buffer in module.named_buffers() if name in kept}
    return dict(module.named_parameters()) | buffers


def _model(module: nn.Module, stage: int) -> dict[str, Tensor]:
    """What every rank holds in full."""
    apart = dict(module.named_parameters()) if stage == 3 else {}
    tensors = model_tensors(module)
    return {name: value.detach() for name, value in tensors.items() if name not in apart}


def _pieces(engine: Any, stage: int) -> list[tuple[str, Tensor]]:
    zero = engine.optimizer
    if stage == 0:
        names = _names(engine)
        return [(names[id(p)], p) for group in zero.param_groups for p in group["params"]]
    of_stage = "fp32_partitioned_groups_flat" if stage == 3 else "single_partition_of_fp32_groups"
    rows = getattr(zero, of_stage)
    return [(str(i), row) for i, row in enumerate(rows)]


def _layout(engine: Any, stage: int) -> dict[str, Any]:
    """Names and shapes, in order: of what is in each piece, and of what is frozen and cut."""
    names, zero = _names(engine), engine.optimizer
    if stage == 0:
        groups = [group["params"] for group in zero.param_groups]
    else:
        groups = zero.fp16_groups if stage == 3 else zero.round_robin_bit16_groups

    def told(parameter: Any) -> list[Any]:
        return [names[id(parameter)], list(getattr(parameter, "ds_shape", parameter.shape))]

    pieces = [[told(parameter) for parameter in group] for group in groups]
    return {"pieces": pieces, "frozen": [told(p) for p in _frozen(engine, stage).values()]}


def _frozen(engine: Any, stage: int) -> dict[str, Any]:
    """What is not trained and every rank has a part of."""
    named = engine.module.named_parameters() if stage == 3 else ()
    return {name: parameter for name, parameter in named if not parameter.requires_grad}


def _names(engine: Any) -> dict[int, str]:
    return {id(parameter): name for name, parameter in engine.module.named_parameters()}


def _states(engine: Any) -> Any:
    """By piece, what torch's optimizer keeps of it."""
    return getattr(engine.optimizer, "optimizer", engine.optimizer).state


def _own_part(engine: Any, stage: int, rank: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
    tensors, plain = _random_state(), {}
    if stage == 0 and rank:
        return tensors, plain
    states = _states(engine)
    for name, piece in _pieces(engine, stage):
        plain[name] = {}
        if stage:
            tensors[f"{name}/weights"] = piece.detach()
        for key, value in states.get(piece, {}).items():
            if isinstance(value, Tensor):
                tensors[f"{name}/{key}"] = value
            else:
                plain[name][key] = value
    for name, parameter in _frozen(engine, stage).items():
        tensors[f"{name}/frozen"] = parameter.ds_tensor.detach()
    return tensors, plain


def _set_own_part(
    engine: Any, stage: int, tensors: Mapping[str, Tensor], plain: Mapping[str, Any]
) -> None:
    saved: defaultdict[str, dict[str, Any]] = defaultdict(dict)
    for name, value in tensors.items():
        piece, _, key = name.rpartition("/")
        saved[piece][key] = value
    states = _states(engine)
    for name, piece in _pieces(engine, stage):
        found = saved[name] | plain.get(name, {})
        if stage:
            _fill(name, piece, found.pop("weights", None))
        _set_moments(name, states[piece], found, piece.device)
    for name, parameter in _frozen(engine, stage).items():
        _fill(name, parameter.ds_tensor, saved[name].get("frozen"))
    if stage == 3:
        _spread(engine.optimizer)


def _set_moments(name: str, state: Any, saved: Mapping[str, Any], device: torch.device) -> None:
    for key in state.keys() - saved.keys():
        del state[key]
    for key, value in saved.items():
        if isinstance(value, Tensor) and isinstance(own := state.get(key), Tensor):
            _fill(f"{name}/{key}", own, value)  # in place: DeepSpeed has views of it
        elif isinstance(value, Tensor) and value.ndim:
            state[key] = value.to(device)
        else:
            state[key] = value  # torch counts updates on the CPU


def _spread(zero: Any) -> None:
    """At ZeRO 3 the model's own parts are made of the float32 ones."""
    for row, own, parts in zip(
        zero.fp32_partitioned_groups_flat,
        zero.fp16_partitioned_groups_flat,
        zero.fp16_partitioned_groups,
        strict=True,
    ):
        own.data.copy_(row.data)
        for part, view in zip(parts, zero.unflatten(own, parts), strict=True):
            part.data = view.data


def _fill(name: str, own: Tensor, saved: Any) -> None:
    if saved is None or saved.shape != own.shape:
        shape = None if saved is None else list(saved.shape)
        raise ValueError(f"size mismatch for {name}: {shape} was saved, {list(own.shape)} is here")
    own.data.copy_(saved)


@contextmanager
def _partitioned(engine: Any) -> Iterator[None]:
    """At ZeRO 3 small weights are kept whole for a while; not in the block."""
    begin = getattr(engine.optimizer, "checkpoint_event_prologue", None)
    if begin is None:
        yield
        return
    begin()
    yield
    engine.optimizer.checkpoint_event_epilogue()


def _random_state() -> dict[str, Tensor]:
    states = {"random_state": torch.get_rng_state()}
    if torch.cuda.is_initialized():
        states["cuda_random_state"] = torch.cuda.get_rng_state()
    return states


def _set_random_state(saved: Mapping[str, Tensor]) -> None:
    for name, own in _random_state().items():
        value = saved.get(name)
        if value is None and name != "random_state":
            continue  # it was saved on a CPU
        if value is None or (value.dtype, value.shape) != (own.dtype, own.shape):
            raise ValueError(f"{name} is not what this torch keeps of its random numbers")
        (torch.cuda if name.startswith("cuda") else torch).set_rng_state(value)


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """A file's tensors, and what is plain in it.

    Raises:
        ValueError: it is no safetensors file.
    """
    try:
        with safe_open(path, framework="pt") as file:
            plain = json.loads((file.metadata() or {}).get(_PLAIN, "{}"))
            return {name: file.get_tensor(name) for name in file.keys()}, plain  # noqa: SIM118
    except (SafetensorError, ValueError) as error:
        raise ValueError(f"{path} is no safetensors file that a learner wrote: {error}") from error
