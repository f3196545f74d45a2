"""ProcessBench's protocol, for whatever solutions have a known first error."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from rlstep.checks import between, named
from rlstep.interfaces import Benchmark, Case
from rlstep.measuring.aggregate import FirstErrorAccuracy, first_below, first_error_accuracy
from rlstep.measuring.protocols import best_threshold, f1_error
from rlstep.types import Failure, Floats, Score, StepScores

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class FirstErrors(Benchmark):
    """First errors found by a threshold on step scores (ProcessBench, arXiv:2412.06559).

    The first step that scores under the threshold is called wrong; where none does, none is. By
    subset: 'erroneous', the share of the solutions with an error of which just this step is called
    wrong, 'correct', that of the solutions without one of which none is, 'f1', their harmonic mean
    (0 where one of them is), and 'f1_error', its standard error. 'f1' without a subset is the mean
    over those that are reported, each counted once. 'cases' and 'failures' are numbers of solutions
    with scores and of those without, of which nothing else speaks.

    The threshold is fixed, or it is the best one on a single subset. That subset's own numbers then
    are no result: they stand under 'tuned_on/<subset>/', no mean is of them, and a warning says so.
    """

    knows_first_errors: ClassVar[bool] = True

    threshold: float = 0.5
    """Of the probability that a step is right. Not used where it is tuned."""
    tuned_on: str = ""
    """The subset on which the threshold is chosen; '' takes `threshold`. (The paper: gsm8k.)"""

    def __post_init__(self) -> None:
        named("benchmarks.name", self.name, "benchmark")
        between("benchmarks.threshold", self.threshold, 0.0, 1.0)

    def cases(self, tokenizer: Any) -> list[Case]:
        found = self.solutions(tokenizer)
        self._check_subsets(found)
        if self.tuned_on:
            self._check_tuning(found)
        return found

    @abstractmethod
    def solutions(self, tokenizer: Any) -> list[Case]:
        """One case a solution. Raises as `cases`."""

    def figures(self, cases: Sequence[Case], scores: Sequence[Sequence[Score]]) -> dict[str, float]:
        by_subset: dict[str, list[tuple[Floats, int | None]]] = {}
        failures: Counter[str] = Counter()
        for case, (score,) in zip(cases, scores, strict=True):
            scored = by_subset.setdefault(case.subset, [])
            if isinstance(score, Failure):
                failures[case.subset] += 1
            else:
                scored.append((step_values(score, self.name), case.first_error))
        threshold = self.threshold
        if self.tuned_on:
            threshold = best_threshold(*_columns(self._scored(self.tuned_on, by_subset)))
        found = {"threshold": threshold}
        f1 = []
        for subset in by_subset:
            numbers = _numbers(self._scored(subset, by_subset), threshold)
            told = f"tuned_on/{subset}" if subset == self.tuned_on else subset
            found |= {f"{told}/{name}": number for name, number in numbers.items()}
            found[f"{told}/failures"] = float(failures[subset])
            if told == subset:
                f1.append(numbers["f1"])
        self._warn(found)
        return {**found, "f1": sum(f1) / len(f1)}

    def _scored(
        self, subset: str, by_subset: dict[str, list[tuple[Floats, int | None]]]
    ) -> list[tuple[Floats, int | None]]:
        """Raises: ValueError: of one kind no solution has scores."""
        scored = by_subset[subset]
        errors = sum(label is not None for _, label in scored)
        if not 0 < errors < len(scored):
            raise ValueError(
                f"{self.name}: of {subset!r} {errors} solutions with an error have scores and"
                f" {len(scored) - errors} without one; the F1 needs at least 1 of each"
            )
        return scored

    def _warn(self, found: dict[str, float]) -> None:
        if self.tuned_on:
            logger.warning(
                "%s: the threshold %.4f was chosen on %r, so its F1 of %.3f there is no result: it"
                " stands under tuned_on/%s, and the mean is of the other subsets",
                *(self.name, found["threshold"], self.tuned_on),
                *(found[f"tuned_on/{self.tuned_on}/f1"], self.tuned_on),
            )

    def _check_subsets(self, cases: Sequence[Case]) -> None:
        kinds: dict[str, set[bool]] = {}
        for case in cases:
            kinds.setdefault(case.subset, set()).add(case.first_error is not None)
        for subset, found in kinds.items():
            if len(found) == 1:
                missing = "without an error" if True in found else "with an error"
                raise ValueError(
                    f"{self.name}: {subset!r} has no solution {missing}; the F1 needs both"
                )
        if self.tuned_on and self.tuned_on not in kinds:
            raise ValueError(
                f"benchmarks.tuned_on is {self.tuned_on!r}; {self.name} has the subsets"
                f" {sorted(kinds)}"
            )

    def _check_tuning(self, cases: Sequence[Case]) -> None:
        """Refuse a threshold that would be reported on what it is chosen on, by whatever name."""
        if {case.subset for case in cases} == {self.tuned_on}:
            raise ValueError(
                f"benchmarks.tuned_on is {self.tuned_on!r}, the only subset of {self.name}: the"
                " threshold would be reported on the set that it is tuned on; the nearest valid"
                " value is '', which takes the fixed threshold"
            )
        chosen_on = {_text(case) for case in cases if case.subset == self.tuned_on}
        for case in cases:
            if case.subset != self.tuned_on and _text(case) in chosen_on:
                raise ValueError(
                    f"benchmarks.tuned_on is {self.tuned_on!r}, and {case.subset!r} has solutions"
                    f" of it, such as {case.rollouts[0].rollout_id!r}: the threshold would be"
                    " reported on what it is tuned on; leave one of the two out"
                )


def _numbers(scored: Sequence[tuple[Floats, int | None]], threshold: float) -> dict[str, float]:
    scores, labels = _columns(scored)
    claims = [first_below(values, threshold) for values in scores]
    found: FirstErrorAccuracy = first_error_accuracy(claims, labels)
    errors = sum(label is not None for label in labels)
    return {
        "f1": found.f1,
        "f1_error": f1_error(found, errors, len(labels) - errors),
        "erroneous": found.erroneous,
        "correct": found.correct,
        "cases": float(len(labels)),
    }


def _columns(
    scored: Sequence[tuple[Floats, int | None]],
) -> tuple[list[Floats], list[int | None]]:
    return [values for values, _ in scored], [label for _, label in scored]


def step_values(score: Score, benchmark: str) -> Floats:
    """float32 [K]. Raises: ValueError: they are no scores of steps."""
    if not isinstance(score, StepScores):
        raise ValueError(
            f"benchmark {benchmark!r} needs step scores, and the model's are"
            f" {type(score).__name__}; FrozenPrm scores steps"
        )
    return score.values


def _text(case: Case) -> tuple[str, str]:
    (rollout,) = case.rollouts
    return rollout.prompt.prompt_id, rollout.completion.text
