"""A backlog in a checkpoint: everything comes back, and nothing else is read."""

from __future__ import annotations

import json
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlstep.running.backlog import Backlog
from rlstep.running.saved_backlog import ARRAYS, RECORDS, read_backlog, write_backlog
from rlstep.testing.small import small_prompt, small_prompts
from rlstep.types import (
    Failure,
    Group,
    Likeliest,
    OutcomeScore,
    Prompt,
    Rollout,
    RolloutScore,
    StepScores,
    TokenScores,
    Verdict,
    Votes,
)
from tests.builders import make_rollout

PROMPTS = small_prompts(4)


def scored(prompt: Prompt) -> Rollout:
    """A rollout with everything that there is."""
    rollout = make_rollout("0/a/0", [[1, 2], [3]], versions=[(4, 0, 1), (5, 1, 3)], prompt=prompt)
    numbers = np.array([0.25, np.nan], dtype=np.float32)
    counts = np.array([3, 0], dtype=np.int32)
    votes = Votes(correct=1, wrong=2, tied=3, unparsable=4, failed=5)
    likeliest = Likeliest(
        token_ids=np.arange(6, dtype=np.int32).reshape(3, 2),
        logprobs=np.full((3, 2), -0.1, dtype=np.float32),
    )
    return replace(
        rollout,
        completion=replace(rollout.completion, likeliest=likeliest, cached=3, stop_reason="\udcff"),
        seed=2**70,
        parent="0/a/1",
        scores={
            "outcome": OutcomeScore(
                value=0.1 + 0.2, verdict=Verdict.UNPARSABLE, extracted="", votes=votes, grade=0.5
            ),
            "length": RolloutScore(value=-1.0, detail="long"),
            "prm": StepScores(values=numbers, version=3, n=counts, visits=counts.reshape(2, 1, 1)),
            "critic": TokenScores(values=numbers[:0], version=1),
            "judge": Failure(reason="timeout", detail="30 s"),
        },
    )


def full() -> Backlog:
    other = replace(small_prompt("x"), meta={"row": [1, {"deep": (2, None)}], "level": np.int64(3)})
    backlog = Backlog(frontier=5, done=2, former_frontier=3, former_lag=2)
    backlog.choices[4] = {"level": 0.1}
    its = backlog.admit(3, PROMPTS, 2)
    its.held["b"] = Group(prompt=PROMPTS[1], rollouts=(), failures=(Failure(reason="stale"),))
    backlog.finish(3, Group(prompt=PROMPTS[0], rollouts=(scored(PROMPTS[0]),)))
    backlog.replaced.append(Group(prompt=other, rollouts=(scored(other),)))
    return backlog


def told(value: Any) -> Any:
    """A value with its types, for comparison."""
    if isinstance(value, np.ndarray):
        return (value.dtype.str, value.shape, value.tobytes())
    if is_dataclass(value):
        return (type(value), [(f.name, told(getattr(value, f.name))) for f in fields(value)])
    if isinstance(value, list | tuple):
        return (type(value), [told(each) for each in value])
    if isinstance(value, dict):
        return [(told(key), told(each)) for key, each in value.items()]
    return (type(value), value)


def test_everything_comes_back(tmp_path: Path) -> None:
    backlog = full()
    write_backlog(tmp_path, backlog, PROMPTS)
    found = read_backlog(tmp_path, PROMPTS)
    assert found is not None and told(found) == told(backlog)
    # Prompts of the task are the task's own, and are not written.
    assert found.finished[0][1].prompt is PROMPTS[0]
    assert found.finished[0][1].rollouts[0].prompt is PROMPTS[0]
    text = (tmp_path / RECORDS).read_text()
    assert PROMPTS[0].text not in json.loads(text) and '"a=' not in text


def test_an_empty_one_comes_back_and_none_is_none(tmp_path: Path) -> None:
    assert read_backlog(tmp_path, PROMPTS) is None
    write_backlog(tmp_path, Backlog(), PROMPTS)
    assert told(read_backlog(tmp_path, PROMPTS)) == told(Backlog())


def test_what_cannot_be_written_is_named(tmp_path: Path) -> None:
    odd = replace(small_prompt("x"), meta={"where": Path("/")})
    backlog = Backlog(replaced=[Group(prompt=odd, rollouts=())])
    with pytest.raises(ValueError, match="a PosixPath cannot be kept in a checkpoint"):
        write_backlog(tmp_path, backlog, PROMPTS)


def test_a_prompt_that_the_task_does_not_have_is_named(tmp_path: Path) -> None:
    write_backlog(tmp_path, full(), PROMPTS)
    with pytest.raises(ValueError, match=r"backlog\.json cannot be read: KeyError\('a'\)"):
        read_backlog(tmp_path, PROMPTS[1:])


POISON = [
    "",
    "{",
    "3",
    "[]",
    '{"Path": {"value": "/"}}',
    '{"os.system": {"command": "true"}}',
    '{"__import__": "os"}',
    '{"Verdict": "perfect"}',
    '{"Step": {"start": 0, "end": 1}}',
    '{"Backlog": {"frontier": 1, "further": 2}}',
    '{"array": ["float32", 0, [9]]}',
    '{"array": ["object", 0, [1]]}',
    '{"tuple": 3}',
    '{"a": 1, "b": 2}',
    "[" * 100_000,
]


@pytest.mark.parametrize("records", POISON, ids=lambda text: text[:20])
def test_what_is_none_of_ours_is_refused(records: str, tmp_path: Path) -> None:
    write_backlog(tmp_path, full(), PROMPTS)
    (tmp_path / RECORDS).write_text(records)
    with pytest.raises(ValueError, match=r"backlog\.json (cannot be read|holds)"):
        read_backlog(tmp_path, PROMPTS)


def test_random_damage_is_refused_or_harmless(tmp_path: Path) -> None:
    """Beside the manifest's hashes, which find all of it."""
    write_backlog(tmp_path, full(), PROMPTS)
    rng, refused = np.random.default_rng(0), 0
    for _ in range(200):
        victim = tmp_path / (RECORDS, ARRAYS)[rng.integers(2)]
        before = victim.read_bytes()
        after = bytearray(before)
        after[rng.integers(len(after))] = int(rng.integers(256))
        victim.write_bytes(
            after[: rng.integers(1, len(after) + 1)] if rng.random() < 0.3 else after
        )
        try:
            read_backlog(tmp_path, PROMPTS)
        except ValueError as error:
            assert "backlog.json" in str(error)
            refused += 1
        victim.write_bytes(before)
    assert refused > 60
