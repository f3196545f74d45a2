"""What a plug-in that raises does to a run: counted and named, or its end by name."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from contextlib import aclosing, nullcontext
from dataclasses import dataclass, replace
from typing import Any, cast

import pytest

from rlstep.cli import run_recipe
from rlstep.interfaces import Judge, Labeller, RolloutContext, StepSplitter, Task, Verifier
from rlstep.pairs.outcome import OutcomePairs
from rlstep.plugins import (
    PlugInError,
    ask_labellers,
    check_failed_scores,
    crashed,
    described,
    failed_scores,
    naming_plugins,
    naming_refusals,
    of_a_role,
)
from rlstep.rollouts.independent import Independent
from rlstep.running.loop import _idle, train
from rlstep.running.selection import Selection
from rlstep.scoring.judges.routing import RoutedScorer
from rlstep.scoring.programs.code_tests import CodeTests
from rlstep.testing.roles import FakeGenerator, FakeRoles, FakeScorer
from rlstep.testing.small import small_config, small_prompts
from rlstep.types import Failure, OutcomeScore, Rollout, RolloutScore
from tests.builders import make_group, make_rollout

CONTEXT: Any = None


def helper(row: dict[str, str]) -> str:
    return row["unit"]  # the line that raises


@dataclass(frozen=True, kw_only=True)
class Raises(Verifier):
    how: str = "own"

    def verify(self, text: str, answer: str) -> OutcomeScore:
        if self.how == "own":
            raise LookupError("first line\nsecond line")
        if self.how == "helper":
            helper({})
        if self.how == "library":
            replace(3)  # type: ignore[type-var]
        raise ValueError


@pytest.mark.parametrize(
    ("how", "starts", "ends"),
    [
        ("own", "LookupError: first line (", "in verify)"),
        ("helper", "KeyError: 'unit' (", "in helper)"),  # of the plug-in's own file, the innermost
        ("library", "TypeError: replace() should be", "in verify)"),
        ("", "ValueError (", "in verify)"),
    ],
)
def test_an_error_is_described_by_the_plug_ins_own_line(how: str, starts: str, ends: str):
    plugin = Raises(how=how)
    with pytest.raises(Exception) as raised:
        plugin.verify("", "")
    said = described(raised.value, plugin)
    assert said.startswith(starts) and said.endswith(ends)
    assert __file__ in said and ", line " in said and "\n" not in said


def test_a_method_of_other_arguments_is_placed_at_its_class():
    plugin: Any = Raises()
    with pytest.raises(TypeError) as raised:
        plugin.verify("only one")
    line = Raises.__dict__["verify"].__code__.co_firstlineno - 4  # the decorator's line
    assert f"({__file__}, line {line})" in described(raised.value, plugin)
    assert crashed(raised.value, plugin).reason == "crashed"


# --- labellers -----------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Odd(Labeller):
    source: str = "odd"
    how: str = "raise"

    async def label(self, rollouts: Sequence[Rollout], context: RolloutContext) -> list[Rollout]:
        scored = [r.with_scores(odd=RolloutScore(value=1.0)) for r in rollouts]
        answers: dict[str, Any] = {
            "right": scored,
            "tuple": tuple(scored),
            "fewer": scored[1:],
            "turned": scored[::-1],
            "none": [None for _ in scored],
            "unscored": list(rollouts),
            "number": [r.with_scores(odd=1.0) for r in rollouts],  # type: ignore[arg-type]
            "nothing": None,
        }
        return answers[self.how]


@pytest.mark.parametrize(
    ("how", "detail"),
    [
        ("raise", "KeyError: 'raise'"),
        ("nothing", "TypeError: 'NoneType' object is not iterable"),
        ("fewer", "given 2 rollouts, and did not return the same"),
        ("turned", "did not return the same in order"),
        ("none", "did not return the same"),
        ("unscored", "left rollouts without a score 'odd'"),
        ("number", "left rollouts without a score 'odd'"),
    ],
)
async def test_a_labeller_that_fails_leaves_failures_that_name_it(how: str, detail: str):
    rollouts = [make_rollout(f"r{i}", [[1], [2]]) for i in range(2)]
    labelled = await ask_labellers([Odd(how=how)], rollouts, CONTEXT)
    assert [r.rollout_id for r in labelled] == [r.rollout_id for r in rollouts]
    for rollout in labelled:
        failure = rollout.scores["odd"]
        assert isinstance(failure, Failure) and failure.reason == "crashed"
        assert detail in failure.detail and failure.detail.startswith("Odd: ")
        assert __file__ in failure.detail


@pytest.mark.parametrize("how", ["right", "tuple"])
async def test_a_labeller_that_works_is_left_alone(how: str):
    rollouts = [make_rollout(f"r{i}", [[1], [2]]) for i in range(2)]
    labelled = await ask_labellers([Odd(how=how)], rollouts, CONTEXT)
    assert [r.scores["odd"] for r in labelled] == [RolloutScore(value=1.0)] * 2


# --- how many may fail ---------------------------------------------------------------------------


def batch(failed: int, of: int = 4) -> Any:
    bad = Failure(reason="crashed", detail="Raises: KeyError: 'unit' (mine.py, line 3, in verify)")
    good = RolloutScore(value=1.0)
    scores = [{"form": bad if i < failed else good, "fine": good} for i in range(of)]
    rollouts = [make_rollout(f"r{i}", [[1]], outcome=1.0, scores=s) for i, s in enumerate(scores)]
    return [make_group(*rollouts)]


@pytest.mark.parametrize(
    ("failed", "allowed", "ends"),
    [(0, 0.0, False), (1, 0.0, True), (1, 0.25, False), (2, 0.5, False), (3, 0.5, True),
     (4, 0.5, True), (4, 0.99, True), (4, 1.0, False)],
)  # fmt: skip
def test_a_run_ends_above_the_allowed_share_of_one_source(failed: int, allowed: float, ends: bool):
    groups = batch(failed)
    if not ends:
        return check_failed_scores(groups, allowed)
    with pytest.raises(PlugInError, match=f"form failed for {failed} of 4.*mine.py, line 3") as e:
        check_failed_scores(groups, allowed)
    assert "max_failed_scores" in str(e.value) and "fine" not in str(e.value)


def test_so_it_does_above_the_allowed_share_of_rollouts():
    bad = Failure(reason="crashed", detail="Game: ValueError: 99 (game.py, line 7, in observe)")
    [made] = batch(0)
    group = replace(made, failures=(bad,) * 4)
    check_failed_scores([group], 0.5)
    (found,) = failed_scores([group])
    assert (found.source, found.failed, found.asked) == ("rollouts", 4, 8)
    match = r"rollouts failed for 5 of 9 \(5 crashed\); first: Game: .*game.py, line 7"
    with pytest.raises(PlugInError, match=match):
        check_failed_scores([replace(made, failures=(bad,) * 5)], 0.5)
    with pytest.raises(PlugInError, match="rollouts failed for 5 of 5"):
        check_failed_scores([replace(made, rollouts=(), failures=(bad,) * 5)], 0.5)


def test_stale_rollouts_were_made():
    [made] = batch(0)
    group = replace(made, rollouts=(), failures=(Failure(reason="stale"),) * 4)
    assert failed_scores([group]) == []
    check_failed_scores([group], 0.0)


def test_nothing_asked_is_nothing_failed():
    assert failed_scores([]) == []
    check_failed_scores([], 0.0)


# --- in the loop ---------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class BadSplitter(StepSplitter):
    def split(self, completion: Any) -> Any:
        raise KeyError("splitter")


@dataclass(frozen=True, kw_only=True)
class BadPairs(OutcomePairs):
    def samples(self, groups: Any) -> Any:
        raise KeyError("builder")


@dataclass(frozen=True, kw_only=True)
class BadStrategy(Independent):
    async def collect(self, prompts: Any, context: Any) -> Any:
        raise KeyError("strategy")
        yield


BAD_STRATEGY = BadStrategy(**vars(small_config().rollouts))


def right_first(prefix: str, child: int, seed: int) -> str:
    return "2+3=5\n#5" if child == 0 else "2+3=9\n#9"


class _Everything:
    def __contains__(self, _: object) -> bool:
        return True


async def looped(scorer: FakeScorer | None = None, **fields: Any) -> list[int]:
    config = small_config(**fields)
    roles = FakeRoles(config, FakeGenerator(right_first), scorer or FakeScorer())
    done = []
    with naming_plugins():
        prompts = small_prompts(6)
        async with aclosing(
            train(config, roles, Selection(config, prompts), lambda *_: None, 0)
        ) as iterations:
            async for iteration in iterations:
                done.append(iteration)
    return done


@pytest.mark.parametrize(
    ("fields", "name", "error"),
    [
        ({"splitter": BadSplitter()}, "BadSplitter", "KeyError: 'splitter'"),
        ({"samples": BadPairs()}, "BadPairs", "KeyError: 'builder'"),
        (
            {"rollouts": BadStrategy(**vars(small_config().rollouts))},
            "BadStrategy",
            "KeyError: 'strategy'",
        ),
    ],
)
async def test_what_cannot_be_replaced_ends_the_run_by_name(
    fields: dict[str, Any], name: str, error: str
):
    with pytest.raises(PlugInError) as raised:
        await looped(**fields)
    said = str(raised.value)
    assert said.startswith(f"{name} ended the run: {error}") and f"{__file__}, line" in said
    assert isinstance(raised.value.__cause__, KeyError)


async def test_a_labeller_that_raises_on_everything_ends_the_run_by_name():
    with pytest.raises(PlugInError, match=r"odd failed for 4 of 4 \(4 crashed\); first: Odd: Key"):
        await looped(labellers=(Odd(how="raise"),))


async def test_a_verifier_that_fails_on_everything_ends_the_run_by_name():
    everything: Any = _Everything()
    with pytest.raises(PlugInError, match=r"outcome failed for 4 of 4 \(4 timeout\)"):
        await looped(FakeScorer(timeouts=everything))
    assert await looped(FakeScorer(timeouts=everything), max_failed_scores=1.0) == [1, 2, 3]


async def test_all_of_them_may_fail_where_a_run_says_so():
    assert await looped(labellers=(Odd(how="raise"),), max_failed_scores=1.0) == [1, 2, 3]


async def test_an_error_of_our_own_keeps_its_name():
    with pytest.raises(ZeroDivisionError), naming_plugins():
        _ = 1 / 0


@dataclass(frozen=True, kw_only=True)
class BadJudge(Judge):
    model: Any = None

    def takes(self, prompt: Any) -> bool:
        return True

    async def judge(self, rollouts: Any, ask: Any) -> Any:
        raise KeyError("judge")


async def test_a_judge_that_raises_leaves_failures():
    scorer = RoutedScorer(FakeScorer(), [(BadJudge(), CONTEXT)])
    (scored,) = await scorer.verify([make_rollout("r", [[1]])])
    failure = scored.scores["outcome"]
    assert isinstance(failure, Failure) and failure.detail.startswith("BadJudge: KeyError: 'judge'")


def test_every_third_iteration_without_an_update_warns(caplog: pytest.LogCaptureFixture):
    idle = 0
    with caplog.at_level(logging.WARNING):
        for updates in (0, 0, 1, 0, 0, 0, 0, 0, 0, 2, 0):
            metrics = {"train/updates": updates, "rollout/without_signal": 1.0}
            idle = _idle(idle, {**metrics, "rollout/failures": 5})
    assert [r.message.partition(":")[0] for r in caplog.records] == [
        "no update for 3 iterations",
        "no update for 6 iterations",
    ]
    assert "100 % of the last" in caplog.text and "5 scores" in caplog.text


# --- a role's error, and a plug-in's -------------------------------------------------------------


def compiled(module: str, source: str) -> Any:
    """A function `f` whose code runs as that module's."""
    names: dict[str, Any] = {"__name__": module}
    exec(source, names)
    return names["f"]


