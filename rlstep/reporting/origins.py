"""What a run came from, kept in its versions.json: names and hashes, and never a path.

    "started": "2026-11-30T08:45:12Z",   of its first start, UTC
    "recipe":  "arithmetic_grpo",        its file's name, null for a run that a program made
    "methods": [{"part": "loss", "class": "Grpo", "about": ..., "papers": ["2402.03300"]}, ...],
    "data":    {"name": "Jsonl", "from": ["train.jsonl"], "train": {"sha256": ..., "prompts": 64}},
    "models":  {"policy": {"name": "first/export", "sha256": ...}, ...}

What cannot be known has the reason under "unknown" in the place of "sha256".
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rlstep.interfaces import PromptSet, Sink
from rlstep.learner_config import ModelConfig
from rlstep.plugins import PLUG_POINTS
from rlstep.reporting.files import read_json, write_json
from rlstep.reporting.hashing import hash_prompts, hash_weights
from rlstep.reporting.reading import printable
from rlstep.reporting.redact import redact
from rlstep.reporting.run_directory import RunDirectory, run_of

_ARXIV = re.compile(r"\b\d{4}\.\d{5}(?!\d)")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")

logger = logging.getLogger(__name__)


def summary(plugin: type) -> str:
    """The first line of its docstring."""
    return (plugin.__doc__ or "").strip().partition("\n")[0]


def arxiv_ids(plugin: type) -> list[str]:
    """The arXiv ids in its docstring, in the order in which they are named."""
    return list(dict.fromkeys(_ARXIV.findall(plugin.__doc__ or "")))


def methods(config: Any) -> list[dict[str, Any]]:
    """Every plug-in of a configuration but its sinks, as `rlstep list` has it, in order."""
    return [
        {"part": part, "class": kind.__name__, "about": summary(kind), "papers": arxiv_ids(kind)}
        for part, value in _tree(config)
        if isinstance(value, PLUG_POINTS) and not isinstance(value, Sink)
        for kind in [type(value)]
    ]


def data_of(source: Any, prompts: PromptSet | None = None) -> dict[str, Any]:
    """The entry of a task and what it loaded, or of examples, whose hash only training knows."""
    named = [getattr(value, "path", None) for _, value in _tree(source) if is_dataclass(value)]
    found: dict[str, Any] = {
        "name": type(source).__name__,
        "from": list(dict.fromkeys(name_of(path) for path in named if isinstance(path, str))),
    }
    for split in ("train", "evaluation") if prompts else ():
        loaded = getattr(prompts, split)
        found[split] = {"sha256": hash_prompts(loaded), "prompts": len(loaded)}
    return found


def models_of(config: Any) -> dict[str, dict[str, Any]]:
    """The entry of every model of a configuration: by its field ('policy'), a step model's by its
    source ('prm').

    Each folder is read once, however many roles begin with it.
    """
    sources = {
        f"step_models.{i}": m.source for i, m in enumerate(getattr(config, "step_models", ()))
    }
    known: dict[str, dict[str, Any]] = {}
    found = {}
    for field, value in _tree(config):
        if isinstance(value, ModelConfig) and value.path:
            entry = known.get(value.path) or known.setdefault(value.path, model_entry(value.path))
            place = field.removesuffix(".model").removesuffix(".learner")
            found[sources.get(place, place)] = entry
    return found


def model_entry(path: str) -> dict[str, Any]:
    """Name and hash of a model: a folder, or a hub id whose weights are on this machine."""
    entry: dict[str, Any] = {"name": name_of(path)}
    folder = Path(path).expanduser()
    if not folder.is_dir():
        from huggingface_hub import try_to_load_from_cache

        cached = try_to_load_from_cache(path, "config.json") if is_hub_id(path) else None
        if not isinstance(cached, str):
            return {
                **entry,
                "unknown": "its weights are not on the machine that the run was led by",
            }
        folder = Path(cached).parent
        entry["revision"] = folder.name
    try:
        return {**entry, "sha256": hash_weights(folder)}
    except (ValueError, OSError) as error:
        said = error.strerror if isinstance(error, OSError) else str(error)
        return {**entry, "unknown": redact(said or "it cannot be read")}


def name_of(path: str) -> str:
    """What a model or a file of data is called without saying where it lies.

    A hub id is its own name; a model within a run has the run's before it; anything else has the
    last part of its path.
    """
    place = Path(path).expanduser()
    if not place.exists():
        return _plain(path if is_hub_id(path) else place.name)
    place = place.absolute()
    if place.is_dir() and (run := run_of(str(place), place)) and run.path != place:
        return _plain(f"{run.name}/{place.relative_to(run.path.absolute()).as_posix()}")
    return _plain(place.resolve().name)


def is_hub_id(path: str) -> bool:
    """Whether it can be a name at the hub, 'owner/name' or 'name', and is nothing here."""
    return _HUB_ID.fullmatch(path) is not None and not Path(path).exists()


def _plain(name: str) -> str:
    return printable(redact(name)).replace("\n", " ").replace("\t", " ").replace("`", "'")


def _tree(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Every dataclass in a tree of them, tuples and mappings, under its dotted name."""
    if is_dataclass(value) and not isinstance(value, type):
        yield name, value
        inside = [(f.name, getattr(value, f.name)) for f in fields(value)]
    elif isinstance(value, tuple | list):
        inside = [(str(index), item) for index, item in enumerate(value)]
    elif isinstance(value, Mapping):
        inside = [(str(key), item) for key, item in value.items()]
    else:
        return
    for part, item in inside:
        yield from _tree(item, f"{name}.{part}" if name else part)


