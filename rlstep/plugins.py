"""What a plug-in's own code does to a run when it raises. One rule for all of them.

What scores (verifiers, judges, labellers, step models and their layouts) leaves a Failure, whose
detail names the error with the plug-in's file and line; it is counted, stands in that iteration's
line, and too many of one source end the run (`check_failed_scores`). So it is with an environment,
whose Failure stands for a whole rollout. Everything else (splitters, rollout strategies, sample
builders, losses, tasks) has nothing to put in the place of its answer, and ends the run with a
`PlugInError` that names the same; before anything starts, what any of them raises is refused by
name (`naming_refusals`). A role's own error stays what it is, also where a plug-in had asked that
role.
"""

from __future__ import annotations

import inspect
import traceback
from abc import ABC
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from rlstep import interfaces
from rlstep.interfaces import Labeller, RolloutContext
from rlstep.types import (
    Failure,
    Group,
    OutcomeScore,
    Rollout,
    RolloutScore,
    StepScores,
    TokenScores,
)

PLUG_POINTS = tuple(
    point
    for point in vars(interfaces).values()
    if inspect.isclass(point) and ABC in point.__bases__
)

_SCORES = StepScores | TokenScores | RolloutScore | OutcomeScore | Failure


class PlugInError(RuntimeError):
    """A plug-in raised where a run cannot go on without its answer; names it, its file and line."""


def described(error: BaseException, plugin: object | None) -> str:
    """ "KeyError: 'unit' (mine.py, line 31, in verify)": the innermost line of the plug-in's file.

    Where none of its lines had run yet (a method that takes other arguments), the line of its
    class; without a plug-in the line that raised.
    """
    text = str(error).strip().partition("\n")[0][:300]
    return f"{type(error).__name__}{f': {text}' if text else ''} ({_place(error, plugin)})"


def crashed(error: BaseException, plugin: object) -> Failure:
    """What stands in the place of a score that a plug-in raised over."""
    return Failure(reason="crashed", detail=f"{type(plugin).__name__}: {described(error, plugin)}")


