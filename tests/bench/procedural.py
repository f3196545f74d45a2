"""Every data set of the installed reasoning-gym, as a table in Markdown.

    python tests/bench/procedural.py

Each makes 20 items in two processes of different hash seeds, and grades its own answers after their
way through JSON. 'run' says what becomes of it: 'graded', or why `ReasoningGym` refuses it.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from hashlib import blake2b
from typing import Any

from rlstep.checks import json_able
from rlstep.scoring.answers.reasoning_gym_answer import (
    EVALUATES,
    Entry,
    EvaluatesText,
    ReasoningGymAnswer,
    make_dataset,
)

ITEMS = 20
SECONDS = 60
"""Longest time for one data set."""


def composite() -> dict[str, Any]:
    from reasoning_gym.composite import DatasetSpec  # pyright: ignore[reportMissingImports]

    return {"datasets": [DatasetSpec(name=n, weight=1, config={}) for n in ("chain_sum", "gcd")]}


def measured(name: str) -> dict[str, Any]:
    """One data set: `items` made, `right` graded so, and what it is."""
    start = time.monotonic()
    dataset = make_dataset(name, None, composite() if name == "composite" else {}, 7, ITEMS)
    items = [dataset[i] for i in range(ITEMS)]
    row: dict[str, Any] = {"name": name, "seconds": (time.monotonic() - start) / ITEMS}
    grader = next(k for k in type(dataset).__mro__ if "score_answer" in vars(k))
    row |= {"items": len(items), "grader": grader.__name__, "run": "graded"}
    row["hash"] = blake2b(repr(items).encode(), digest_size=8).hexdigest()
    row["empty"] = sum(float(dataset.score_answer("", item)) > 0 for item in items)
    row["direct"] = sum(float(dataset.score_answer(item["answer"], item)) == 1.0 for item in items)
    if name == "composite":
        return row | {"right": row["direct"], "run": "refused: `sources` mixes"}
    if name in EVALUATES:
        return row | {"right": row["direct"], "run": "refused: evaluates texts"}
    try:
        json_able("an item", items)
    except ValueError as error:
        return row | {"right": row["direct"], "run": f"refused: {error}"}
    grade = ReasoningGymAnswer().grade
    try:
        entries = [Entry(dataset=name, level=None, config={}, item=item) for item in items]
        scores = [grade(entry.item["answer"], entry.answer()) for entry in entries]
    except EvaluatesText:
        return row | {"right": 0, "run": "not in EVALUATES, and evaluates texts"}
    except Exception as error:
        return row | {"right": 0, "run": f"raises {type(error).__name__}: {error}"}
    right = sum(score == 1.0 for score in scores)
    if right < row["direct"]:
        row["run"] = "refused: does not know its own answer after JSON"
    return row | {"right": row["direct"]}


def late(*_: object) -> None:
    raise TimeoutError(f"over {SECONDS} s")


def rows() -> None:
    """Every data set, as JSON lines."""
    from reasoning_gym.factory import DATASETS  # pyright: ignore[reportMissingImports]

    signal.signal(signal.SIGALRM, late)
    for name in sorted(DATASETS):
        signal.alarm(SECONDS)
        try:
            with contextlib.redirect_stdout(sys.stderr):  # some data sets print
                row = measured(name)
        except Exception as error:
            row = {"name": name, "error": f"{type(error).__name__}: {error}"}
        signal.alarm(0)
        print(json.dumps(row), flush=True)


def read(hash_seed: str) -> dict[str, dict[str, Any]]:
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    command = [sys.executable, __file__, "--rows"]
    out = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    lines = [
        line for line in out.stdout.splitlines() if line.startswith("{")
    ]  # some data sets print
    return {row["name"]: row for row in map(json.loads, lines)}


def main() -> None:
    first, second = read("1"), read("2")
    print("| data set | s an item | grader | run | own answers right | same in two processes |")
    print("|---|---|---|---|---|---|")
    counted: Counter[str] = Counter()
    for name, row in first.items():
        if "error" in row:
            counted["error"] += 1
            print(f"| {name} | | | {row['error']} | | |")
            continue
        same = row["hash"] == second[name].get("hash")
        counted.update([row["run"].split(":")[0], "same" if same else "differs"])
        right = f"{row['right']}/{row['items']}"
        print(
            f"| {name} | {row['seconds']:.4f} | {row['grader']} | {row['run']} | {right}"
            f" | {'yes' if same else 'no'} |"
        )
        if row["empty"]:
            print(f"{name}: an empty answer scores in {row['empty']} items", file=sys.stderr)
    print(f"\n{len(first)} data sets: {dict(counted)}")


if __name__ == "__main__":
    rows() if "--rows" in sys.argv else main()