ROLE = compiled("rlstep.actors.generator.fake", "def f(): raise TimeoutError('generator 0')")
OTHER = compiled("rlstep.rollouts.fake", "def f(): raise TimeoutError('mine')")


@dataclass(frozen=True, kw_only=True)
class Asks(Labeller):
    """Asks what may raise, and may fail over the answer itself."""

    source: str = "asks"
    what: Any = None

    async def label(self, rollouts: Any, context: Any) -> Any:
        self.what()


@dataclass(frozen=True, kw_only=True)
class AsksAsks(Asks):
    def ask(self) -> None:
        Raises(how="own").verify("", "")


@pytest.mark.parametrize(
    ("ask", "of_role"),
    [
        (ROLE, True),  # the plug-in asked a role, which failed
        (OTHER, False),  # code of ours that is no role's
        (lambda: helper({}), False),  # the plug-in's own helper
        (lambda: 1 / 0, False),
        (AsksAsks().ask, False),  # another plug-in below it
        # A role that ran a plug-in of its own: the innermost plug-in is the one that failed.
        (compiled("rlstep.actors.fake", "def f(): g()"), False),
    ],
)
async def test_whose_error_it_is(ask: Any, of_role: bool):
    if "g" in getattr(ask, "__code__", helper.__code__).co_names:
        ask.__globals__["g"] = AsksAsks().ask
    with pytest.raises(Exception) as raised:
        await Asks(what=ask).label([], None)
    assert type(raised.value) is not NameError and of_a_role(raised.value) is of_role


