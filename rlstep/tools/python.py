"""A Python interpreter, in the sandbox."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from rlstep.checks import at_least, between
from rlstep.interfaces import Tool
from rlstep.scoring.programs.remote_sandbox import check_url, run_remotely
from rlstep.scoring.programs.sandbox import (
    MARGIN_S,
    Ending,
    Job,
    Limits,
    Result,
    SandboxError,
    SandboxUnavailable,
    probe,
    run,
)

_INTERPRETER = """
import ast, sys, traceback

def work(code):
    space = {"__name__": "__main__"}
    sys.stdout.reconfigure(line_buffering=True)
    try:
        tree = ast.parse(code, "program.py")
        last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, "program.py", "exec"), space)
        if last is not None:
            value = eval(compile(ast.Expression(last.value), "program.py", "eval"), space)
            if value is not None:
                print(repr(value))
    except SystemExit:
        pass
    except BaseException as error:
        trace = None if isinstance(error, SyntaxError) else error.__traceback__.tb_next
        traceback.print_exception(type(error), error, trace, file=sys.stdout)
    sys.stdout.flush()
"""
"""Prints the value of a last expression, as an interpreter does, and what is raised."""


@dataclass(frozen=True, kw_only=True)
class Python(Tool):
    """Runs a program in the sandbox (see `scoring.programs.sandbox`), and answers what it prints.

    The value of a last expression is printed, too; an error's traceback is an answer like any
    other. Every call is a program of its own: nothing is left of the one before. It has no network
    and no packages beside the standard library, and does not run where a machine offers no
    isolation. `deterministic` is said of programs that read no clock and draw by a seed.
    """

    name: str = "python"
    """What a call names it by."""
    description: str = "Runs a Python program and returns what it prints."
    """What it does, in words for the policy."""
    parameters: ClassVar[Mapping[str, Any]] = {
        "type": "object",
        "properties": {"code": {"type": "string", "description": "the whole program"}},
        "required": ["code"],
    }

    seconds: float = 2.0
    """Wall-clock time of one program; scorer.deadline_s is at least 2 s longer."""
    memory_mb: int = 512
    """Address space of the program."""
    kept_kb: int = 4
    """Of its output, how much of the beginning is answered."""
    url: str = ""
    """Of a remote sandbox (see `remote_sandbox`); '' runs programs on the scorer's machine."""

    def __post_init__(self) -> None:
        at_least("python.seconds", self.seconds, 0.1)
        at_least("python.memory_mb", self.memory_mb, 64)
        between("python.kept_kb", self.kept_kb, 1, 8)
        if self.url:
            check_url("python.url", self.url)

    def check(self, deadline_s: float) -> None:
        """See `Tool.check`.

        Raises:
            SandboxUnavailable: no isolation here, or a remote sandbox that does not work.
            ValueError: a program may take longer than the call that runs it.
        """
        at_least("scorer.deadline_s (for python)", deadline_s, self.seconds + MARGIN_S)
        if not self.url and probe().isolation is None:
            raise SandboxUnavailable(
                f"python runs what a model wrote, and this machine offers {probe()}; allow user"
                " namespaces, install bubblewrap, or set python.url to a remote sandbox"
            )
        if self.url:
            try:
                self._run("1")
            except SandboxError as error:
                raise SandboxUnavailable(f"python.url: {error}") from error

    def call(self, arguments: Mapping[str, Any]) -> str:
        """Raises: SandboxError: the sandbox failed."""
        result = self._run(arguments["code"])
        output = result.output
        if len(output.encode()) >= self.kept_kb << 10:
            output += f"\n[the first {self.kept_kb} KiB]"
        if result.ending is Ending.PASSED:
            return output.rstrip("\n") or "[no output]"
        late = result.ending is Ending.TIMEOUT
        why = f"no end within {self.seconds:g} s" if late else result.detail
        return f"{output.rstrip()}\n[{result.ending}: {why}]".lstrip("\n")

    def _run(self, code: str) -> Result:
        job = Job(
            program=_INTERPRETER, test="work(CODE)", entry_point="work", setup=f"CODE = {code!r}"
        )
        limits = Limits(seconds=self.seconds, memory_mb=self.memory_mb, kept_kb=self.kept_kb)
        if self.url:
            return run_remotely(self.url, job, limits)
        isolation = probe().isolation
        assert isolation is not None, "a process in which check was not asked"
        return run(job, limits, isolation)
