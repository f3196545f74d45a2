"""What a run was made of: its configuration, the versions, the state of the code."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import cache
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import numpy as np

from rlstep.reporting.redact import REDACTED, is_secret_name, redact


def describe_config(config: Any, name: str = "config") -> Any:
    """A configuration as JSON values: nested dataclasses with their classes, no secrets. Below a
    secret's name everything is one.

    Raises:
        ValueError: naming a field whose value has no written form.
    """
    if isinstance(config, Enum):
        return describe_config(config.value, name)
    if config is None or isinstance(config, bool):
        return config
    if isinstance(config, str | Path | int | float):
        if any(map(is_secret_name, name.split("."))):
            return REDACTED
        return redact(str(config)) if isinstance(config, str | Path) else config
    if isinstance(config, type):
        return f"{config.__module__}.{config.__qualname__}"
    if is_dataclass(config):
        values = {f.name: getattr(config, f.name) for f in fields(config)}
        # 'class' is a keyword, so no field has this name.
        return {"class": describe_config(type(config)), **describe_config(values, name)}
    if isinstance(config, Mapping):
        return {redact(str(k)): describe_config(v, f"{name}.{k}") for k, v in config.items()}
    return [describe_config(item, name) for item in _items(config, name)]


def _items(value: Any, name: str) -> list[Any]:
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, set | frozenset):
        return sorted(value, key=str)
    if isinstance(value, list | tuple):
        return list(value)
    raise ValueError(
        f"{name} is a {type(value).__qualname__}; a configuration holds dataclasses, mappings,"
        " sequences, strings and numbers"
    )


def describe_versions() -> dict[str, Any]:
    """Python, the machine's kind, every installed package, and the commit of this code."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "git": _git_state(Path(__file__).parent),
        "packages": _packages(),
    }


@cache
def _packages() -> dict[str, str]:
    """Name and version of what is installed, by name; a process reads it once, in a second."""
    packages = {d.metadata["Name"]: d.version for d in distributions()}
    return dict(sorted(packages.items(), key=lambda item: item[0].lower()))


def _git_state(folder: Path) -> dict[str, Any] | None:
    """Commit, and whether the working tree differs from it; None outside a repository."""
    commit = _git(folder, "rev-parse", "HEAD")
    changes = _git(folder, "status", "--porcelain")
    return None if commit is None else {"commit": commit, "dirty": bool(changes)}


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
    except (FileNotFoundError, subprocess.CalledProcessError):
        return None  # no git, or no repository
    return done.stdout.strip()
