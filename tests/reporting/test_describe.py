from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlstep.reporting.describe import describe_config, describe_versions


class Colour(Enum):
    RED = "red"


@dataclass(frozen=True)
class Plugin:
    beta: float = 0.1


@dataclass(frozen=True)
class Example:
    loss: Plugin = Plugin()
    sizes: tuple[int, ...] = (1, 2)
    colour: Colour = Colour.RED
    path: Path = Path("models/tiny")
    kind: type = Plugin
    on: bool = True
    nothing: None = None
    names: frozenset[str] = frozenset({"b", "a"})
    rows: Any = field(default_factory=lambda: np.array([1.5]))
    extra: Mapping[str, Any] = field(default_factory=dict)


def test_a_nested_configuration_keeps_its_classes():
    name = f"{__name__}.Plugin"
    assert describe_config(Example(extra={"inner": Plugin(beta=0.3)})) == {
        "class": f"{__name__}.Example",
        "loss": {"class": name, "beta": 0.1},
        "sizes": [1, 2],
        "colour": "red",
        "path": "models/tiny",
        "kind": name,
        "on": True,
        "nothing": None,
        "names": ["a", "b"],
        "rows": [1.5],
        "extra": {"inner": {"class": name, "beta": 0.3}},
    }


def test_a_value_without_a_written_form_is_named():
    with pytest.raises(ValueError, match=r"config\.extra\.hook is a function"):
        describe_config(Example(extra={"hook": lambda: None}))


def test_versions_name_python_packages_and_the_commit():
    versions = describe_versions()
    assert versions["packages"]["numpy"] == np.__version__
    assert versions["python"].startswith("3.")
    head = subprocess.run(
        ["git", "rev-parse", "HEAD"],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parent,
    )
    expected = head.stdout.strip() if head.returncode == 0 else None
    assert (versions["git"] or {}).get("commit") == expected
    json.dumps(versions)
