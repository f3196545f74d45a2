"""Runs a program that a model wrote against tests, where it can do no harm.

What a machine offers is found by running a program in it that looks around (`probe`):

- namespaces: the process namespace ends everything with its first process; there is no network, no
  /proc, nothing of the file system but the interpreter and the system's libraries, read-only, and a
  private /tmp. They need a kernel that lets this user make user namespaces.
- bubblewrap: the same, made by an installed `bwrap`, which may be allowed what we are not.
- none: limits, a session and a temporary folder of its own, and the filter of system calls. The
  program can read, overwrite and delete every file that this user can, and may read and write the
  memory of this user's processes: what it finds there are secrets and, if it means to, a verdict.
  Only where a caller insists.

In all of them the program runs with an empty environment, gains no privileges, starts no process,
signals none and connects to nothing (`sandbox_filter`), and is held to `Limits`.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any

from rlstep.checks import at_least, between
from rlstep.scoring.programs.sandbox_filter import seccomp_filter

MARGIN_S = 2.0
"""Of a deadline over the program's own, for starting and ending a sandbox within it."""
_START_S = 60.0
"""Longest time for a sandbox to start its program, which is no time of the program's."""
_GRACE_S = 60.0
"""How long after its deadline a monitor is waited for: it ends in time, but a machine may not let
it. (Kernels of busy virtual machines report that a CPU stood still for 55 s.)"""
_SYSTEM = (
    *("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc/ld.so.cache"),
    *("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom"),
)
_BOOT = (
    "import sys; sys.path.insert(0, sys.argv.pop());"
    "from rlstep.scoring.programs.sandbox_monitor import main; main()"
)


class SandboxError(Exception):
    """The sandbox itself failed: nothing is known about the program."""


class SandboxUnavailable(ValueError):
    """This machine offers no sandbox, and none was asked for that it does offer."""


class Isolation(StrEnum):
    """What stands between a program and the machine; see the module."""

    NAMESPACES = "namespaces"
    BUBBLEWRAP = "bubblewrap"
    NONE = "none"


class Ending(StrEnum):
    """How a program fared. All but the first are its own doing."""

    PASSED = "passed"
    FAILED = "failed"
    TIMEOUT = "timeout"
    MEMORY = "memory"
    OUTPUT = "output"


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one program may use."""

    seconds: float = 3.0
    """Wall-clock time of the program and its tests, from the program's first line on."""
    memory_mb: int = 512
    """Address space of a process; there are two, the program's and the tests'."""
    processes: int = 16
    """Processes and threads together. (Not held to where the isolation is none.)"""
    file_mb: int = 16
    """Largest file; the private /tmp holds four of them."""
    output_kb: int = 256
    """Standard output and error together."""
    kept_kb: int = 0
    """Of the output, how much of its beginning is given back; at most 8."""

    def __post_init__(self) -> None:
        at_least("limits.seconds", self.seconds, 0.1)
        at_least("limits.memory_mb", self.memory_mb, 64)
        at_least("limits.processes", self.processes, 2)
        at_least("limits.file_mb", self.file_mb, 1)
        at_least("limits.output_kb", self.output_kb, 1)
        between("limits.kept_kb", self.kept_kb, 0, 8)  # a remote sandbox's report is small


@dataclass(frozen=True, kw_only=True)
class Job:
    """A program and what it is tested with."""

    program: str
    """Python; it is run by itself, in a process that holds nothing else."""
    test: str
    """Python that calls `entry_point`, or defines `check(candidate)`, which then is called with it.
    Arguments and answers are plain data; the program gets copies. Trusted to judge rightly."""
    entry_point: str
    """The function of the program that is called."""
    setup: str = ""
    """Python that runs before `test`, beside it: functions that the tests use."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """How a program fared."""

    ending: Ending
    detail: str
    """The last line of an error and the like, '' where it passed. In part the program's words."""
    output: str = ""
    """The beginning of what was printed, as far as `Limits.kept_kb` goes."""


@dataclass(frozen=True, kw_only=True)
class Probe:
    """What this machine offers."""

    isolation: Isolation | None
    """The best that works, None if nothing does."""
    refused: Mapping[Isolation, str]
    """Why a better one does not."""

    def __str__(self) -> str:
        reasons = "; ".join(f"{isolation}: {reason}" for isolation, reason in self.refused.items())
        return f"{self.isolation or 'no isolation'}{f' ({reasons})' if reasons else ''}"


def run(job: Job, limits: Limits, isolation: Isolation) -> Result:
    """Run a program against its tests. Returns at the deadline, with no process left.

    The calling thread must live until then: the sandbox ends with it.

    Raises:
        SandboxError: the isolation cannot be had, the program was not started in time, or the tests
            are broken.
    """
    inside = {
        **asdict(job),
        "limits": _inside_limits(limits, isolation),
        "filter": _filter().hex(),
    }
    alone = isolation is Isolation.NONE
    with tempfile.TemporaryDirectory() if alone else nullcontext("/tmp") as folder:
        options = _options(limits, isolation, folder)
        command = [interpreter(), "-I", "-S", "-c", _BOOT, json.dumps(options), _root()]
        with subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=_libraries(),
            start_new_session=True,
        ) as monitor:
            try:
                report, errors = monitor.communicate(
                    json.dumps(inside).encode(), timeout=_START_S + limits.seconds + _GRACE_S
                )
            except subprocess.TimeoutExpired as error:
                raise SandboxError(f"no result {_GRACE_S} s after the deadline") from error
            finally:
                monitor.kill()
    if monitor.returncode != 0:
        raise SandboxError(f"its monitor ended ({monitor.returncode}): {errors.decode()[-500:]}")
    return read_result(report)


