"""The verifier of programs: it runs them against the reference's tests, in a sandbox."""

from __future__ import annotations

import json
import logging
import re
import resource
from dataclasses import asdict, dataclass

from rlstep.checks import at_least
from rlstep.interfaces import Verifier
from rlstep.scoring.programs.remote_sandbox import check_url, run_remotely
from rlstep.scoring.programs.sandbox import (
    MARGIN_S,
    Ending,
    Isolation,
    Job,
    Limits,
    Result,
    SandboxError,
    SandboxUnavailable,
    probe,
    run,
)
from rlstep.types import OutcomeScore, Verdict

logger = logging.getLogger(__name__)

_FENCE = re.compile(r"^([ \t]*)```[ \t]*([\w+-]*)[^\n`]*$", re.MULTILINE)
_FUTURE = re.compile(
    r"^from[ \t]+__future__[ \t]+import[ \t]*(?:\([^()]*\))?(?:\\\n|[^\n\\])*\n", re.MULTILINE
)
_PYTHON = ("", "python", "py", "python3")


@dataclass(frozen=True, kw_only=True)
class Tests:
    """A reference answer: what a program is tested with. See `sandbox.Job`."""

    __test__ = False  # pytest would collect it

    test: str
    entry_point: str
    setup: str = ""
    """What the program continues, where it is no whole program; it also stands before the tests."""

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not isinstance(value, str) or not (value.strip() or name == "setup"):
                raise ValueError(f"{name} is {value!r}; it must be a text")
        if not self.entry_point.isidentifier():
            raise ValueError(f"entry_point is {self.entry_point!r}; it must be a Python name")

    def answer(self) -> str:
        """As a prompt's reference answer."""
        return json.dumps(asdict(self))

    @classmethod
    def read(cls, answer: str) -> Tests:
        """What `answer` wrote.

        Raises:
            ValueError: it is not.
        """
        try:
            return cls(**json.loads(answer))
        except (ValueError, TypeError) as error:
            raise ValueError(
                f"the reference answer is no JSON of test, entry_point and setup: {error}"
            ) from error


@dataclass(frozen=True, kw_only=True)
class CodeTests(Verifier):
    """Runs a completion's program against reference tests in a sandbox.

    Correct is what passes all of them (Chen et al. 2021, arXiv:2107.03374, section 2); what fails,
    runs out of time or memory, or prints without end is wrong. Where there is no program at all the
    completion is unparsable. The reference answer is `Tests.answer()`.

    The program is the last ```python block that defines the entry point, or else the last one, or
    else the text. One that does not define the entry point continues the setup, and is cut where
    its first unindented line ends the function.
    """

    seconds: float = Limits.seconds
    """Wall-clock time of one program with its tests; scorer.deadline_s is at least 2 s longer."""
    memory_mb: int = Limits.memory_mb
    """Address space of the program; the verifier's process has 2048."""
    url: str = ""
    """Of a remote sandbox (see `remote_sandbox`); '' runs programs on the scorer's machine."""
    unsandboxed: bool = False
    """Run programs even where the machine offers no isolation: they can then read, overwrite and
    delete what you can, and reach into your other processes."""

    def __post_init__(self) -> None:
        at_least("code_tests.seconds", self.seconds, 0.1)
        at_least("code_tests.memory_mb", self.memory_mb, 64)
        if self.url:
            check_url("code_tests.url", self.url)

    def check(self, deadline_s: float) -> None:
        """See `Verifier.check`.

        Raises:
            SandboxUnavailable: this machine offers no isolation and it was not waived, or the
                remote sandbox does not work.
            ValueError: a limit is more than the verifier's process has; names the field.
        """
        at_least("scorer.deadline_s (for code_tests)", deadline_s, self.seconds + MARGIN_S)
        if self.url:
            try:
                run_remotely(self.url, _TRIVIAL, self._limits())
            except SandboxError as error:
                raise SandboxUnavailable(f"code_tests.url: {error}") from error
            return
        most = resource.getrlimit(resource.RLIMIT_AS)[1]
        if most != resource.RLIM_INFINITY and self.memory_mb > most >> 20:
            raise ValueError(
                f"code_tests.memory_mb is {self.memory_mb}; the largest valid value is"
                f" {most >> 20}, what a verifier's process has"
            )
        if self._isolation() is Isolation.NONE:
            logger.warning("programs run without isolation: %s", probe())

    def verify(self, text: str, answer: str) -> OutcomeScore:
        """Score one completion.

        Raises:
            ValueError: the reference answer is not one of tests.
            SandboxError: the sandbox failed, or the tests are broken.
        """
        tests = Tests.read(answer)
        code = extract(text, tests.entry_point)
        if not code.strip():
            return OutcomeScore(value=0.0, verdict=Verdict.UNPARSABLE, extracted="")
        passed = self.judge(code, tests).ending is Ending.PASSED
        verdict = Verdict.CORRECT if passed else Verdict.WRONG
        return OutcomeScore(value=float(passed), verdict=verdict, extracted=code)

    def judge(self, code: str, tests: Tests) -> Result:
        """How a program (or the continuation of the setup) fares, and why. Raises as `verify`."""
        job = Job(program=assemble(code, tests), **asdict(tests))
        if self.url:
            return run_remotely(self.url, job, self._limits())
        return run(job, self._limits(), self._isolation())

    def _limits(self) -> Limits:
        return Limits(seconds=self.seconds, memory_mb=self.memory_mb)

    def _isolation(self) -> Isolation:
        found = probe()
        if found.isolation is not None:
            return found.isolation
        if not self.unsandboxed:
            raise SandboxUnavailable(
                f"code_tests runs what a model wrote, and this machine offers {found}; allow user"
                " namespaces, install bubblewrap, set code_tests.url to a remote sandbox, or set"
                " code_tests.unsandboxed to True, which lets programs read and delete what you can"
            )
        return Isolation.NONE


