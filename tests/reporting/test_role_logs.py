"""The files that the roles' processes print into."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from rlstep.reporting.role_logs import (
    LAST_LINES,
    keeping_logs,
    last_lines,
    note_last_lines,
    role_environment,
)

PRINTS = """
import os, subprocess, sys
from rlstep.reporting.role_logs import redirect
redirect()
print("from Python", flush=True)
print("an error", file=sys.stderr, flush=True)
os.write(2, b"from below Python\\n")
subprocess.run([sys.executable, "-c", "print('a child')"], check=True)
"""


def run(code: str, environment: dict[str, str]) -> str:
    """What a process prints where its asker sees it."""
    whole = {**os.environ, **environment}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=whole, capture_output=True, text=True, check=True)
    return done.stdout + done.stderr


def test_all_that_a_role_prints_is_in_its_file(tmp_path: Path):
    with keeping_logs(tmp_path / "log") as kept:
        seen = run(PRINTS, kept | role_environment("generator-0"))
        again = run(PRINTS, kept | role_environment("generator-0"))
    assert seen == again == ""
    lines = (tmp_path / "log" / "generator-0.log").read_text().splitlines()
    assert lines == ["from Python", "an error", "from below Python", "a child"] * 2


def test_a_process_without_a_role_or_a_folder_prints_where_it_did(tmp_path: Path):
    with keeping_logs(tmp_path) as kept:
        assert "from below Python" in run(PRINTS, kept)
    assert "from below Python" in run(PRINTS, role_environment("generator-0"))
    assert list(tmp_path.iterdir()) == []


def test_where_the_file_cannot_be_written_all_is_printed_as_before(tmp_path: Path):
    (tmp_path / "generator-0.log").mkdir()  # as good as a folder that another node lacks
    with keeping_logs(tmp_path) as kept:
        seen = run(PRINTS, kept | role_environment("generator-0"))
    assert "generator-0.log cannot be written" in seen and "a child" in seen


def test_the_folder_is_known_inside_the_block_alone(tmp_path: Path):
    (tmp_path / "prm-0.log").write_text("said\n")
    with keeping_logs(tmp_path):
        assert last_lines("prm-0") == f"the end of {tmp_path / 'prm-0.log'}:\n  | said"
        assert last_lines("prm-1") == ""
    assert last_lines("prm-0") == ""


def test_the_last_lines_are_few_and_without_bars_marks_and_secrets(tmp_path: Path):
    words = [f"line {i}" for i in range(50)]
    shards = "Loading:   0%|   | 0/2\rLoading:  50%|   | 1/2\rLoading: 100%|   | 2/2"
    secret = "sk" + "-" + "0123456789abcdef" * 2
    text = "\n".join([":job_id:01000000", *words, shards, f"key {secret}", ":actor_name:Engine"])
    (tmp_path / "policy-1.log").write_text(text + "\n\n")
    with keeping_logs(tmp_path):
        head, *lines = last_lines("policy-1").split("\n")
    assert head.endswith("policy-1.log:") and len(lines) == LAST_LINES
    assert lines[-2:] == ["  | Loading: 100%|   | 2/2", "  | key <redacted>"]
    assert lines[0] == "  | line 32"


def test_only_the_end_of_a_large_file_is_read(tmp_path: Path):
    (tmp_path / "policy-0.log").write_text("x" * 100_000 + "\nlast\n")
    with keeping_logs(tmp_path):
        shown = last_lines("policy-0")
    assert shown.endswith("\n  | last") and len(shown) < 40_000


def test_a_roles_name_makes_a_plain_file_name(tmp_path: Path):
    with keeping_logs(tmp_path) as kept:
        run(PRINTS, kept | role_environment("../my prm-0"))
    assert [file.name for file in tmp_path.iterdir()] == ["..-my-prm-0.log"]


def test_an_error_carries_them_as_a_note(tmp_path: Path):
    error = RuntimeError("generator 0 is lost")
    (tmp_path / "generator-0.log").write_text("out of memory\n")
    with keeping_logs(tmp_path):
        note_last_lines(error, "generator-0")
        note_last_lines(error, "generator-1")  # printed nothing
    assert [note.endswith("  | out of memory") for note in error.__notes__] == [True]
