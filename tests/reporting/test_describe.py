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
from rlstep.reporting.redact import REDACTED, is_secret_name, redact
from tests.reporting.secret_shapes import BY_NAME, BY_SHAPE


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


@pytest.mark.parametrize("name", [name for name, _ in BY_NAME])
def test_a_field_with_a_secrets_name_is_redacted(name: str):
    assert is_secret_name(name)
    assert describe_config({name: "hunter2"}) == {name: REDACTED}


@pytest.mark.parametrize("secret", BY_SHAPE)
def test_a_value_with_a_secrets_shape_is_redacted(secret: str):
    text = json.dumps(describe_config({"notes": ["see", f"use {secret} here"]}))
    assert secret not in text and REDACTED in text


def test_a_value_from_the_environment_is_redacted_wherever_it_stands(monkeypatch):
    monkeypatch.setenv("MY_SERVICE_TOKEN", "plainword")
    monkeypatch.setenv("MY_SERVICE_KEY", "plainword-and-more")
    assert redact("x plainword-and-more plainword") == f"x {REDACTED} {REDACTED}"


def test_ordinary_variables_are_no_secrets(monkeypatch):
    for name in ("PWD", "OLDPWD", "HOME", "SSH_AUTH_SOCK", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.setenv(name, "/data/somewhere")
    assert redact("/data/somewhere/model") == "/data/somewhere/model"


def test_a_password_in_an_address_leaves_the_address():
    assert redact("https://me:pw@host:1/x?a=b") == f"https://{REDACTED}@host:1/x?a=b"


@pytest.mark.parametrize("name", ["eos_token", "pad_token", "answer_key", "token_budget", "author"])
def test_ordinary_names_are_left_alone(name: str):
    assert describe_config({name: "<|im_end|>"}) == {name: "<|im_end|>"}


@pytest.mark.parametrize(
    "text",
    ["Qwen/Qwen2.5-0.5B-Instruct", "models/risk-averse_policy", "<extra_0>", "\n\n", "a@b.c"],
)
def test_ordinary_values_are_left_alone(text: str):
    assert redact(text) == text


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
