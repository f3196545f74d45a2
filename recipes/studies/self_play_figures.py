"""What a self-play run did, from its rollouts: its judge, its trees, and how near its pairs are.

    python recipes/studies/self_play_figures.py --run FOLDER [--votes 5] [--above 0.5]

By iteration: how often the judge's majority is right by the verifier's strict verdict, how many
originals were refined, how many of these were accepted, and of those how many are right; the most
generations of one prompt's searches; the mean edit distance, in words, of pairs and of two answers
to the same problem drawn at random.
"""

import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from rlstep.measuring.edit_distance import edit_distance

Row = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Figures:
    """Of one iteration."""

    judged: int
    judge_right: float
    refined: int
    """Originals."""
    accepted: int
    """Of them."""
    accepted_right: float
    """Of the accepted, by the verifier."""
    most_generations: int
    pair_distance: float
    random_distance: float


def words(row: Row) -> list[str]:
    """Of its text, what stands between them included."""
    text = "".join(step["text"] for step in row["steps"])
    return re.findall(r"\w+|\W+", text)


def original(row: Row, by_id: Mapping[str, Row]) -> Row:
    while row["parent"] in by_id:
        row = by_id[row["parent"]]
    return row


def accepted(rows: Sequence[Row], above: float) -> list[tuple[Row, Row]]:
    """(refinement, original): of each original the best one that was accepted, of equals the
    first."""
    by_id = {row["rollout_id"]: row for row in rows}
    best: dict[str, tuple[Row, Row]] = {}
    for row in rows:
        root, share = original(row, by_id), row["scores"].get("judge")
        if root is row or share is None or share <= above:
            continue
        known = best.get(root["rollout_id"])
        if known is None or share > known[0]["scores"]["judge"]:
            best[root["rollout_id"]] = (row, root)
    return list(best.values())


def figures(rows: Sequence[Row], votes: int, above: float) -> Figures:
    """Of the rollouts of one iteration.

    Args:
        votes: on each answer.
        above: share of votes above which an answer is accepted.
    """
    by_id = {row["rollout_id"]: row for row in rows}
    judged = [row for row in rows if "judge" in row["scores"]]
    agrees = [(row["scores"]["judge"] > 0.5) == right(row) for row in judged]
    pairs = accepted(rows, above)
    spent: dict[str, int] = defaultdict(int)
    originals: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if row["parent"] is None:
            originals[row["prompt_id"]].append(row)
        else:
            spent[row["prompt_id"]] += 1 + (votes if row["finish_reason"] == "stop" else 0)
    others = [pair for group in originals.values() for pair in combinations(group, 2)]
    return Figures(
        judged=len(judged),
        judge_right=mean(agrees),
        refined=len({original(r, by_id)["rollout_id"] for r in rows if r["parent"] is not None}),
        accepted=len(pairs),
        accepted_right=mean([right(row) for row, _ in pairs]),
        most_generations=max(spent.values(), default=0),
        pair_distance=mean([edit_distance(words(a), words(b)) for a, b in pairs]),
        random_distance=mean([edit_distance(words(a), words(b)) for a, b in others]),
    )


def right(row: Row) -> bool:
    return row["verdict"] == "correct"


def mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else float("nan")


@dataclass(frozen=True, kw_only=True)
class Options:
    run: str
    """Folder of the run."""
    votes: int = 5
    """On each answer."""
    above: float = 0.5
    """Share of votes above which an answer is accepted."""


def main(options: Options) -> None:
    lines = (Path(options.run) / "rollouts.jsonl").read_text().splitlines()
    by_iteration: dict[int, list[Row]] = defaultdict(list)
    for row in map(json.loads, lines):
        if "failure" not in row:
            by_iteration[row["iteration"]].append(row)
    print(
        "iteration  judged  judge right  refined  accepted  right of these  generations"
        "  edit distance of pairs / at random"
    )
    for iteration, rows in sorted(by_iteration.items()):
        f = figures(rows, options.votes, options.above)
        print(
            f"{iteration:9} {f.judged:7} {f.judge_right:12.1%} {f.refined:8} {f.accepted:9}"
            f" {f.accepted_right:15.1%} {f.most_generations:12} {f.pair_distance:24.2f}"
            f" / {f.random_distance:.2f}"
        )


if __name__ == "__main__":
    import tyro

    main(tyro.cli(Options))