_TRIVIAL = Job(program="def one(): return 1", test="assert one() == 1", entry_point="one")


def extract(text: str, entry_point: str) -> str:
    """The program in a completion; see `CodeTests`."""
    blocks = _blocks(text)
    shown = [_unindented(block, indentation) for indentation, block in blocks]
    whole = [block for block in shown if _defines(block, entry_point)]
    return (whole or [block for _, block in blocks] or [text])[-1]


def assemble(code: str, tests: Tests) -> str:
    """A program that runs by itself: the setup, then the code, or the setup continued by it.

    A whole program follows the setup too, since models leave its imports out; what it defines
    again counts. Python wants imports from __future__ before all else, so they go to the front.
    """
    if _defines(code, tests.entry_point):
        whole = f"{tests.setup}\n\n{code}\n"
        return "".join(_FUTURE.findall(whole)) + _FUTURE.sub("", whole)
    return f"{tests.setup}{_body(code)}\n"


def _blocks(text: str) -> list[tuple[str, str]]:
    """What stands between fences, where they are Python's or nameless, and how they are indented.

    An odd number of which the first is nameless closes a block that the prompt has opened; the last
    one of any other odd number was cut off before its end.
    """
    marks = [(m[1], m[2].lower(), m.start(), m.end() + 1) for m in _FENCE.finditer(text)]
    if len(marks) % 2:
        end = ("", "", len(text), len(text))
        marks = [*marks, end] if marks[0][1] else [("", "", 0, 0), *marks]
    return [
        (indentation, text[after:before])
        for (indentation, name, _, after), (_, _, before, _) in zip(
            marks[::2], marks[1::2], strict=True
        )
        if name in _PYTHON
    ]


def _unindented(block: str, indentation: str) -> str:
    """A block without its fence's indentation (in a list, say), where all of it has that."""
    lines = block.split("\n")
    if all(line.startswith(indentation) for line in lines if line.strip()):
        return "\n".join(line.removeprefix(indentation) for line in lines)
    return block


def _defines(code: str, entry_point: str) -> bool:
    name = re.escape(entry_point)
    pattern = rf"^(?:(?:async[ \t]+)?def[ \t]+{name}\b|{name}[ \t]*=(?!=))"
    return re.search(pattern, code, re.MULTILINE) is not None


def _body(code: str) -> str:
    """The lines until one that is neither indented nor empty, a comment or a closing bracket."""
    lines = code.split("\n")
    end = next((i for i, line in enumerate(lines) if line and line[0] not in " \t#)]}"), None)
    return "\n".join(lines[:end])
