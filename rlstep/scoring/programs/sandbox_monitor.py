"""The process beside a sandbox that ends it: at the deadline, at too much output, or with rlstep.

    python -c "... main()" OPTIONS < job > {"ending", "detail", "output"}

It stands outside, where nothing in the sandbox can reach it, and starts the sandbox's first process
(sandbox_inside.py). When that one ends, by itself or by SIGKILL, the kernel ends all that is left
in its process namespace. The kernel ends it too when this process dies, and this one when the
process that asked for the sandbox does.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import sys
import time
from collections.abc import Mapping
from typing import Any, NoReturn

from rlstep.scoring.programs import sandbox_namespaces

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE = 1, 4
_LONGEST_RESULT = 4096


def _prctl(option: int, value: int) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option}) failed")


class _Sandbox:
    """The first process, and the two pipes that come out of it."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._options = options
        self.output, output_w = os.pipe()
        self.result, result_w = os.pipe()
        alive, self._alive = os.pipe()
        if options["namespaces"]:
            sandbox_namespaces.separate()
        # Where /proc is seen, a program of the same user would else write into the pipe of results.
        # (Not before: the helper that maps the ids could not open this process's files.)
        _prctl(_PR_SET_DUMPABLE, 0)
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._alive)
            self._become_first(output_w, result_w, alive)
        for descriptor in (output_w, result_w, alive):
            os.close(descriptor)
        self.pidfd = os.pidfd_open(self.pid)

    def _become_first(self, output: int, result: int, alive: int) -> NoReturn:
        options = self._options
        try:
            os.setsid()  # a signal to the sandbox's process group does not reach the monitor
            for number in (1, 2):
                os.dup2(output, number)
            os.set_inheritable(result, True)
            os.chdir(options["folder"])
            if options["namespaces"]:
                sandbox_namespaces.enter(options["shown"], options["tmp_mb"])
            _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # not before: a change of user undoes it
            if select.select([alive], [], [], 0)[0]:  # the monitor is dead already
                os._exit(1)
            command = [*options["command"], str(result)]
            os.execve(command[0], command, options["environment"])
        except OSError as error:
            detail = str(error)[: _LONGEST_RESULT // 4]
            os.write(result, json.dumps({"ending": "error", "detail": detail}).encode())
        finally:
            os._exit(1)

    def kill(self) -> int:
        """End it, and with it all that it started. Returns the exit status, or minus the signal.

        Without a process namespace that is its process group, which a program cannot leave.
        """
        signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError):  # it ended before it had a group of its own
            os.killpg(self.pid, signal.SIGKILL)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def watch(options: Mapping[str, Any]) -> dict[str, str]:
    """Run one sandbox to its end; within its times and the limit on output."""
    kept = bytearray()
    result = _watched(options, kept)
    return {**result, "output": kept.decode(errors="backslashreplace")}


def _watched(options: Mapping[str, Any], kept: bytearray) -> dict[str, str]:
    """`kept` gets the beginning of the output."""
    most = options["kept_kb"] << 10
    until, started = time.monotonic() + options["start_s"], False
    sandbox = _Sandbox(options)
    poll = select.poll()
    for descriptor in (sandbox.output, sandbox.result, sandbox.pidfd):
        poll.register(descriptor, select.POLLIN)
    written, last = 0, b""
    while written <= options["output_kb"] << 10:
        ready = poll.poll(max(0.0, 1000 * (until - time.monotonic())))
        if not ready:
            sandbox.kill()
            return _late(options, started)
        descriptors = [descriptor for descriptor, _ in ready]
        if sandbox.result in descriptors:  # its first byte: the program is about to run
            poll.unregister(sandbox.result)
            until, started = time.monotonic() + options["seconds"], True
        elif sandbox.output in descriptors:
            read = os.read(sandbox.output, 1 << 16)
            written, last = written + len(read), (last + read)[-500:]
            kept += read[: most - len(kept)]
            if not read:
                poll.unregister(sandbox.output)
        elif sandbox.pidfd in descriptors:
            return _result(sandbox, last)
    sandbox.kill()
    return {"ending": "output", "detail": f"more than {options['output_kb']} KiB of output"}


def _late(options: Mapping[str, Any], started: bool) -> dict[str, str]:
    if started:
        return {"ending": "timeout", "detail": f"no verdict within {options['seconds']} s"}
    # A machine that is too busy says nothing about the program.
    return {"ending": "error", "detail": f"no program was started within {options['start_s']} s"}


def _result(sandbox: _Sandbox, last: bytes) -> dict[str, str]:
    """What the tests' process wrote before it ended."""
    status = sandbox.kill()
    os.set_blocking(sandbox.result, False)
    try:
        return json.loads(os.read(sandbox.result, _LONGEST_RESULT))
    except (BlockingIOError, ValueError):
        how = f"exit status {status}" if status >= 0 else signal.Signals(-status).name
        words = " ".join(last.decode(errors="backslashreplace").split())
        return {"ending": "error", "detail": f"the tests' process ended ({how}) {words}".strip()}


def main() -> None:
    options = json.loads(sys.argv[1])
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != options["parent"]:
        sys.exit(1)
    try:
        result = watch(options)
    except OSError as error:
        result = {"ending": "error", "detail": str(error)}
    print(json.dumps(result))
