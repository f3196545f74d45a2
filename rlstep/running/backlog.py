"""What a run has admitted and not trained on yet. At a lag that is more than nothing between two
iterations, and a run that goes on needs it: every prompt is trained on once, however often the run
is killed, and the slow ones, too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from rlstep.types import Group, Prompt


@dataclass(kw_only=True)
class Admitted:
    """An iteration whose prompts are sampled from, until it has been trained on."""

    prompts: Sequence[Prompt]
    """As the curriculum chose them, the further ones last."""
    size: int
    """How many groups it comes to."""
    finished: set[str] = field(default_factory=set)
    """prompt_ids of the groups that came, trained on or not."""
    trained: int = 0
    """How many of these were trained on."""
    held: dict[str, Group] = field(default_factory=dict)
    """Of dynamic sampling, by prompt_id: groups without signal of which it is not known yet whether
    others replace them."""

    @property
    def missing(self) -> int:
        """How many groups are still to come."""
        return self.size - len(self.finished)


@dataclass(kw_only=True)
class Backlog:
    """The frontier of prompts, and all that lies behind it and is not trained on.

    An iteration is named by its number from 0; batches are trained on in the order in which groups
    finish, so a batch may hold groups of several iterations.
    """

    frontier: int = 0
    """The next iteration to be admitted."""
    done: int = 0
    """Batches that were trained on."""
    admitted: dict[int, Admitted] = field(default_factory=dict)
    finished: list[tuple[int, Group]] = field(default_factory=list)
    """Iteration and group, not trained on, in the order in which they finished. The batch that is
    under way stands first."""
    replaced: list[Group] = field(default_factory=list)
    """Groups without signal that others have replaced since the last batch was trained on."""
    choices: dict[int, Mapping[str, float]] = field(default_factory=dict)
    """By iteration: the curriculum's metrics of its choice, not reported yet."""
    former_frontier: int = 0
    """Iterations before it were admitted in an earlier life of the run, ..."""
    former_lag: int = 0
    """... with this `max_policy_lag`."""

    def admit(self, iteration: int, prompts: Sequence[Prompt], size: int) -> Admitted:
        found = self.admitted[iteration] = Admitted(prompts=tuple(prompts), size=size)
        return found

    def finish(self, iteration: int, group: Group) -> None:
        """A group is ready to be trained on."""
        self.finished.append((iteration, group))
        if (its := self.admitted.get(iteration)) is not None:
            its.finished.add(group.prompt.prompt_id)
            its.held.pop(group.prompt.prompt_id, None)
            if not its.missing:
                its.held.clear()  # they have been replaced

    def trained(self, groups: int) -> None:
        """The batch under way, of so many groups, has been trained on."""
        batch, self.finished = self.finished[:groups], self.finished[groups:]
        self.done += 1
        for iteration, _ in batch:
            its = self.admitted[iteration]
            its.trained += 1
            if its.trained == its.size:
                del self.admitted[iteration]

    def lag_of(self, group: Group, lag: int) -> int:
        """The bound that a group was sampled under, where an earlier life of the run had another
        than `lag`, which is today's."""
        former = any(rollout.iteration < self.former_frontier for rollout in group.rollouts)
        return max(lag, self.former_lag) if former else lag

    def to_save(self, lag: int) -> Backlog | None:
        """As it is now, for a checkpoint; None where nothing is ahead of the batches that are done.

        At lag 0 a batch that is under way is nothing: a run that goes on samples it again, bit by
        bit.

        Args:
            lag: today's.
        """
        if not self.admitted or (lag == 0 and self.done >= self.former_frontier):
            return None
        still = min(self.admitted) < self.former_frontier
        return Backlog(
            frontier=self.frontier,
            done=self.done,
            admitted={
                i: replace(its, finished=set(its.finished), held=dict(its.held))
                for i, its in self.admitted.items()
            },
            finished=list(self.finished),
            replaced=list(self.replaced),
            choices=dict(self.choices),
            former_frontier=self.frontier,
            former_lag=max(lag, self.former_lag) if still else lag,
        )