# --- versions.json -------------------------------------------------------------------------------


def now() -> str:
    """The time, in UTC."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def note(directory: RunDirectory, **entries: Any) -> None:
    """Add entries to a run's versions.json, in the place of those of the same name."""
    write_json(directory.versions, {**read_versions(directory), **entries})


def note_models(directory: RunDirectory, config: Any) -> None:
    """Add the models that a run begins with, which it has loaded by now.

    Of a resumed run what it began with stands: where a folder's weights are others by now, that is
    said.
    """
    earlier = read_versions(directory).get("models", {})
    found = models_of(config)
    for field, entry in found.items():
        was = earlier.get(field, {}).get("sha256")
        if was and entry.get("sha256") not in (None, was):
            logger.warning(
                "%s: the weights of %r are not those that the run began with (%s, was %s)",
                *(field, entry["name"], short(entry), short(earlier[field])),
            )
    note(directory, models={**found, **{f: e for f, e in earlier.items() if "sha256" in e}})


def read_versions(directory: RunDirectory) -> dict[str, Any]:
    """What is in it; nothing where it is missing or broken, which is said."""
    if not directory.versions.exists():
        return {}
    try:
        return read_json(directory.versions)
    except ValueError as error:
        logger.warning("%s; it is written anew", error)
        return {}


def check_same_data(directory: RunDirectory, prompts: PromptSet) -> None:
    """Refuse to go on with other training problems than a run began with.

    Raises:
        ValueError: the task's fields are the same, and what it loads is not: a file was changed.
    """
    versions = read_json(directory.versions) if directory.versions.exists() else {}
    was = versions.get("data", {}).get("train")
    now_is = hash_prompts(prompts.train) if was else ""
    if was and was["sha256"] != now_is:
        raise ValueError(
            f"resume: the task's {len(prompts.train):,} training problems (sha256 {now_is[:12]})"
            f" are not the {was['prompts']:,} that the run began with ({was['sha256'][:12]}); its"
            " checkpoints hold a place in those: restore the data, or begin another run"
        )


def short(entry: Mapping[str, Any]) -> str:
    """The first twelve digits of an entry's hash, or that it is not known."""
    return str(entry["sha256"])[:12] if "sha256" in entry else "unknown"
