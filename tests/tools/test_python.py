"""The interpreter: what it answers, and what holds it."""

from __future__ import annotations

from typing import Any

import pytest

from rlstep.environments.tool_use import ToolUse
from rlstep.scoring.programs.sandbox import Isolation, Limits, Probe, SandboxUnavailable, probe
from rlstep.tools import python
from rlstep.tools.python import Python

needs_isolation = pytest.mark.skipif(
    probe().isolation is None, reason=f"no isolation on this machine: {probe()}"
)


def answered(code: str, **fields: Any) -> str:
    return Python(**{"seconds": 300.0, **fields}).call({"code": code})


@needs_isolation
@pytest.mark.parametrize(
    ("code", "answer"),
    [
        ("print(1)\n2 + 3", "1\n5"),
        ("x = [1]\nx.append(2)\nx", "[1, 2]"),
        ("def f(n):\n    return n and n * f(n - 1)\nf(3)", "0"),
        ("None", "[no output]"),
        ("", "[no output]"),
        ("import sys; print('a'); sys.exit(3)", "a"),
        ("import sys; print('b', file=sys.stderr)", "b"),
        ("print(__name__)", "__main__"),
    ],
)
def test_what_a_program_prints(code: str, answer: str):
    assert answered(code) == answer


@needs_isolation
def test_an_error_is_an_answer():
    text = answered("print('before')\ndef f():\n    return 1 / 0\nf()")
    assert text.startswith("before\nTraceback") and text.endswith("division by zero")
    assert 'File "program.py", line 3, in f' in text and "line 2, in work" not in text
    assert answered("x =").endswith("SyntaxError: invalid syntax")


@needs_isolation
def test_nothing_is_left_of_the_program_before():
    assert answered("x = 1\nopen('file', 'w').write('a')") == "1"
    assert "NameError" in answered("x") and "FileNotFoundError" in answered("open('file')")


@needs_isolation
def test_what_holds_it():
    late = answered("print('on the way')\nwhile True: pass", seconds=2.0)
    assert late == "on the way\n[timeout: no end within 2 s]"
    assert "MemoryError" in answered("x = bytes(10**10)", memory_mb=128)
    cut = answered("print('a' * 5000)", kept_kb=1)
    assert cut == "a" * 1024 + "\n[the first 1 KiB]"
    assert answered("print('a' * 10**6)", kept_kb=1).endswith(
        "\n[the first 1 KiB]\n[output: more than 256 KiB of output]"
    )


@needs_isolation
def test_it_sees_nothing_of_this_machine():
    code = "import os; print(os.path.exists('/etc/passwd'), sorted(os.environ) == [])"
    assert answered(code).startswith("False")
    assert "Error" in answered("import socket; socket.socket()")


def test_a_machine_without_isolation_is_refused(monkeypatch: pytest.MonkeyPatch):
    nothing = Probe(isolation=None, refused={Isolation.NAMESPACES: "not allowed"})
    monkeypatch.setattr(python, "probe", lambda: nothing)
    with pytest.raises(SandboxUnavailable, match=r"namespaces: not allowed.*python\.url"):
        Python().check(5.0)
    monkeypatch.undo()
    with pytest.raises(SandboxUnavailable, match=r"python\.url: http://127\.0\.0\.1:9: Connection"):
        Python(url="http://127.0.0.1:9").check(5.0)


@needs_isolation
def test_a_program_ends_before_the_turn_that_runs_it():
    Python(seconds=3.0).check(5.0)
    told = r"scorer\.deadline_s \(for python\) is 5\.0; the smallest valid value is 5\.1"
    for check in (Python(seconds=3.1).check, ToolUse(tools=(Python(seconds=3.1),)).check):
        with pytest.raises(ValueError, match=told):
            check(5.0)


@pytest.mark.parametrize(
    ("field", "wrong"), [("seconds", 0.0), ("memory_mb", 1), ("kept_kb", 0), ("kept_kb", 9)]
)
def test_bad_values_are_refused(field: str, wrong: float):
    with pytest.raises(ValueError, match=rf"python\.{field} is {wrong}"):
        Python(**{field: wrong})  # type: ignore[arg-type]
    if field == "kept_kb" and wrong:
        with pytest.raises(ValueError, match=r"limits\.kept_kb is 9; the largest valid value is 8"):
            Limits(kept_kb=9)
