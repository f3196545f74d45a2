"""Plug-ins in processes that can be killed: how one gets there, starts, and is held."""

from __future__ import annotations

import ctypes
import dataclasses
import importlib
import json
import os
import resource
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence as Seq
from typing import Any

_PR_SET_PDEATHSIG = 1
GRACE_S = 10.0
"""Longest wait for a process that has closed its socket to end by itself, and say how: on a starved
core an interpreter takes its time for that."""
_KEPT_ENVIRONMENT = ("PATH", "HOME", "LANG", "LD_LIBRARY_PATH", "PYTHONHOME", "TMPDIR")


def start_process(
    module: str, theirs: socket.socket, arguments: Seq[object]
) -> subprocess.Popen[bytes]:
    """Start `python -m module FD arguments...` at the other end of a socket, a session of its own.

    Its environment is bare: no secret of the run is within reach of what a model wrote.

    Raises:
        OSError: no memory, or no more processes or files.
    """
    environment = {name: os.environ[name] for name in _KEPT_ENVIRONMENT if name in os.environ}
    environment |= {"PYTHONPATH": os.pathsep.join(sys.path), "OPENBLAS_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", module, str(theirs.fileno()), *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=(theirs.fileno(),),
        start_new_session=True,
        env=environment,
    )


def exited(pid: int, timeout_s: float) -> None:
    """Wait for a child to end, and leave it unreaped so that its id stays taken."""
    pidfd = os.pidfd_open(pid)
    try:
        ended = select.poll()
        ended.register(pidfd, select.POLLIN)
        ended.poll(1000 * timeout_s)
    finally:
        os.close(pidfd)


def spec_of(plug_in: Any, what: str = "verifier") -> str:
    """A plug-in as JSON, checked to read back as the same.

    Raises:
        ValueError: it does not.
    """
    kind = type(plug_in)
    try:
        spec = json.dumps(encode(plug_in))
        copied = decode(json.loads(spec)) == plug_in
    except (TypeError, AttributeError) as error:
        raise ValueError(f"{what} {kind.__qualname__} cannot be copied: {error}") from error
    if not copied or kind.__module__ == "__main__":
        raise ValueError(
            f"{what} {kind.__module__}.{kind.__qualname__} cannot be built in another process: "
            "it must be a dataclass at the top of an importable module, and its fields numbers, "
            "strings, booleans, None or tuples of these"
        )
    return spec


def encode(verifier: Any) -> dict[str, Any]:
    """A verifier's class and fields, as `decode` takes them; a field may be a dataclass as well."""
    kind = type(verifier)
    fields = {f.name: _entry(getattr(verifier, f.name)) for f in dataclasses.fields(verifier)}
    return {"module": kind.__module__, "name": kind.__qualname__, "fields": fields}


def _entry(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return {"dataclass": encode(value)}
    return [_entry(item) for item in value] if isinstance(value, tuple | list) else value


def decode(spec: dict[str, Any]) -> Any:
    """The verifier that a spec read from JSON describes; lists are tuples again."""
    kind = getattr(importlib.import_module(spec["module"]), spec["name"])
    return kind(**{name: _value(entry) for name, entry in spec["fields"].items()})


def _value(entry: Any) -> Any:
    if isinstance(entry, dict) and entry.keys() == {"dataclass"}:
        return decode(entry["dataclass"])
    return tuple(_value(item) for item in entry) if isinstance(entry, list) else entry


def confine(parent: int, memory_mb: int) -> None:
    """Die with the parent, leave no core file, and allocate no more than allowed."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent:  # it died before the call above
        os._exit(1)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (memory_mb << 20, memory_mb << 20))
