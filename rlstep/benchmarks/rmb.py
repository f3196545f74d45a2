"""RMB as it was published, or one's own comparisons in its layout."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from rlstep.benchmarks.files import files_of
from rlstep.benchmarks.first_errors import step_values
from rlstep.checks import at_least, named
from rlstep.examples.judged import Judged, judged_rollouts
from rlstep.interfaces import Benchmark, Case
from rlstep.measuring.aggregate import Aggregate, chain_score
from rlstep.measuring.protocols import beats_all
from rlstep.tasks.read_rows import read_rows
from rlstep.tasks.rows import Row, problem_id, shown
from rlstep.tensors.templates import PromptEncoder, PromptTemplate
from rlstep.types import Failure, Prompt, RolloutScore, Score

PAIRWISE, BEST_OF_N = "pairwise", "best_of_n"


@dataclass(frozen=True, kw_only=True)
class Rmb(Benchmark):
    """Pairs of answers, and best answers beside several losers, in RMB's two layouts.

    Zhou et al. 2024, arXiv:2410.09893, 49 scenarios of helpfulness and harmlessness:

        {"conversation_input": [...], "chosen": {"answer": ...}, "reject": {"answer": ...}}
        {"conversation_input": [...], "bon_best": {"answer": ...}, "loser_list": [{"answer": ...}]}

    with 'pair_uid' or 'bon_uid', and 'category_path', whose second part is the goal. 'pairwise' is
    the share of pairs whose chosen answer scores higher, 'best_of_n' the share of best answers that
    score higher than every loser; both strictly, so a tie is wrong. Each also by goal, with its
    standard error ('_error') and the numbers of cases ('_cases') and of those without a score
    ('_failures'), of which nothing else speaks.
    """

    name: str = "rmb"
    """Of the benchmark; its numbers are told under it."""
    path: str
    """A file of one layout (.jsonl, .json or .parquet), or a folder with any number of both."""
    limit: int = 0
    """Only the first so many rows of each file; 0 takes all."""
    template: PromptTemplate = PromptTemplate()
    """What stands around a conversation, as the model is used to; its text only where there is
    one message."""
    step_end: str = ""
    """What ends a step within an answer, for a model of steps; '' takes an answer as one step."""
    aggregate: Aggregate = "last"
    """What makes an answer's score of several steps' scores."""

    def __post_init__(self) -> None:
        named("benchmarks.name", self.name, "benchmark")
        named("benchmarks.path", self.path, "file, or the folder of files")
        at_least("benchmarks.limit", self.limit, 0)

    def cases(self, tokenizer: Any) -> list[Case]:
        files = files_of(self.path, "benchmarks.path").values()
        rows = [row for file in files for row in read_rows(str(file), limit=self.limit)]
        encoder = PromptEncoder(self.template, tokenizer)
        return [self._case(row, encoder, tokenizer) for row in rows]

    def figures(self, cases: Sequence[Case], scores: Sequence[Sequence[Score]]) -> dict[str, float]:
        results: dict[str, list[bool | None]] = {}
        for case, scored in zip(cases, scores, strict=True):
            kind, _, goal = case.subset.partition("/")
            values = [self._value(score) for score in scored]
            known = [value for value in values if value is not None]
            beaten = beats_all(known[0], known[1:]) if len(known) == len(values) else None
            results.setdefault(kind, []).append(beaten)
            if goal:
                results.setdefault(f"{goal}/{kind}", []).append(beaten)
        return {
            name: number
            for told, found in results.items()
            for name, number in self._share(told, found).items()
        }

    def _share(self, told: str, results: Sequence[bool | None]) -> dict[str, float]:
        known = [beaten for beaten in results if beaten is not None]
        if not known:
            raise ValueError(f"{self.name}: no case of {told!r} has scores")
        share, number = float(np.mean(known)), len(known)
        return {
            told: share,
            f"{told}_error": math.sqrt(share * (1 - share) / number),
            f"{told}_cases": float(number),
            f"{told}_failures": float(len(results) - number),
        }

    def _value(self, score: Score) -> float | None:
        """The score of a whole answer, None where it failed."""
        if isinstance(score, Failure):
            return None
        if isinstance(score, RolloutScore):
            return score.value
        return chain_score(step_values(score, self.name), self.aggregate)

    def _case(self, row: Row, encoder: PromptEncoder, tokenizer: Any) -> Case:
        kind, uid, places = _layout(row)
        answers = [row.text(f"{place}.answer", may_be_empty=True) for place in places]
        prompt = _prompt(row, encoder, self.template)
        judged = [(prompt, self._judged(answer)) for answer in answers]
        category = row.values.get("category_path") or ""
        goal = category.split("/")[1] if category.count("/") else ""
        return Case(
            subset=f"{kind}/{goal}" if goal else kind,
            rollouts=tuple(
                replace(rollout, rollout_id=f"{kind}/{uid}/{place}")
                for rollout, place in zip(judged_rollouts(judged, tokenizer), places, strict=True)
            ),
        )

    def _judged(self, answer: str) -> Judged:
        parts = answer.split(self.step_end) if self.step_end else [answer]
        ended = [part + self.step_end for part in parts[:-1]]
        steps = (*ended, parts[-1]) if parts[-1] or not ended else tuple(ended)
        nothing = (0.0,) * len(steps)
        return Judged(steps=steps, targets=nothing, weights=nothing)


def _layout(row: Row) -> tuple[str, str, list[str]]:
    """Which of the two a row is, its id, and the places of its answers, the best one first."""
    uid = "pair_uid" if "pair_uid" in row.values else "bon_uid"
    name = row.number_or_text(uid) if uid in row.values else f"{row.unit} {row.line}"
    if "bon_best" not in row.values:
        return PAIRWISE, name, ["chosen", "reject"]
    losers = row.value("loser_list")
    if not isinstance(losers, list) or not losers:
        raise row.error("loser_list", f"is {shown(losers)}; it must be a list of at least one")
    return BEST_OF_N, name, ["bon_best", *(f"loser_list.{i}" for i in range(len(losers)))]


def _prompt(row: Row, encoder: PromptEncoder, template: PromptTemplate) -> Prompt:
    column = "conversation_input"
    given = row.value(column)
    if not isinstance(given, list) or not given:
        raise row.error(column, f"is {shown(given)}; it must be a list of at least one message")
    texts = [
        {key: row.text(f"{column}.{i}.{key}") for key in ("role", "content")}
        for i in range(len(given))
    ]
    if texts[-1]["role"] == "assistant":
        raise row.error(column, "the last message must ask for an answer")
    alone = [message["role"] for message in texts] == ["user"]
    ids = encoder.problem(texts[0]["content"]) if alone else encoder.conversation(texts)
    return Prompt(
        prompt_id=problem_id(*(text for each in texts for text in each.values())),
        token_ids=np.array(ids, np.int32),
        text=encoder.decode(ids),
        answer="",
        meta={"problem": texts[-1]["content"], "suffix": template.suffix},
    )
