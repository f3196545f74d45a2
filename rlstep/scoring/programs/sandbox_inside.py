"""What runs inside a sandbox: the tests in one process, the program in another.

    python -c SOURCE tests RESULT_FD   < a job: sandbox.Job's fields, 'limits' and 'filter'
    python -c SOURCE program REPLY_FD  < JSON lines: the filter, the program, then calls

What is written to RESULT_FD is a line's end when the program is about to run, then the result.

The tests call the program through pipes, with plain data as JSON. So the program never sees the
tests, what they expect, or the descriptor that the result is written to, and what it does to its
own interpreter (an early exit, patched builtins, objects that equal all) changes no verdict.

The file is passed to both processes as a text, since neither sees rlstep's folder. It imports the
standard library only. The details that come out are the program's words, cut to one short line.
"""

from __future__ import annotations

import builtins
import ctypes
import json
import os
import resource
import select
import signal
import sys
import types
from collections.abc import Callable, Mapping
from typing import Any

_LONGEST_LINE = 8 << 20
_LONGEST_DETAIL = 300
_OPEN_FILES = 64

# --- plain data ----------------------------------------------------------------------------------


def encode(value: Any) -> Any:
    """A value as JSON holds it; what JSON does not know is an object of one key, its type's name.

    Raises:
        TypeError: neither a number, a string, bytes, None nor a container of these.
        RecursionError: it contains itself.
    """
    if isinstance(value, int) and value.bit_length() > 64:
        return {"int": hex(value)}  # linear in its length; decimal digits are not
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list):
        return [encode(item) for item in value]
    if isinstance(value, dict):
        return {"dict": [[encode(key), encode(item)] for key, item in value.items()]}
    if isinstance(value, bytes | bytearray):
        return {"bytes": value.hex()}
    if isinstance(value, complex):
        return {"complex": [value.real, value.imag]}
    for kind in (tuple, set, frozenset):
        if isinstance(value, kind):
            return {kind.__name__: [encode(item) for item in value]}
    raise TypeError(f"{type(value).__name__} is no plain data")


_DECODERS: Mapping[str, Callable[[Any], Any]] = {
    "int": lambda digits: int(digits, 16),
    "dict": lambda items: {decode(key): decode(item) for key, item in items},
    "bytes": bytes.fromhex,
    "complex": lambda parts: complex(*parts),
    "tuple": lambda items: tuple(decode(item) for item in items),
    "set": lambda items: {decode(item) for item in items},
    "frozenset": lambda items: frozenset(decode(item) for item in items),
}


def decode(data: Any) -> Any:
    """The value that `encode` was given. Raises an Exception of any kind where it was another's."""
    if isinstance(data, list):
        return [decode(item) for item in data]
    if isinstance(data, dict):
        ((kind, content),) = data.items()
        return _DECODERS[kind](content)
    return data


# --- confinement ---------------------------------------------------------------------------------

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 1, 4, 22, 38
_FILTER, _CAPABILITY_VERSION = 2, 0x20080522


def _prctl(option: int, *arguments: Any) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, *arguments, *[0] * (4 - len(arguments))) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option}) failed")


