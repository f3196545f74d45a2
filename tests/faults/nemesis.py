"""`make faults`: what is injected, what is violated, how long recoveries take.

    python -m tests.faults.nemesis [--rows F1 F8] [--scale 0.1] [--seed 1] [--json FILE]

A row that FILE has is not run again. Times of worlds are virtual: an engine starts in 20 s there,
and is taken as lost after 40 s without a token. Ends with 1 where anything was violated.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from tests.faults.rows import ROWS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rows", nargs="*", default=list(ROWS), choices=list(ROWS), metavar="ROW")
    parser.add_argument("--scale", type=float, default=1.0, help="of the injections of every row")
    parser.add_argument("--seed", type=int, default=0, help="of the first world of every row")
    parser.add_argument("--json", type=Path, help="where rows are kept")
    given = parser.parse_args()
    logging.disable(logging.WARNING)  # every recovery says so
    kept: dict[str, Any] = {}
    if given.json and given.json.exists():
        kept = json.loads(given.json.read_text())
    print(f"{'row':24} {'fault':44} {'injected':>8} {'violated':>8} {'p50 s':>6} {'p95 s':>6}")
    for name in given.rows:
        if name not in kept:
            kept[name] = measured(name, given.scale, given.seed)
            if given.json:
                given.json.write_text(json.dumps(kept, indent=1))
        show(name, kept[name])
    total, wrong = (sum(row[key] for row in kept.values()) for key in ("injections", "violated"))
    seconds = sum(row["seconds"] for row in kept.values())
    print(f"{total} injections, {wrong} violations, {seconds:.0f} s")
    sys.exit(1 if wrong else 0)


def measured(name: str, scale: float, seed: int) -> dict[str, Any]:
    began, row = time.monotonic(), ROWS[name]
    found = row.run(max(1, round(row.injections * scale)), seed)
    for line in found.violations[:5]:
        print(f"  {line}", file=sys.stderr)
    waits = [float(np.quantile(found.recoveries, q)) for q in (0.5, 0.95) if found.recoveries]
    return {
        "injections": found.injections,
        "violated": len(found.violations),
        "recovery_s": waits,
        "seconds": time.monotonic() - began,
    }


def show(name: str, row: dict[str, Any]) -> None:
    waits = " ".join(f"{wait:6.1f}" for wait in row["recovery_s"]) or f"{'-':>6} {'-':>6}"
    about = ROWS[name].about
    print(f"{name:24} {about:44} {row['injections']:8} {row['violated']:8} {waits}", flush=True)


if __name__ == "__main__":
    main()
