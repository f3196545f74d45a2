"""Peaks of processes that hold and let go of memory."""

from __future__ import annotations

import subprocess
import sys

import pytest

from rlstep.measuring.peak_memory import own_peak_gib, peak_gib

HOLDS = """
import subprocess, sys
block = bytearray(int(sys.argv[1]) << 20)
for place in range(0, len(block), 4096):
    block[place] = 1
del block
if len(sys.argv) > 2:
    child = subprocess.Popen([sys.executable, "-c", sys.argv[2], "150"], stdin=-1, stdout=-1)
    child.stdout.readline()
print("held", flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_what_was_let_go_of_and_what_lies_below_count() -> None:
    """200 MiB, let go of; and a child's 150 MiB."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", HOLDS, "200", HOLDS], **pipes) as process:  # type: ignore[call-overload]
        assert process.stdout is not None and process.stdout.readline() == b"held\n"
        both = peak_gib(process.pid)
        process.communicate()
    assert 350 / 1024 < both < 450 / 1024
    assert peak_gib(process.pid) == 0.0  # it has ended


def test_a_process_alone_is_part_of_itself_with_others() -> None:
    assert 0.0 < own_peak_gib() <= peak_gib()
