"""A package that cannot be beside rlstep's lock, in an environment of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest


def python_with(requirement: str | Sequence[str], variable: str, folder: Path) -> str:
    """An interpreter that has it: the one that the environment variable names, or one that is made
    in the folder; the test is skipped where it cannot be installed. Several are installed one
    after the other."""
    if given := os.environ.get(variable):
        return given
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    python = str(folder / "bin" / "python")
    install = [python, "-m", "pip", "--disable-pip-version-check", "install", "-q"]
    for each in [requirement] if isinstance(requirement, str) else requirement:
        done = subprocess.run([*install, each], capture_output=True, text=True)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["it says nothing"])[-1]
            pytest.skip(f"{each} cannot be installed: {last}")
    return python


@contextmanager
def started(*command: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A process, and the line that it prints once it is ready; ended in the end."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield process, _line(process.stdout)
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _line(said: IO[str] | None) -> str:
    assert said is not None
    line = said.readline().strip()
    assert line, "it ended before it was ready; its reason stands above"
    return line
