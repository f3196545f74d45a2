"""What a resumed run may change, and what it may not.

A checkpoint holds the learners' weights and optimizers, the iteration, which stands for the place
in the data, and groups that were collected ahead. What says how they are to be read, and what a
step and a group are, must stay; everything else is the new configuration's, also the optimizer's
rates, betas or momentum, decay and schedule. What changes is said.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rlstep.config import Config
    from rlstep.fit_config import FitConfig
    from rlstep.running.checkpoint import RunState

_RUN = ("task", "curriculum", "seed", "prompts_per_iteration", "max_prompt_tokens", "splitter")
"""The order of the problems, and what a step is."""
_GROUP = re.compile(r"rollouts\.(.+\.)?(class|samples_per_prompt|environment\..+)")
"""Of the strategy, and of one that it is made of: what a group is."""
_AHEAD = re.compile(r"rollouts\.(.+\.)?sampling\.temperature")
"""Of the strategy at a lag: what the logprobs of groups that were collected ahead go with."""
_LEARNER = (
    "model.path",
    "model.dtype",
    "model.lora.rank",
    "model.adapter",
    "head",
    "label_tokens",
    "world_size",
    "zero_stage",
    "offload_optimizer",
    "optimizer.class",
)
"""The weights, what the optimizer keeps of them, and how both are spread over ranks."""
_ADAPTERS = ("model.lora.alpha", "model.lora.target_modules")
"""Of a learner that has LoRA's: another `alpha` would scale what they have learnt, and so make
another policy of the one that was saved."""

_OF_ITSELF = frozenset({"name", "run_dir", "resume"})
"""Of a run what says where it is, and is not told as a change."""
_LONGEST = 60
"""Characters of a value that is told."""

_ANY_EVALUATION = frozenset(
    {"name", "run_dir", "resume", "generator", "scorer", "placement", "sinks", "monitors"}
)
"""Of an evaluation what changes no sample."""


def check_resume(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Refuse a configuration that does not fit the run's checkpoints. Returns what differs, in one
    line, '' where nothing does.

    Args:
        before: what the run was started with, as `describe_config` writes it. A field that it does
            not have, since it was written by an earlier version, is not compared.
        now: what it is to go on with.

    Raises:
        ValueError: names every field that may not change, with its value before.
    """
    ahead = bool(before.get("max_policy_lag"))
    rollouts = [
        name
        for name, _, _ in _changes(before, now)
        if _GROUP.fullmatch(name) or (ahead and _AHEAD.fullmatch(name))
    ]
    _refuse_changes([*_fixed(before), *rollouts], before, now)
    return _told(before, now)


