"""Verifiers that do what a verifier must not, on demand. Workers import this module."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from rlstep.interfaces import Verifier
from rlstep.types import OutcomeScore, Verdict


def _score(extracted: str, value: float = 1.0) -> OutcomeScore:
    return OutcomeScore(value=value, verdict=Verdict.CORRECT, extracted=extracted)


def _loop() -> OutcomeScore:
    while True:
        pass


def _sum() -> OutcomeScore:
    """One call into C, which no signal handler interrupts, of some ten seconds."""
    return _score(str(sum(range(10**9))))


def _child() -> OutcomeScore:
    child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
    return _score(str(child.pid))


def _print() -> OutcomeScore:
    print("noise\n" * 1_000_000, flush=True)
    return _score("printed")


TRICKS: dict[str, Callable[[], object]] = {
    "loop": _loop,
    "sum": _sum,
    "stop": lambda: os.kill(os.getpid(), signal.SIGSTOP),
    "segfault": lambda: os.kill(os.getpid(), signal.SIGSEGV),
    "exit": lambda: os._exit(3),
    "sys.exit": lambda: sys.exit(4),
    "allocate": lambda: bytearray(2 << 30),
    "raise": lambda: {}["missing"],
    "nothing": lambda: None,
    "float": lambda: 1.0,
    "nan": lambda: _score("", float("nan")),
    "half": lambda: _score("", 0.5),
    "huge": lambda: _score("", 1e308),
    "bool": lambda: _score("", True),
    "text": lambda: _score("", "1.0"),  # type: ignore[arg-type]
    "array": lambda: _score("", np.ones(1)),  # type: ignore[arg-type]
    "no text": lambda: _score(None),  # type: ignore[arg-type]
    "print": _print,
    "child": _child,
    "environment": lambda: _score(json.dumps(dict(os.environ))),
    "modules": lambda: _score(json.dumps(sorted(sys.modules))),
}


@dataclass(frozen=True, kw_only=True)
class Misbehaving(Verifier):
    """Plays the trick the text names; else compares the text with the answer."""

    def verify(self, text: str, answer: str) -> OutcomeScore:
        if text in TRICKS:
            return TRICKS[text]()  # type: ignore[return-value]
        verdict = Verdict.CORRECT if text == answer else Verdict.WRONG
        return OutcomeScore(value=float(text == answer), verdict=verdict, extracted=text)


@dataclass(frozen=True, kw_only=True)
class OnlyHere(Misbehaving):
    """Cannot be built in any process but this one."""

    pid: int

    def __post_init__(self) -> None:
        if os.getpid() != self.pid:
            raise ValueError(f"this is not process {self.pid}")


@dataclass(frozen=True, kw_only=True)
class NeverReady(Misbehaving):
    """Is made at once in one process, and never in any other."""

    pid: int

    def __post_init__(self) -> None:
        if os.getpid() != self.pid:
            signal.pause()


@dataclass(frozen=True, kw_only=True)
class WithFunction(Misbehaving):
    function: Callable[[], int]


@dataclass(frozen=True, kw_only=True)
class WithLimits(Misbehaving):
    limits: tuple[tuple[str, float], ...]