def test_a_role_that_no_plug_in_asked_is_a_role():
    with pytest.raises(TimeoutError) as raised:
        ROLE()
    assert of_a_role(raised.value)
    assert not of_a_role(ValueError("never raised"))  # has no traceback


# --- before a start ------------------------------------------------------------------------------


ERRORS: dict[str, Callable[[], Exception]] = {
    "KeyError": lambda: KeyError("column"),
    "OSError": lambda: OSError("no disk"),
    "TypeError": lambda: TypeError("None"),
    "ValueError": lambda: ValueError("rows is 0"),
    "JSONDecodeError": lambda: json.JSONDecodeError("no value", "x", 0),
}


@dataclass(frozen=True, kw_only=True)
class BadTask(Task):
    error: str = "KeyError"

    def load(self, tokenizer: Any, max_tokens: int) -> Any:
        raise ERRORS[self.error]()


def check_one(plugin: Any) -> None:
    with naming_refusals():
        if isinstance(plugin, Task):
            plugin.load(cast(Any, None), 8)
        elif isinstance(plugin, Verifier):
            plugin.check(1.0)
        else:
            plugin.check(None)


@dataclass(frozen=True, kw_only=True)
class BadCheck(Raises):
    error: str = "KeyError"

    def check(self, deadline_s: float) -> None:
        raise ERRORS[self.error]()


