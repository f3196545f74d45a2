"""Plain verdicts/s through the verifier pool, on solutions that models and people wrote.

    python tests/bench/verifier.py [--processes 2] [--rounds 3] [--json FILE]

Needs GSM8K and MATH500 in ../shared/data. A verdict is plain where the answer is compared as text
or as a number, which is every item here but some of MATH500's. Every round has a fresh pool, so
that no cache of the round before helps; its start is not timed. Goal: 2,000 a second.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))  # `tests`, when run as a plain script

from rlstep.scoring.math_answer import MathAnswer
from rlstep.scoring.verifier_pool import VerifierPool
from rlstep.types import Failure
from tests.scoring.mathematics import DATA, read_rows

GOAL = 2000.0
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


async def verdicts_per_second(items: list[Item], processes: int) -> float:
    with VerifierPool(MathAnswer(), workers=processes) as pool:
        await pool.verify(items[:1] * processes)
        started = time.perf_counter()
        outcomes = await pool.verify(items)
        took = time.perf_counter() - started
    failed = [outcome for outcome in outcomes if isinstance(outcome, Failure)]
    assert not failed, failed[0]
    return len(items) / took


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if not DATA.exists():
        parser.error(f"{DATA} is absent; GSM8K and MATH500 are read from there")
    loads = workloads()
    loads["all"] = [item for items in loads.values() for item in items]
    figures = {}
    print(f"{'solutions':<14} {'items':>6} {'characters':>10} {'verdicts/s':>10}")
    for name, items in loads.items():
        rates = [
            asyncio.run(verdicts_per_second(items, options.processes))
            for _ in range(options.rounds)
        ]
        figures[name] = statistics.median(rates)
        length = statistics.mean(len(text) for text, _ in items)
        print(f"{name:<14} {len(items):>6} {length:>10.0f} {figures[name]:>10.0f}")
    print(f"{options.processes} processes, goal {GOAL:.0f}: {figures['all'] / GOAL:.2f} of it")
    if options.json:
        report = {"processes": options.processes, "goal": GOAL, "verdicts_per_second": figures}
        options.json.write_text(json.dumps(report))


if __name__ == "__main__":
    main()