def _filter_calls(instructions: bytes) -> None:
    """Install a filter of system calls for good, in this process and all that it starts."""
    memory = ctypes.create_string_buffer(instructions, len(instructions))

    class Program(ctypes.Structure):  # struct sock_fprog
        _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))

    program = Program(len(instructions) // 8, ctypes.addressof(memory))
    _prctl(_PR_SET_SECCOMP, _FILTER, ctypes.byref(program))


def _drop_capabilities() -> None:
    """What root may do beyond its own files. With no new privileges, no exec brings any back."""
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
    if ctypes.CDLL(None, use_errno=True).capset(header, (ctypes.c_uint32 * 6)()) != 0:
        raise OSError(ctypes.get_errno(), "capset failed")


def _limit(limits: Mapping[str, int]) -> None:
    """Set what both processes may use, and let neither gain a privilege or read the other."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    _prctl(_PR_SET_DUMPABLE, 0)  # nobody without capabilities reads its memory and descriptors
    _drop_capabilities()
    bounds = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_CPU: limits["cpu_s"],
        resource.RLIMIT_AS: limits["memory_mb"] << 20,
        resource.RLIMIT_FSIZE: limits["file_mb"] << 20,
        resource.RLIMIT_NOFILE: _OPEN_FILES,
        resource.RLIMIT_MSGQUEUE: 0,
    }
    if limits["processes"]:
        bounds[resource.RLIMIT_NPROC] = limits["processes"]
    for name, bound in bounds.items():
        resource.setrlimit(name, (bound, bound + (name == resource.RLIMIT_CPU)))


# --- the program's process -----------------------------------------------------------------------


def _send(descriptor: int, message: Any) -> None:
    line = memoryview(json.dumps(message).encode() + b"\n")
    while line:
        line = line[os.write(descriptor, line) :]


def _described(error: BaseException) -> dict[str, Any]:
    kind = type(error).__name__
    try:
        message = str(error)
    except BaseException:  # the program's own __str__
        message = "(it has no text)"
    return {"raised": kind, "message": message[:_LONGEST_DETAIL]}


def _loaded(job: Mapping[str, str]) -> Callable[..., Any]:
    """Run the program, and return what the tests call."""
    module = types.ModuleType("solution")
    sys.modules["solution"] = module  # dataclasses and typing look their module up
    # Not this file's own postponed annotations.
    exec(compile(job["program"], "program.py", "exec", dont_inherit=True), module.__dict__)
    entry = getattr(module, job["entry_point"], None)
    if not callable(entry):
        raise NameError(f"the program defines no function {job['entry_point']!r}")
    return entry


def serve_program(reply_fd: int) -> None:
    """Load a program, then answer calls until the requests end."""
    requests = os.fdopen(os.dup(0), "rb")
    nothing = os.open("/dev/null", os.O_RDONLY)
    os.dup2(nothing, 0)

    def reply(message: Mapping[str, Any]) -> None:
        _send(reply_fd, message)

    try:
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # before the first line, which a dead parent ends
        _filter_calls(bytes.fromhex(json.loads(requests.readline())))
    except OSError as error:
        reply({"unsafe": str(error)})
        return
    reply({"value": None})
    # Only now is there a program; it may write to this descriptor what it likes.
    try:
        entry = _loaded(json.loads(requests.readline()))
    except BaseException as error:
        reply(_described(error))
        return
    reply({"value": None})
    for line in requests:
        arguments, keywords = json.loads(line)
        try:
            values = {name: decode(value) for name, value in keywords.items()}
            answer = entry(*[decode(value) for value in arguments], **values)
            message = {"value": encode(answer)}
        except BaseException as error:
            message = _described(error)
        reply(message)


# --- the tests' process --------------------------------------------------------------------------


class _Over(BaseException):
    """No further call can be answered. No Exception, so that a test does not catch it by chance."""

    def __init__(self, ending: str, detail: str) -> None:
        super().__init__(detail)
        self.ending = ending


class _Program:
    """The program, as the tests call it."""

    def __init__(self, job: Mapping[str, Any], result_fd: int) -> None:
        request_r, self._requests = os.pipe()
        reply_r, reply_w = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            os.close(result_fd)
            os.dup2(request_r, 0)
            os.set_inheritable(reply_w, True)
            source = sys.orig_argv[sys.orig_argv.index("-c") + 1]
            # No user's site folder, nothing of the current one; -I would ignore the hash seed.
            arguments = [sys.executable, "-s", "-P", "-c", source, "program", str(reply_w)]
            os.execv(sys.executable, arguments)
        os.close(request_r)
        os.close(reply_w)
        self._replies = os.fdopen(reply_r, "rb")
        self.calls = 0
        self.over: _Over | None = None
        unsafe = self._exchange(job["filter"]).get("unsafe")
        if unsafe:
            raise _Over("error", unsafe)
        os.write(result_fd, b"\n")  # the program's time runs from here; JSON skips it
        self._ask({"program": job["program"], "entry_point": job["entry_point"]})

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        self.calls += 1
        try:
            request = [[encode(a) for a in arguments], {k: encode(v) for k, v in keywords.items()}]
        except (TypeError, RecursionError) as error:
            detail = f"the tests call the program with what is no plain data: {error}"
            raise self._end("error", detail) from None
        return self._ask(request)

    def _ask(self, request: Any) -> Any:
        reply = self._exchange(request)
        try:
            error = _error(reply["raised"], reply["message"]) if "raised" in reply else None
            value = None if error else decode(reply["value"])
        except Exception:
            raise self._end("failed", "its answer is no plain data") from None
        if error:
            raise error
        return value

    def _exchange(self, request: Any) -> Any:
        if self.over:
            raise self.over
        try:
            _send(self._requests, request)
            line = self._replies.readline(_LONGEST_LINE)
        except BrokenPipeError:
            line = b""
        if not line.endswith(b"\n"):
            raise self._end(*self._how_it_ended(line))
        try:
            return json.loads(line)
        except (ValueError, RecursionError, MemoryError):
            raise self._end("failed", "its answer is no plain data") from None

    def _how_it_ended(self, rest: bytes) -> tuple[str, str]:
        if len(rest) >= _LONGEST_LINE:
            return "failed", f"its answer has more than {_LONGEST_LINE >> 20} MiB"
        if not select.select([os.pidfd_open(self._pid)], [], [], 1.0)[0]:
            return "failed", "it stopped answering"
        status = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
        if status == -signal.SIGXCPU:
            return "timeout", "it used up its CPU time"
        how = f"exit status {status}" if status >= 0 else signal.Signals(-status).name
        return "failed", f"it ended ({how}) before it answered"

    def _end(self, ending: str, detail: str) -> _Over:
        self.over = _Over(ending, detail)
        return self.over


def _error(kind: str, message: str) -> Exception:
    """What the program raised, as the builtin exception of that name or as a new one."""
    known = getattr(builtins, kind, None)
    if isinstance(known, type) and issubclass(known, Exception):
        try:
            return known(message)
        except TypeError:  # UnicodeDecodeError, say, wants more than a message
            return Exception(f"{kind}: {message}")
    return type(kind, (Exception,), {})(message)


def judge(job: Mapping[str, Any], result_fd: int) -> tuple[str, str]:
    """Run the tests. Returns how it ended ('passed', 'failed', ... or 'error') and a detail."""
    program = None
    try:
        namespace: dict[str, Any] = {"__name__": "tests"}
        exec(compile(job["setup"], "setup.py", "exec", dont_inherit=True), namespace)
        test = compile(job["test"], "tests.py", "exec", dont_inherit=True)
    except Exception as error:
        return "error", f"the tests are broken: {_line(error)}"
    try:
        program = _Program(job, result_fd)
        namespace[job["entry_point"]] = program
        exec(test, namespace)
        if namespace.get("check", program) is not program:  # it may itself be of that name
            namespace["check"](program)
    except BaseException as error:
        if isinstance(error, _Over):
            return error.ending, str(error)
        if program is not None and not program.calls:
            return "error", f"the tests are broken: {_line(error)}"
        memory = isinstance(error, MemoryError)
        return "memory" if memory else "failed", _line(error) + _place(error, job["test"])
    if program.over:
        return program.over.ending, str(program.over)
    if not program.calls:
        return "error", f"the tests never call {job['entry_point']!r}"
    return "passed", ""


def _line(error: BaseException) -> str:
    described = _described(error)
    return f"{described['raised']}: {described['message']}".removesuffix(": ")


def _place(error: BaseException, test: str) -> str:
    """The line of the tests that failed."""
    trace, number = error.__traceback__, 0
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == "tests.py":
            number = trace.tb_lineno
        trace = trace.tb_next
    lines = test.split("\n")
    return f" in: {lines[number - 1].strip()}" if 0 < number <= len(lines) else ""


def run_tests(result_fd: int) -> None:
    """Read a job, confine this process, and write how the program fared."""
    # The first process of a namespace hears only what it handles, and Python handles this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.set_inheritable(result_fd, False)
    job = json.load(sys.stdin.buffer)
    try:
        _limit(job["limits"])
        ending, detail = judge(job, result_fd)
    except (OSError, ValueError) as error:
        ending, detail = "error", str(error)
    detail = " ".join(detail.encode(errors="backslashreplace").decode().split())
    result = {"ending": ending, "detail": detail[:_LONGEST_DETAIL]}
    os.write(result_fd, json.dumps(result).encode())
    os._exit(0)  # as the first process of its namespace it takes everything else with it


if __name__ == "__main__":
    {"tests": run_tests, "program": serve_program}[sys.argv[1]](int(sys.argv[2]))