@dataclass(frozen=True, kw_only=True)
class BadRoute(BadJudge):
    error: str = "KeyError"

    def check(self, prompt: Any) -> None:
        raise ERRORS[self.error]()


@pytest.mark.parametrize("kind", [BadTask, BadCheck, BadRoute])
@pytest.mark.parametrize(
    ("error", "raises", "says"),
    [
        ("KeyError", PlugInError, "{} ended the run: KeyError: 'column' ({}, line "),
        ("OSError", PlugInError, "{} ended the run: OSError: no disk ({}, line "),
        ("TypeError", PlugInError, "{} ended the run: TypeError: None ({}, line "),
        ("ValueError", ValueError, "{}: ValueError: rows is 0 ({}, line "),
        (
            "JSONDecodeError",
            ValueError,
            "{}: JSONDecodeError: no value: line 1 column 1 (char 0) ({}, line ",
        ),
    ],
)
def test_what_a_plug_in_raises_before_a_start_is_named(
    kind: Any, error: str, raises: type[Exception], says: str
):
    with pytest.raises(raises) as raised:
        check_one(kind(error=error))
    assert str(raised.value).startswith(says.format(kind.__name__, __file__))
    assert type(raised.value.__cause__).__name__ == error


def test_a_refusal_of_our_own_plug_in_is_left_as_it_is():
    ours, ours_raised = CodeTests(seconds=8.0), []
    for wrapped in (nullcontext(), naming_refusals()):
        with pytest.raises(ValueError) as raised, wrapped:
            ours.check(1.0)
        ours_raised.append(str(raised.value))
    assert ours_raised[0] == ours_raised[1] and "scorer.deadline_s" in ours_raised[0]
    with pytest.raises(ValueError, match=r"^not a plug-in's$"), naming_refusals():
        raise ValueError("not a plug-in's")
    with naming_refusals():
        pass


@pytest.mark.parametrize("error", ["KeyError", "ValueError"])
def test_it_is_one_line_of_the_command(
    error: str, tmp_path: Any, capsys: pytest.CaptureFixture[str]
):
    def recipe() -> Any:
        return small_config(verifier=BadCheck(error=error), run_dir=str(tmp_path / "runs"))

    assert run_recipe(recipe, []) == 2
    said = capsys.readouterr().err
    assert said.startswith("rlstep: BadCheck") and said.count("\n") == 1
    assert f"({__file__}, line " in said and "in check)" in said
    assert not (tmp_path / "runs").exists()
