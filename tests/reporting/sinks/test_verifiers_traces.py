"""Traces of ours for verifiers; tests/run/test_verifiers.py has that package read them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlstep.advantages.group import GroupAdvantages
from rlstep.advantages.step_sum import StepSum
from rlstep.interfaces import RunStart
from rlstep.pairs.outcome import OutcomePairs
from rlstep.reporting.run_directory import RunDirectory
from rlstep.reporting.sinks.verifiers_traces import VerifiersTraces
from rlstep.types import AdvantageSamples, Failure, Group, RolloutScore
from tests.builders import make_group, make_rollout
from tests.reporting.sinks import sink_kit


def traces(folder: Path, groups: list[Group], sink: VerifiersTraces, iteration: int = 3) -> Any:
    """Of an iteration, by their id."""
    directory = RunDirectory.create(folder, "demo")
    opened = sink.open(RunStart(name="demo", folder=directory.path, config={}, iterations=9))
    opened.iteration({"iteration": iteration}, groups)
    opened.iteration({"iteration": iteration, "eval/accuracy": 0.5}, [])  # has none of its own
    opened.close({"failed": False})
    file = directory.path / "traces" / f"{iteration:06d}" / "traces.jsonl"
    episodes = [json.loads(line) for line in file.read_text().splitlines()]
    assert [len(episode["traces"]) for episode in episodes] == [1] * len(episodes)
    return {episode["traces"][0]["id"]: episode["traces"][0] for episode in episodes}


def conversation(name: str, rewards: list[float]) -> Any:
    """Two turns of two tokens; what was observed after each is one token long."""
    scores: dict[str, Any] = {
        "environment": rewards,
        "given": RolloutScore(value=0.25),
        "broken": Failure(reason="timeout", detail="no answer"),
    }
    seen = {0: [8], 1: [9]}
    outcome = float(sum(rewards))
    return make_rollout(name, [[1, 2], [3, 4]], observed=seen, outcome=outcome, scores=scores)


def test_every_sampled_token_has_its_own_credit(tmp_path: Path):
    group = make_group(conversation("a", [1.0, 0.0]), conversation("b", [0.0, 0.0]))
    builder = StepSum(source="environment", outcome_coefficient=0.0)
    found = traces(tmp_path, [group], VerifiersTraces(samples=builder))
    samples = builder.samples([group])
    assert isinstance(samples, AdvantageSamples) and len(samples.sequences) == 2
    for sequence, advantages in zip(samples.sequences, samples.advantages, strict=True):
        nodes = found[sequence.sequence_id]["nodes"]
        assert [each for node in nodes for each in node["token_ids"]] == sequence.token_ids.tolist()
        assert [node["parent"] for node in nodes] == [None, 0, 1, 2, 3]
        assert [node["message"]["role"] for node in nodes] == ["user", *["assistant", "user"] * 2]
        assert [each for node in nodes for each in node["mask"]] == sequence.loss_mask.tolist()
        trained = [node for node in nodes if node.get("sampled")]
        credit = np.array([each for node in trained for each in node["advantages"]])
        np.testing.assert_array_equal(credit, advantages[sequence.loss_mask])
        logprobs = np.array([each for node in trained for each in node["logprobs"]], np.float32)
        np.testing.assert_array_equal(logprobs, sequence.rollout_logprobs[sequence.loss_mask])
    # The first turn of `a` was paid, and nothing after it: its credit is that turn's alone.
    first, second = (node["advantages"] for node in found["a"]["nodes"] if node.get("sampled"))
    assert first[0] > 0.0 and second == [0.0, 0.0]


def test_what_was_said_and_how_it_was_scored(tmp_path: Path):
    rollout = conversation("a", [1.0, 0.0])
    [trace] = traces(
        tmp_path, [make_group(rollout)], VerifiersTraces(samples=GroupAdvantages())
    ).values()
    said = [node["message"]["content"] for node in trace["nodes"]]
    assert said[0] == rollout.prompt.text and "".join(said[1:]) == rollout.completion.text
    assert trace["rewards"] == {"outcome": {"score": 1.0}} and trace["metrics"] == {"given": 0.25}
    assert trace["errors"] == [{"type": "timeout", "message": "broken: no answer"}]
    assert (trace["ok"], trace["stop_condition"]) == (True, rollout.completion.finish_reason)


def test_a_group_that_is_left_out_was_never_scored(tmp_path: Path):
    alike = make_group(*(make_rollout(name, [[1]], outcome=1.0) for name in "ab"))
    other = make_group(*(make_rollout(n, [[1]], outcome=v) for n, v in (("c", 1.0), ("d", 0.0))))
    builders = GroupAdvantages(), GroupAdvantages(without_signal="left_out")
    for builder, credit in zip(builders, ([0.0], None), strict=True):
        sink = VerifiersTraces(samples=builder)
        found = traces(tmp_path / builder.without_signal, [alike, other], sink)
        assert [found[name]["nodes"][1]["advantages"] for name in "ab"] == [credit] * 2
        assert found["c"]["nodes"][1]["advantages"][0] > 0.0


def test_an_iteration_that_is_done_again_is_written_again(tmp_path: Path):
    directory = RunDirectory.create(tmp_path, "demo")
    sink = VerifiersTraces(samples=GroupAdvantages())
    for iterations, resumed in ((range(1, 4), None), (range(2, 4), 1)):
        sink_kit.report(directory, iterations, sink, resumed)
    files = sorted((directory.path / "traces").glob("*/traces.jsonl"))
    assert [file.parent.name for file in files] == ["000001", "000002", "000003"]
    assert all(len(file.read_text().splitlines()) == 1 for file in files)


def test_what_was_observed_before_the_first_turn_and_nothing_at_all(tmp_path: Path):
    forced = make_rollout("a", [[3]], outcome=1.0, observed={-1: [7, 7]})
    empty = make_rollout("b", [], outcome=0.0)
    found = traces(
        tmp_path, [make_group(forced, empty)], VerifiersTraces(samples=GroupAdvantages())
    )
    assert [node["token_ids"] for node in found["a"]["nodes"][1:]] == [[7, 7], [3]]
    assert len(found["b"]["nodes"]) == 1


def test_pairs_are_no_credit():
    with pytest.raises(ValueError, match=r"verifiers_traces\.samples is OutcomePairs, .*PairSamp"):
        VerifiersTraces(samples=OutcomePairs())
