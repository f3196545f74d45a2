"""Plain verdicts/s through the verifier pool, on solutions that models and people wrote.

    python tests/bench/verifier.py [--processes 2] [--rounds 3] [--json FILE]
    python tests/bench/verifier.py --families
    python tests/bench/verifier.py --against CHECKOUT

Needs GSM8K and MATH500 in ../shared/data. A verdict is plain where the answer is compared as text
or as a number, which is every item here but some of MATH500's. Every round has a fresh pool, so
that no cache of the round before helps; its start is not timed. Goal: 2,000 a second. The CPU time
of a verdict, of this process and the workers together, does not depend on what else the machine
does. Against another checkout of this repository, CPU time is compared, without a pool: the two
alternate, each round in processes of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))  # `tests`, when run as a plain script

from rlstep.scoring.answers.math_answer import MathAnswer, compare
from rlstep.scoring.processes.verifier_pool import VerifierPool
from rlstep.types import Failure, Verdict
from tests.scoring.answers.families import BEFORE, FAMILIES, counts
from tests.scoring.answers.mathematics import DATA, read_rows, references

GOAL = 2000.0
VERIFY = """
import importlib, json, sys, time
for room in ("scoring.answers", "scoring"):
    try:
        found = importlib.import_module(f"rlstep.{room}.math_answer")
        break
    except ModuleNotFoundError:
        continue
verifier = found.MathAnswer()
verifier.verify("#### x + 1", "1 + x")  # imports
items = json.load(sys.stdin)
started = time.process_time()
for text, answer in items:
    verifier.verify(text, answer)
print(time.process_time() - started)
"""
"""Prints the CPU seconds that a checkout takes for items; its rooms had other names once."""
MODELS = ("6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification")

Item = tuple[str, str]


def workloads() -> dict[str, list[Item]]:
    """(solution, reference) by name: four models' solutions and both sets' own."""
    written = read_rows("gsm8k/example_model_solutions.jsonl")
    references = [re.findall(r"^A: (.*)$", row["ground_truth"], re.MULTILINE)[0] for row in written]
    own = [row["answer"] for row in read_rows("gsm8k/test.jsonl")]
    return {
        "gsm8k models": [
            (row[model]["solution"], reference)
            for row, reference in zip(written, references, strict=True)
            for model in MODELS
        ],
        "gsm8k own": [(answer, answer.split("####")[1]) for answer in own],
        "math500 own": [
            (row["solution"], row["answer"]) for row in read_rows("math500/test.jsonl")
        ],
    }


def cpu_seconds(pids: list[int]) -> float:
    """User and system time of this process and those."""
    total = time.process_time()
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total


async def measure(items: list[Item], processes: int) -> tuple[float, float]:
    """(verdicts a second, CPU seconds a verdict) of one pass."""
    with VerifierPool(MathAnswer(), workers=processes, deadline_s=60.0) as pool:
        await pool.verify(items[:1] * processes)
        pids = pool.pids()
        started, spent = time.perf_counter(), cpu_seconds(pids)
        outcomes = await pool.verify(items)
        took, spent = time.perf_counter() - started, cpu_seconds(pids) - spent
    failed = [outcome for outcome in outcomes if isinstance(outcome, Failure)]
    assert not failed, failed[0]
    return len(items) / took, spent / len(items)


def print_against(checkout: Path, rounds: int) -> None:
    """Verdicts per CPU second, of this checkout over another's; goal: 0.9."""
    loads = workloads()
    answers = references()
    kinds = {
        "plain answers": [(rf"\boxed{{{answer}}}", answer) for answer in answers],
        "other answers": [
            (rf"\boxed{{{found}}}", answer)
            for found, answer in zip(answers[1:] + answers[:1], answers, strict=True)
        ],
        "gsm8k solutions": loads["gsm8k models"] + loads["gsm8k own"],
    }
    here = Path(__file__).parents[2]
    print(f"{'items':<16} {'number':>6} {'CPU us':>7} {'there':>7} {'verdicts/s, over theirs':>23}")
    for name, items in kinds.items():
        sides: dict[Path, list[float]] = {here: [], checkout: []}
        for number in range(2 * rounds):
            folder = (here, checkout)[number % 2]
            sides[folder].append(seconds(folder, items) / len(items))
        ours, theirs = (statistics.median(sides[folder]) for folder in (here, checkout))
        ratios = [b / a for a, b in zip(sides[here], sides[checkout], strict=True)]
        spread = f"{theirs / ours:.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        print(f"{name:<16} {len(items):>6} {1e6 * ours:>7.0f} {1e6 * theirs:>7.0f} {spread:>23}")


def seconds(checkout: Path, items: list[Item]) -> float:
    done = subprocess.run(
        [sys.executable, "-c", VERIFY],
        input=json.dumps(items),
        env=os.environ | {"PYTHONPATH": str(checkout)},
        capture_output=True,
        text=True,
        check=True,
    )
    return float(done.stdout)


def print_families() -> None:
    """Counts of what is wrong on each family of answers, before (commit 9d67326) and now."""
    print(f"{'family':<34} {'different':>9} {'accepted':>13} {'equal':>5} {'refused':>13}")
    for name, family in FAMILIES.items():
        accepted, refused = counts(lambda a, b: compare(a, b) is Verdict.CORRECT, family)
        before = BEFORE[name]
        wrong, right = f"{before[0]} -> {accepted}", f"{before[1]} -> {refused}"
        print(f"{name:<34} {len(family[1]):>9} {wrong:>13} {len(family[0]):>5} {right:>13}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--families", action="store_true", help="count verdicts on the families")
    parser.add_argument("--against", type=Path, help="compare with another checkout's code")
    options = parser.parse_args()
    if options.families:
        print_families()
        return
    if not DATA.exists():
        parser.error(f"{DATA} is absent; GSM8K and MATH500 are read from there")
    if options.against:
        print_against(options.against, options.rounds)
        return
    loads = workloads()
    loads["all"] = [item for items in loads.values() for item in items]
    figures: dict[str, dict[str, float]] = {}
    print(f"{'solutions':<14} {'items':>6} {'characters':>10} {'verdicts/s':>10} {'CPU us':>7}")
    for name, items in loads.items():
        rounds = [asyncio.run(measure(items, options.processes)) for _ in range(options.rounds)]
        rate, spent = (statistics.median(column) for column in zip(*rounds, strict=True))
        figures[name] = {"verdicts_per_second": rate, "cpu_seconds": spent}
        length = statistics.mean(len(text) for text, _ in items)
        print(f"{name:<14} {len(items):>6} {length:>10.0f} {rate:>10.0f} {1e6 * spent:>7.0f}")
    ratio = figures["all"]["verdicts_per_second"] / GOAL
    print(f"{options.processes} processes, goal {GOAL:.0f}: {ratio:.2f} of it")
    if options.json:
        report = {"processes": options.processes, "goal": GOAL, "workloads": figures}
        options.json.write_text(json.dumps(report))


if __name__ == "__main__":
    main()
