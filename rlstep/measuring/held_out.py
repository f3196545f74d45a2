"""What is measured on held-out problems, and when."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from rlstep.checks import at_least, between
from rlstep.interfaces import RolloutStrategy, Task
from rlstep.measuring.sampled import ACCURACY, AGGREGATES, MAJORITY, PASS, best_of, vote_by
from rlstep.types import Sampling

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


@dataclass(frozen=True, kw_only=True)
class HeldOutSet:
    """Further problems of an evaluation: those that a task holds out, under a name of their own."""

    name: str
    """In metrics and tables; letters, digits, '_', '.', '-'."""
    task: Task
    """Its evaluation problems are taken, and none of its training problems."""

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name) or self.name == "sampled":
            plain = re.sub(r"[^A-Za-z0-9_.-]+", "-", self.name).strip("-._") or "further"
            near = plain if plain != "sampled" else "sampled-set"
            raise ValueError(
                f"evaluation.sets: the name {self.name!r} is none for metrics; a valid one is"
                f" {near!r}"
            )


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """Accuracy on held-out problems, before the first iteration, by cadence, and after: greedy, and
    of several samples of each where `samples` says so."""

    every: int = 0
    """Iterations between evaluations; 0 evaluates only before the first and after the last."""
    problems: int = 0
    """How many of the held-out problems of each set; 0 takes all."""
    max_tokens: int = 0
    """Longest completion; 0 takes the rollouts' own limit."""
    rollouts: RolloutStrategy | None = None
    """How the problems are answered; None: greedily. All that it yields of a prompt counts, in the
    place of the greedy completion."""
    samples: int = 0
    """Completions of each problem beside the greedy one, drawn as the rollouts are: for avg@k,
    pass@k, majority, best-of-k and weighted votes by the step models. 0 draws none."""
    temperature: float | None = None
    """Of these samples and of the PRM's probe; None: the rollouts' own. With it runs that sample at
    different temperatures are compared at one."""
    ks: tuple[int, ...] = ()
    """At how many samples these are measured; empty: at 1, 2, 4, ... and all of them."""
    sets: tuple[HeldOutSet, ...] = ()
    """Further held-out problems, which are measured at the same time as the task's own."""
    best: str = ""
    """A metric of the evaluation, such as 'eval/accuracy': whenever it is higher than ever, the
    policy is exported to <run>/exports/best. Empty: no best one is kept."""
    prm_problems: int = 256
    """Held-out problems of the frozen probe that measures the PRM, with 4 completions each."""

    def __post_init__(self) -> None:
        for name in ("every", "problems", "max_tokens", "samples", "prm_problems"):
            at_least(f"evaluation.{name}", getattr(self, name), 0)
        between("evaluation.temperature", self.temperature or 0.0, 0.0, 2.0)
        for k in self.ks:
            at_least("evaluation.ks", k, 1)
            if k > self.samples:
                raise ValueError(
                    f"evaluation.ks has {k}, which is above evaluation.samples {self.samples}; the"
                    f" largest valid value is {self.samples}"
                    if self.samples
                    else f"evaluation.ks has {k}, and evaluation.samples is 0, so that there is"
                    f" nothing to take {k} of; the smallest valid value of it is {max(self.ks)}"
                )
        names = [each.name for each in self.sets]
        if again := [name for i, name in enumerate(names) if name in names[:i]]:
            raise ValueError(f"evaluation.sets has {again[0]!r} twice; give each its own name")

    @property
    def at(self) -> tuple[int, ...]:
        """The k that are measured, rising, the last one all samples."""
        if not self.samples:
            return ()
        halves = {2**i for i in range(self.samples.bit_length())}
        return tuple(sorted({*(self.ks or halves), self.samples}))

    def drawn(self, sampling: Sampling) -> Sampling:
        """How samples are drawn where the rollouts are drawn so."""
        length = self.max_tokens or sampling.max_tokens
        temperature = sampling.temperature if self.temperature is None else self.temperature
        return replace(sampling, max_tokens=length, temperature=temperature)

    def check_drawn(self, sampling: Sampling, probes: bool) -> None:
        """Refuse several greedy completions of a problem, which would be the same.

        Args:
            sampling: the rollouts' own.
            probes: whether the run has a PRM.

        Raises:
            ValueError: names the field and a valid value.
        """
        if self.samples > 1 and not self.drawn(sampling).temperature:
            several = f"evaluation.samples {self.samples}"
        elif probes and self.prm_problems and not self.drawn(sampling).temperature:
            several = f"the PRM's probe (evaluation.prm_problems {self.prm_problems})"
        else:
            return
        raise ValueError(
            f"evaluation.temperature is {self.temperature} where rollouts.sampling.temperature is"
            f" {sampling.temperature:g}, so the completions of {several} would all be the same; a"
            " valid value is 1.0"
        )

    def check_best(self, sources: Iterable[str]) -> None:
        """Refuse a metric that no evaluation measures.

        Args:
            sources: of the step models, by whose scores the best of the samples are chosen.

        Raises:
            ValueError: names the nearest that is measured.
        """
        known = ["accuracy"]
        if self.samples:
            names = [ACCURACY, PASS, MAJORITY]
            for source in sources:
                names += [name(source, a) for a in AGGREGATES for name in (best_of, vote_by)]
            known += [f"sampled/{name}" for name in names]
        places = ["eval", *(f"eval/{each.name}" for each in self.sets)]
        metrics = [f"{place}/{name}" for place in places for name in known]
        if self.best and self.best not in metrics:
            near = difflib.get_close_matches(self.best, metrics, 1, 0.0)[0]
            raise ValueError(
                f"evaluation.best is {self.best!r}, which no evaluation of this run measures; the"
                f" nearest is {near!r}"
            )
