"""What the builders share that do something about uncertainty before or after another builder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from collections.abc import Sequence as Seq
from dataclasses import dataclass, replace

from rlstep.advantages.process import ProcessAdvantages
from rlstep.checks import named
from rlstep.interfaces import SampleBuilder
from rlstep.types import Group, Rollout, Score, Sequence


@dataclass(frozen=True, kw_only=True)
class Wrapper(SampleBuilder):
    """Makes what another builder makes, with regard to how sure a source of step scores is."""

    of: SampleBuilder = ProcessAdvantages(source="monte_carlo")
    """Whose samples."""
    source: str = "monte_carlo"
    """Whose uncertainty: step scores with log_sigma (Urm, Ensemble, AdvPo) or with counts."""

    def __post_init__(self) -> None:
        named("samples.source", self.source)

    @property
    def makes(self) -> type:
        return self.of.makes

    @property
    def sources(self) -> frozenset[str]:
        return self.of.sources | {self.source}

    @property
    def laws(self) -> frozenset[str]:
        return self.of.laws & {"score_shift_changes_nothing"}


def is_read(wrapper: Wrapper) -> None:
    """Refuse a change of scores that the builder inside would not see.

    Raises:
        ValueError: naming the source and what is read.
    """
    if wrapper.source not in wrapper.of.sources:
        raise ValueError(
            f"samples.source is {wrapper.source!r}, but {type(wrapper.of).__name__} inside reads"
            f" {sorted(wrapper.of.sources)}; one of these is valid"
        )


def rescored(groups: Seq[Group], source: str, score: Callable[[Rollout], Score]) -> list[Group]:
    """The groups with another score of this source in every rollout that has one."""
    return [
        replace(
            group,
            rollouts=tuple(
                r.with_scores(**{source: score(r)}) if source in r.scores else r
                for r in group.rollouts
            ),
        )
        for group in groups
    ]


def only(groups: Seq[Group], keep: Callable[[Rollout], bool]) -> list[Group]:
    """The groups, each with the rollouts that are kept."""
    return [replace(g, rollouts=tuple(r for r in g.rollouts if keep(r))) for g in groups]


def rollout_of(sequence: Sequence, by_id: Mapping[str, Rollout]) -> Rollout:
    """The rollout that a sequence is the whole or a part of (see `sequences.sequence`)."""
    name = sequence.sequence_id
    return by_id[name] if name in by_id else by_id[name.rpartition("[")[0]]