def read_result(report: bytes) -> Result:
    """The result in a report {"ending": ..., "detail": ..., "output": ...}.

    Raises:
        SandboxError: the report is of an error, or is none.
    """
    try:
        values = json.loads(report)
        ending, detail = values["ending"], str(values["detail"])
        if ending != "error":
            output = str(values.get("output", ""))
            return Result(ending=Ending(ending), detail=detail, output=output)
    except (ValueError, TypeError, KeyError) as error:
        raise SandboxError(f"no report of a sandbox: {report[:200]!r}") from error
    raise SandboxError(detail)


@cache
def probe() -> Probe:
    """What this machine offers, found by trying; it takes a fraction of a second, once."""
    refused: dict[Isolation, str] = {}
    for isolation in (Isolation.NAMESPACES, Isolation.BUBBLEWRAP):
        try:
            result = run(_PROBE, Limits(seconds=20.0), isolation)
        except SandboxError as error:
            refused[isolation] = str(error)
            continue
        if result.ending is Ending.PASSED:
            return Probe(isolation=isolation, refused=refused)
        refused[isolation] = result.detail
    return Probe(isolation=None, refused=refused)


_PROBE = Job(
    program="""
import os, socket

def refused(call, *arguments):
    try:
        call(*arguments)
    except OSError:
        return True
    return False

def look_around():
    elsewhere = ("/proc/1", "/sys/kernel", "/etc/passwd")
    open("mine", "w").close()
    return {
        "first processes": os.getpid() < 10,
        "nothing else is seen": not any(map(os.path.exists, elsewhere)),
        "read-only": all(os.statvfs(path).f_flag & os.ST_RDONLY for path in ("/", "/usr")),
        "nobody": os.getuid() == os.getgid() == 65534,
        "no process": refused(os.fork),
        "no socket": refused(socket.socket),
        "environment": sorted(os.environ),
    }
""",
    test="""
found = look_around()
assert all(fact is True for name, fact in found.items() if name != "environment"), found
""",
    entry_point="look_around",
)


def interpreter() -> str:
    """The Python that this environment was made from: without the environment's packages."""
    return os.path.realpath(getattr(sys, "_base_executable", sys.executable))


def _root() -> str:
    """The folder that holds rlstep."""
    return str(Path(__file__).parents[3])


def _filter() -> bytes:
    try:
        return seccomp_filter(os.uname().machine)
    except ValueError as error:
        raise SandboxError(str(error)) from error


def _inside() -> str:
    """The program of both processes of a sandbox, as a text: they cannot see rlstep's folder."""
    return Path(__file__).with_name("sandbox_inside.py").read_text(encoding="utf-8")


def _libraries() -> dict[str, str]:
    """The only variable that is passed on: without it, some interpreters do not start."""
    name = "LD_LIBRARY_PATH"
    return {name: os.environ[name]} if name in os.environ else {}


def _shown() -> list[str]:
    """What can be seen in a sandbox: the system's libraries and the interpreter."""
    prefixes = {os.path.realpath(path) for path in (sys.base_prefix, sys.base_exec_prefix)}
    outside = [p for p in sorted(prefixes) if not f"{p}/".startswith(("/usr/", "/lib/"))]
    return [*_SYSTEM, *outside]


def _inside_limits(limits: Limits, isolation: Isolation) -> dict[str, int]:
    return {
        "cpu_s": math.ceil(limits.seconds) + 1,
        "memory_mb": limits.memory_mb,
        "file_mb": limits.file_mb,
        # Outside of a user namespace this would count all processes of the user.
        "processes": 0 if isolation is Isolation.NONE else limits.processes,
    }


def _options(limits: Limits, isolation: Isolation, folder: str) -> dict[str, Any]:
    """What the monitor is told; see sandbox_monitor."""
    # Not -I, which would ignore the hash seed, and with it the same program would differ by run.
    command = [interpreter(), "-s", "-P", "-S", "-c", _inside(), "tests"]
    environment = {
        **_libraries(),
        "PATH": "/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "HOME": folder,
        "TMPDIR": folder,
        "PYTHONHASHSEED": "0",
        "OPENBLAS_NUM_THREADS": "1",
    }
    tmp_mb = 4 * limits.file_mb
    if isolation is Isolation.BUBBLEWRAP:
        command = [*_bubblewrap(tmp_mb), *command]
    return {
        "parent": os.getpid(),
        "start_s": _START_S,
        "seconds": limits.seconds,
        "output_kb": limits.output_kb,
        "kept_kb": limits.kept_kb,
        "namespaces": isolation is Isolation.NAMESPACES,
        "shown": _shown(),
        "tmp_mb": tmp_mb,
        "folder": folder,
        "environment": environment,
        "command": command,
    }


def _bubblewrap(tmp_mb: int) -> list[str]:
    """The command that makes, with bubblewrap, what sandbox_namespaces makes without it.

    Raises:
        SandboxError: it is not installed.
    """
    program = shutil.which("bwrap")
    if program is None:
        raise SandboxError("bwrap is not installed")
    command = [program, "--unshare-all", "--die-with-parent", "--as-pid-1", "--cap-drop", "ALL"]
    command += ["--uid", "65534", "--gid", "65534"]
    for path in _shown():
        if os.path.islink(path):
            command += ["--symlink", os.readlink(path), path]
        elif path.startswith("/dev/"):
            command += ["--dev-bind", path, path]
        elif os.path.exists(path):
            command += ["--ro-bind", path, path]
    command += ["--dir", "/tmp", "--remount-ro", "/", "--size", str(tmp_mb << 20)]
    return [*command, "--tmpfs", "/tmp", "--chdir", "/tmp", "--"]