def of_a_role(error: BaseException) -> bool:
    """Whether a role failed, and the plug-in only asked it: its traceback ends behind `actors`."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    own = [i for i, frame in enumerate(frames) if _is_plugin(frame.f_locals.get("self"))]
    below = frames[own[-1] + 1 :] if own else frames
    return any(_module(frame).startswith("rlstep.actors") for frame in below)


@contextmanager
def naming_refusals() -> Iterator[None]:
    """What a plug-in raises before anything starts names it, its file and line.

    A ValueError stays one, for by it a plug-in refuses what it was given. rlstep's own say what is
    wrong by themselves and are left as they are.

    Raises:
        ValueError: a plug-in's.
        PlugInError: a plug-in raised something else.
    """
    refusal = None
    with naming_plugins():
        try:
            yield
        except ValueError as error:
            refusal = error
    if refusal is None:
        return
    frames = [frame for frame, _ in traceback.walk_tb(refusal.__traceback__)]
    own = [frame for frame in frames if _is_plugin(frame.f_locals.get("self"))]
    if not own or _module(own[-1]).startswith("rlstep."):
        raise refusal
    plugin = own[-1].f_locals["self"]
    raise ValueError(f"{type(plugin).__name__}: {described(refusal, plugin)}") from refusal


@contextmanager
def naming_plugins() -> Iterator[None]:
    """What a plug-in raises inside ends the run by its name.

    Raises:
        PlugInError: names the plug-in, its file and line; the error is its cause.
    """
    try:
        yield
    except PlugInError as error:
        told = getattr(error, "cause", None)  # Ray's copy of one that a learner raised
        raise PlugInError(str(told)) if told is not None else error from error.__cause__
    except Exception as error:
        owner = owner_of(error)
        if owner is None or of_a_role(error):
            raise
        name = type(owner).__name__
        raise PlugInError(f"{name} ended the run: {described(error, owner)}") from error


def owner_of(error: BaseException) -> object | None:
    """The innermost plug-in whose code was running when this was raised; None for none."""
    frames = (frame for frame, _ in traceback.walk_tb(error.__traceback__))
    owners = [p for frame in frames if _is_plugin(p := frame.f_locals.get("self"))]
    return owners[-1] if owners else None


async def ask_labellers(
    labellers: Sequence[Labeller], rollouts: Sequence[Rollout], context: RolloutContext
) -> list[Rollout]:
    """The rollouts with every labeller's scores; of one that raises, or does not answer with the
    same rollouts and a Score each, a Failure each."""
    for labeller in labellers:
        try:
            labelled = list(await labeller.label(rollouts, context))
        except Exception as error:
            if of_a_role(error):
                raise
            failure = crashed(error, labeller)
            labelled = [r.with_scores(**{labeller.source: failure}) for r in rollouts]
        rollouts = _checked(labeller, rollouts, labelled)
    return list(rollouts)


def _checked(
    labeller: Labeller, asked: Sequence[Rollout], labelled: Sequence[Rollout]
) -> list[Rollout]:
    same = all(isinstance(r, Rollout) for r in labelled)
    if same and [r.rollout_id for r in asked] == [r.rollout_id for r in labelled]:
        if all(isinstance(r.scores.get(labeller.source), _SCORES) for r in labelled):
            return list(labelled)
        problem = f"label left rollouts without a score {labeller.source!r}"
    else:
        problem = f"label was given {len(asked)} rollouts, and did not return the same in order"
    detail = f"{type(labeller).__name__}: {problem} ({_defined(labeller)})"
    failure = Failure(reason="crashed", detail=detail)
    return [r.with_scores(**{labeller.source: failure}) for r in asked]


@dataclass(frozen=True, kw_only=True, slots=True)
class FailedScores:
    """The scores of one source in a batch, where some failed; or its rollouts themselves."""

    source: str
    """'rollouts' where there is nothing to score."""
    failed: int
    asked: int
    reasons: Counter[str]
    first: str
    """Detail of the first failure."""

    def __str__(self) -> str:
        reasons = ", ".join(f"{number} {reason}" for reason, number in sorted(self.reasons.items()))
        first = f"; first: {self.first}" if self.first else ""
        return f"{self.source} failed for {self.failed} of {self.asked} ({reasons}){first}"


def failed_scores(groups: Iterable[Group]) -> list[FailedScores]:
    """The sources of which at least one score failed, by name, and so the rollouts. Those that were
    dropped as stale are not among them: they were made."""
    groups = list(groups)
    asked: Counter[str] = Counter(rollouts=sum(len(group.rollouts) for group in groups))
    failures: dict[str, list[Failure]] = {}
    for failure in (f for group in groups for f in group.failures if f.reason != "stale"):
        asked["rollouts"] += 1
        failures.setdefault("rollouts", []).append(failure)
    for rollout in (r for group in groups for r in group.rollouts):
        for source, score in rollout.scores.items():
            asked[source] += 1
            if isinstance(score, Failure):
                failures.setdefault(source, []).append(score)
    return [
        FailedScores(
            source=source,
            failed=len(found),
            asked=asked[source],
            reasons=Counter(failure.reason for failure in found),
            first=next((failure.detail for failure in found if failure.detail), ""),
        )
        for source, found in sorted(failures.items())
    ]


def check_failed_scores(groups: Sequence[Group], allowed: float) -> None:
    """End a run of which a source scores next to nothing, or which has next to no rollouts.

    Args:
        allowed: the largest share of a source's scores, and of the rollouts, in a batch that may
            fail.

    Raises:
        PlugInError: names every such source with the first failure's plug-in, file and line.
    """
    failed = [each for each in failed_scores(groups) if each.failed > allowed * each.asked]
    if failed:
        raise PlugInError(
            f"{'; '.join(map(str, failed))}; that is more than the share of {allowed:g} that"
            " max_failed_scores allows"
        )


def _place(error: BaseException, plugin: object | None) -> str:
    frames = list(traceback.walk_tb(error.__traceback__))
    own = [frame for frame, _ in frames if frame.f_locals.get("self") is plugin]
    if plugin is not None and not own:
        return _defined(plugin)
    file = own[-1].f_code.co_filename if plugin is not None else None
    inside = [each for each in frames if file in (None, each[0].f_code.co_filename)]
    if not inside:
        return "before its first line"
    frame, line = inside[-1]
    return f"{frame.f_code.co_filename}, line {line}, in {frame.f_code.co_name}"


def _defined(plugin: object) -> str:
    kind = type(plugin)
    try:
        return f"{inspect.getfile(kind)}, line {inspect.getsourcelines(kind)[1]}"
    except (OSError, TypeError):
        return f"{kind.__module__}.{kind.__qualname__}"


def _is_plugin(value: object) -> bool:
    return isinstance(value, PLUG_POINTS)


def _module(frame: object) -> str:
    return getattr(frame, "f_globals", {}).get("__name__", "")
