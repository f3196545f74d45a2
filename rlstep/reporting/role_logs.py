"""What the roles' processes print, kept in the run's directory: log/<role>.log.

A generator, a learner and their engines print what their libraries like to say. None of it reaches
the terminal; of a role that fails, the last lines do.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rlstep.reporting.redact import redact

HOOK = f"{__name__}.redirect"
"""For Ray's `worker_process_setup_hook`: before anything else runs in a worker."""
LAST_LINES = 20
_FOLDER = "RLSTEP_LOG_FOLDER"
_ROLE = "RLSTEP_ROLE"
_MARKS = (":job_id:", ":actor_name:")
"""Ray's own, at the start of a worker's output."""


@contextmanager
def keeping_logs(folder: Path) -> Iterator[dict[str, str]]:
    """Gives the environment under which workers write there, and the driver finds it again.

    Args:
        folder: made if it is missing. A node that cannot write there keeps what its roles print in
            Ray's own logs.
    """
    folder.mkdir(parents=True, exist_ok=True)
    os.environ[_FOLDER] = str(folder.absolute())
    try:
        yield {_FOLDER: os.environ[_FOLDER]}
    finally:
        del os.environ[_FOLDER]


def role_environment(role: str) -> dict[str, str]:
    """The environment of the process that plays a role: 'generator-0', 'policy-1'."""
    return {_ROLE: role}


def redirect() -> None:
    """Send all that this process prints, and its children, to the file of its role."""
    file = _file(os.environ.get(_ROLE, ""))
    if file is None:
        return
    try:
        opened = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    except OSError as error:
        print(f"{file} cannot be written, so all is printed here: {error}", flush=True)
        return
    os.dup2(opened, 1)
    os.dup2(opened, 2)
    os.close(opened)


def last_lines(role: str) -> str:
    """What the role's process printed last, without secrets, under the file's name; '' if none."""
    file = _file(role)
    if file is None or not file.is_file():
        return ""
    with file.open("rb") as opened:
        opened.seek(max(0, file.stat().st_size - 32_768))
        text = redact(opened.read().decode(errors="replace"))  # whole: a key can have many lines
    # A progress bar is one line that was written over and over.
    lines = [line.rpartition("\r")[2] for line in text.rstrip().split("\n")]
    lines = [line for line in lines if not line.startswith(_MARKS)]
    shown = "\n".join(f"  | {line}" for line in lines[-LAST_LINES:])
    return f"the end of {file}:\n{shown}"


def note_last_lines(error: BaseException, role: str) -> None:
    """Let an error's traceback end with what the role printed last."""
    if lines := last_lines(role):
        error.add_note(lines)


def _file(role: str) -> Path | None:
    folder = os.environ.get(_FOLDER)
    if not folder or not role:
        return None
    return Path(folder) / f"{re.sub(r'[^A-Za-z0-9_.-]', '-', role)}.log"