def check_fit_resume(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """The same of a supervised training. Returns and raises as `check_resume`."""
    names = _LEARNER + (_ADAPTERS if _at(before, "learner.model.lora.rank") else ())
    fixed = ("examples", "seed", *(f"learner.{name}" for name in names))
    _refuse_changes(fixed, before, now)
    return _told(before, now)


def check_same_evaluation(before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse to go on with an evaluation whose samples would not be of one kind.

    Raises:
        ValueError: names every field that may not change, with its value before.
    """
    if before.get("iterations") != 0:
        raise ValueError(
            "resume: the run of this name is no evaluation but a training; rlstep train goes on"
            " with it"
        )
    changed = [
        f"{field} is {b!r}, and was {a!r}"
        for name in before
        if name not in _ANY_EVALUATION
        for field, a, b in _differences(name, before[name], now.get(name, _ABSENT))
    ]
    if changed:
        raise ValueError(
            f"resume: {'; '.join(changed)}; what is sampled already goes with the earlier value:"
            " keep it, or begin another evaluation"
        )


def _refuse_changes(
    fixed: Iterable[str], before: Mapping[str, Any], now: Mapping[str, Any]
) -> None:
    changed = []
    for name in fixed:
        old, new = _at(before, name), _at(now, name)
        if name.endswith("optimizer.class"):
            # Its name says which states a checkpoint has; the module may be another by now.
            name, old, new = name.removesuffix(".class"), _last(old), _last(new)
        changed += [
            f"{field} is {b!r}, and was {a!r}" for field, a, b in _differences(name, old, new)
        ]
    if changed:
        raise ValueError(
            f"resume: {'; '.join(changed)}; the checkpoints hold weights, optimizers and a place in"
            " the data that go with the earlier value: keep it, or begin another run"
        )


def _told(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    changed = [
        f"{name} {_short(new)} (was {_short(old)})"
        for name, old, new in _changes(before, now)
        if name.partition(".")[0] not in _OF_ITSELF
    ]
    return f"resumed with {', '.join(changed)}" if changed else ""


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def check_unfinished(config: Config | FitConfig, state: RunState, *, complete: bool) -> None:
    """Refuse to go on where there is nothing left to do.

    Args:
        state: of the checkpoint that the run would go on from.
        complete: whether the run came to its end. One that was stopped during its last evaluation
            is still evaluated and exported.

    Raises:
        ValueError: names the field, and the nearest value with which it goes on.
    """
    done = state.iteration
    if config.iterations < done + complete:
        raise ValueError(
            f"resume: iterations is {config.iterations}, and the run has done {done}"
            f"{' and is complete' if complete else ''}; the smallest valid value is"
            f" {done + complete}"
        )
    for name in ("train_seconds", "train_tokens"):
        limit, spent = getattr(config, name, 0), state.counters.get(name, 0)
        if complete and 0 < limit <= spent:
            raise ValueError(
                f"resume: {name} is {limit:g}, and the run is complete after {spent}; it goes on"
                " with more, or with 0, which sets no limit"
            )


def _fixed(before: Mapping[str, Any]) -> Iterator[str]:
    yield from _RUN
    learners = ["policy"]
    for number, model in enumerate(before.get("step_models", ())):
        yield f"step_models.{number}.class"
        if "learner" in model:
            learners.append(f"step_models.{number}.learner")
    for learner in learners:
        names = _LEARNER + (_ADAPTERS if _at(before, f"{learner}.model.lora.rank") else ())
        yield from (f"{learner}.{name}" for name in names)


def _changes(before: Any, now: Any, name: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Every leaf that differs, by its full name; of another class that one alone, by its name. What
    the earlier version did not have is no change."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        classes = _last(before.get("class")), _last(now.get("class"))
        if classes[0] != classes[1]:
            yield f"{name}.class", *classes
            return
        if "class" not in now and before.keys() != now.keys() and name:
            yield name, before, now
            return
        for key in (key for key in now if key in before and key != "class"):
            yield from _changes(before[key], now[key], f"{name}.{key}" if name else key)
    elif isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        for number, (old, new) in enumerate(zip(before, now, strict=True)):
            yield from _changes(old, new, f"{name}.{number}")
    elif before != now:
        yield name, before, now


_ABSENT = object()


def _at(values: Any, name: str) -> Any:
    for part in name.split("."):
        if isinstance(values, list):
            values = values[int(part)] if int(part) < len(values) else _ABSENT
        elif isinstance(values, Mapping):
            values = values.get(part, _ABSENT)
        else:
            return _ABSENT
    return values


def _last(path: Any) -> Any:
    return path.rpartition(".")[2] if isinstance(path, str) else path


def _differences(name: str, old: Any, new: Any) -> Iterator[tuple[str, Any, Any]]:
    """Leaves that differ, by their full names."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in old:
            yield from _differences(f"{name}.{key}", old[key], new.get(key, _ABSENT))
    elif old is not _ABSENT and new is _ABSENT and name.startswith("step_models"):
        if name.endswith(".class"):
            yield name.removesuffix(".class"), old, None
    elif old is not _ABSENT and new is not _ABSENT and old != new:
        yield name, old, new
