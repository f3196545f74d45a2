"""A verifier pool whose clock is what its workers do: a busy machine makes no verdict late."""

from __future__ import annotations

import json
import select
from typing import Any

from rlstep.scoring.processes.verifier_pool import VerifierPool, _Worker
from tests.waiting import state_and_ticks

_STILL = 20
"""Looks at a process that sleeps or is stopped before it counts as hanging, 0.05 s apart."""
_PATIENCE_S = 3600.0


class _PatientWorker(_Worker):
    """Its deadline is in CPU time; and one that sleeps, or is stopped, is late at once."""

    _read = b""

    def send(self, line: str, timeout_s: float) -> None:
        super().send(line, _PATIENCE_S)

    def receive(self, timeout_s: float) -> dict[str, Any]:
        begun = ticks = state_and_ticks(self.pid)[1]
        still = 0
        while b"\n" not in self._read:
            if select.select([self._socket], [], [], 0.05)[0]:
                more = self._socket.recv(1 << 16)
                if not more:
                    raise EOFError
                self._read += more
                continue
            before, (state, ticks) = ticks, state_and_ticks(self.pid)
            still = still + 1 if ticks == before and state in "ST" else 0
            if ticks - begun > 100 * timeout_s or still > _STILL:
                raise TimeoutError
        line, _, self._read = self._read.partition(b"\n")
        return json.loads(line)


class PatientPool(VerifierPool):
    """For tests of what a verifier says, and of what becomes of one that hangs."""

    worker = _PatientWorker
