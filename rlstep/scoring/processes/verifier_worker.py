"""The process in which a verifier runs, started by `VerifierPool` and killed by it at will.

    python -m rlstep.scoring.processes.verifier_worker SOCKET_FD PARENT_PID DEADLINE_S MEMORY_MB

Both directions are JSON lines. In: first the verifier's spec, then chunks, each a list of
[text, answer] or, where `verify` asks for more, [text, answer, {that by name}]. Out: first {} once
the verifier is loaded, then one answer an item, each as soon as it is known:
{"value", "verdict", "extracted"}, or {"error"} with its file and line where `verify` raised.
"""

from __future__ import annotations

import contextlib
import json
import math
import resource
import socket
import sys
import time
from typing import Any

from rlstep.interfaces import Verifier
from rlstep.plugins import described
from rlstep.scoring.processes.confined import confine, decode
from rlstep.types import OutcomeScore, Verdict


def _renew_cpu_limit(seconds: float) -> None:
    """Be killed by the kernel after that much more CPU time, should the parent be held up."""
    soft = math.ceil(time.process_time() + seconds) + 1
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))


def _answer(verifier: Verifier, text: str, answer: str, asked: dict[str, Any]) -> dict[str, Any]:
    try:
        score = verifier.verify(text, answer, **asked)
    except Exception as error:
        return {"error": described(error, verifier)}
    if not isinstance(score, OutcomeScore):
        return {"error": f"verify returned {type(score).__name__}, not OutcomeScore"}
    number = isinstance(score.value, int | float) and not isinstance(score.value, bool)
    if not (number and isinstance(score.verdict, Verdict) and isinstance(score.extracted, str)):
        kinds = [type(entry).__name__ for entry in (score.value, score.verdict, score.extracted)]
        return {"error": f"verify returned an OutcomeScore of {', '.join(kinds)}"}
    if score.value != (score.verdict is Verdict.CORRECT):
        return {"error": f"verify returned value {score.value} for verdict {score.verdict!r}"}
    if score.grade is not None and not 0.0 <= score.grade <= 1.0:
        return {"error": f"verify returned a grade of {score.grade}, not in [0, 1]"}
    return {
        "value": float(score.value),
        "verdict": score.verdict,
        "extracted": score.extracted,
        "grade": None if score.grade is None else float(score.grade),
    }


def main(arguments: list[str]) -> None:
    descriptor, parent, deadline_s, memory_mb = arguments
    confine(int(parent), int(memory_mb))
    connection = socket.socket(fileno=int(descriptor))
    lines = connection.makefile("rb")

    def reply(message: dict[str, Any]) -> None:
        connection.sendall(json.dumps(message).encode() + b"\n")

    try:
        verifier = decode(json.loads(lines.readline()))
        verifier.check(float(deadline_s))
        # An empty item, so that no real one pays for lazy imports, or for what is read once.
        empty = {"row": {}, "finish_reason": "stop"}
        _answer(verifier, "", "", {name: empty[name] for name in verifier.asks})
    except Exception as error:
        reply({"error": f"{type(error).__name__}: {error}"})
        return
    reply({})
    with contextlib.suppress(ConnectionError):  # the pool closed while an answer was on its way
        for line in lines:
            for text, answer, *more in json.loads(line):
                _renew_cpu_limit(float(deadline_s))
                message = _answer(verifier, text, answer, more[0] if more else {})
                reply(message)
                if message.get("error", "").startswith("MemoryError"):
                    return  # the replacement has all its memory


if __name__ == "__main__":
    main(sys.argv[1:])
