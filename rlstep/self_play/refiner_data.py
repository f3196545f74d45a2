"""What a judge and a refiner are trained on, as a run makes it on the way."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rlstep.interfaces import RunStart, Sink
from rlstep.scoring.judges.judgment_text import problem_of, render, solution_of
from rlstep.self_play.self_refine import SelfRefine, judgment_of
from rlstep.self_play.voting import SOURCE
from rlstep.types import Group, Rollout


@dataclass(frozen=True, kw_only=True)
class RefinerData(Sink):
    """The judgments and refinements that a self-play run believes in, a file an iteration.

    SPaR (Cheng et al. 2024, arXiv:2412.11605, section 2.3) trains its refiner on them by plain
    supervision: judgments that say what the majority says, and refinements that were accepted, each
    with what was asked for it. `<run>/refiner/iteration-000001.jsonl` has a row each: 'kind'
    ('judge' or 'refine'), 'problem' (what is asked), 'solution' (what is said), 'votes' (share for
    correct, of what is judged or was refined to). `examples.Solutions` reads it:
    `rlstep sft`, see README.
    """

    of: SelfRefine
    """The run's strategy."""
    folder: Path = Path()
    """Of the run; set where it is opened."""

    def open(self, start: RunStart) -> RefinerData:
        return replace(self, folder=start.folder)

    def iteration(self, record: Mapping[str, float], groups: Sequence[Group]) -> None:
        rows = [row for group in groups for row in self._rows(group)]
        if not rows:
            return
        folder = self.folder / "refiner"
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / f"iteration-{int(record['iteration']):06d}.jsonl"
        file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))

    def close(self, summary: Mapping[str, Any]) -> None:
        """Nothing is open between two iterations."""

    def _rows(self, group: Group) -> Iterator[dict[str, Any]]:
        by_id = {rollout.rollout_id: rollout for rollout in group.rollouts}
        for rollout in group.rollouts:
            votes = rollout.whole_score(SOURCE)
            if votes is None:
                continue
            texts = {
                "problem": problem_of(rollout),
                "answer": rollout.prompt.answer,
                "solution": solution_of(rollout),
            }
            asked = render(self.of.judge.template, texts)
            yield _row("judge", asked, judgment_of(rollout), votes)
            parent: Rollout | None = by_id.get(rollout.parent or "")
            if parent is not None and votes > self.of.search.above:
                asked = self.of.refiner.asked(parent)
                yield _row("refine", asked, rollout.completion.text, votes)


def _row(kind: str, problem: str, solution: str, votes: float) -> dict[str, Any]:
    return {"kind": kind, "problem": problem, "solution": solution, "votes": votes}
