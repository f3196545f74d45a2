"""Step beam search: its laws, what it keeps, what it costs, and what it refuses."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlstep.rollouts.drafts import SPENT
from rlstep.rollouts.independent import Independent
from rlstep.rollouts.step_beam import StepBeam
from rlstep.testing.small import small_prompt, small_prompts
from rlstep.types import Group, Rollout, Sampling
from tests.rollouts.decoding_kit import END, TableGenerator, Valued, decode, random_table, texts

SAMPLED = Sampling(max_tokens=12)
PROMPT = small_prompt("p", text="?\n")


def beam(**fields: Any) -> StepBeam:
    return StepBeam(**{"sampling": SAMPLED, "width": 2, "candidates": 2, "budget": 1000, **fields})


def spent(group: Group) -> list[float | None]:
    return [rollout.whole_score(SPENT) for rollout in group.rollouts]


def scored(valued: Valued) -> list[list[str]]:
    return [[r.completion.text for r in batch] for batch in valued.batches]


class Written:
    """A generator whose child i of a prefix writes what stands there."""

    def __init__(self, lines: Mapping[str, list[str]]) -> None:
        self.lines = lines

    def generator(self, **fields: Any) -> TableGenerator:
        lines = self.lines

        class Scripted(TableGenerator):
            def _draw(self, request: Any, child: int) -> Any:
                self.table = lambda text: {_next(lines, text, child): 1.0}
                return super()._draw(request, child)

        return Scripted(lambda text: {}, **fields)


def _next(lines: Mapping[str, list[str]], text: str, child: int) -> str:
    """The next character of the child's line behind the longest prefix that has lines."""
    start = max((p for p in lines if text.startswith(p)), key=len)
    rest = lines[start][child % len(lines[start])][len(text) - len(start) :]
    return rest[:1] or END


LINES = {
    "": ["A\n", "B\n", "C\n", "A\n"],
    "A\n": ["1\n", "2\n"],
    "B\n": ["1\n", "2\n"],
    "A\n2\n": ["#a", "#b"],
    "B\n1\n": ["#c", "#c"],
}
VALUES = {
    "A\n": 0.6, "B\n": 0.7, "C\n": 0.5,
    "A\n1\n": 0.1, "A\n2\n": 0.9, "B\n1\n": 0.8, "B\n2\n": 0.2,
    "A\n2\n#a" + END: 0.3, "A\n2\n#b" + END: 0.65, "B\n1\n#c" + END: 0.62,
}  # fmt: skip


async def search(strategy: StepBeam) -> tuple[Group, Valued, TableGenerator]:
    valued, generator = Valued(lambda text: VALUES[text]), Written(LINES).generator()
    [group] = await decode(strategy, generator, valued, [PROMPT])
    return group, valued, generator


async def test_the_best_prefixes_go_on_worked_by_hand():
    """By the minimum: of A 0.6, B 0.7, C 0.5 stay B and A; of A2 (0.6 of 0.6, 0.9), B1 (0.7) and
    two low ones B1 and A2; then #b 0.6, #c 0.62, #a 0.3: the best is B1#c."""
    group, valued, generator = await search(beam(samples_per_prompt=2))
    assert scored(valued) == [
        ["A\n", "B\n", "C\n"],  # of four samples two were the same
        ["B\n1\n", "B\n2\n", "A\n1\n", "A\n2\n"],
        ["B\n1\n#c", "A\n2\n#a", "A\n2\n#b"],
    ]
    assert texts(group) == ["B\n1\n#c" + END, "A\n2\n#b" + END]
    assert [r.sample_index for r in group.rollouts] == [0, 1]
    # 4 steps of 2 tokens, 4 of 2, 4 of 3 with their end: 28, two rollouts' share.
    assert sum(generator.answered) == 28 and spent(group) == [14, 14]
    assert all(r.outcome is not None for r in group.rollouts)


async def test_by_the_last_step_worked_by_hand():
    """A2 (0.9) comes before B1 (0.8), and #b (0.65) before #c (0.62)."""
    group, valued, _ = await search(beam(rank="last"))
    assert scored(valued)[2] == ["A\n2\n#a", "A\n2\n#b", "B\n1\n#c"]
    assert texts(group) == ["A\n2\n#b" + END]


async def test_a_width_of_one_is_best_of_steps():
    """Of A and B, two samples, B; then B1 and its one end."""
    group, valued, _ = await search(beam(width=1))
    assert scored(valued) == [["A\n", "B\n"], ["B\n1\n", "B\n2\n"], ["B\n1\n#c"]]
    assert texts(group) == ["B\n1\n#c" + END] and spent(group) == [4 + 4 + 6]


async def test_a_finished_completion_stands_in_the_beam_by_its_value():
    """#x ends at 0.6 at once, A goes on at 0.9: by the minimum to 0.5, so #x is the answer as soon
    as nothing can get before it; by the last step to 0.7, which is more."""
    lines = {"": ["#x", "A\n"], "A\n": ["b\n"], "A\nb\n": ["#y"]}
    values = {"#x" + END: 0.6, "A\n": 0.9, "A\nb\n": 0.5, "A\nb\n#y" + END: 0.7}
    valued = Valued(lambda text: values[text])
    [group] = await decode(beam(), Written(lines).generator(), valued, [PROMPT])
    assert texts(group) == ["#x" + END]
    assert scored(valued) == [["#x", "A\n"], ["A\nb\n"]]
    strategy = beam(rank="last")
    [group] = await decode(strategy, Written(lines).generator(), valued, [PROMPT])
    assert texts(group) == ["A\nb\n#y" + END]


async def test_what_is_sampled_behind_a_step_is_thrown_away_and_counts():
    """Without a string to stop at, candidates are of up to 5 tokens, and the splitter cuts them."""
    strategy = beam(width=1, candidates=1, step_ends=(), step_tokens=5)
    generator = Written({"": ["ab\ncd\n#e"]}).generator()
    valued = Valued(lambda text: 1.0)
    [group] = await decode(strategy, generator, valued, [PROMPT])
    assert texts(group) == ["ab\ncd\n#e" + END]
    assert scored(valued) == [["ab\n"], ["ab\ncd\n"], ["ab\ncd\n#e"]]
    assert generator.answered == [5, 5, 3] and spent(group) == [13]


@settings(max_examples=50)
@given(
    seed=st.integers(0, 10**6),
    step_tokens=st.integers(1, 13),
    ends=st.sampled_from([(), ("\n",), ("b", "\n")]),
    stop=st.sampled_from([(), ("ba",), ("a\nb", "bb")]),
    temperature=st.sampled_from([0.0, 1.0]),
)
def test_one_candidate_is_plain_sampling(
    seed: int, step_tokens: int, ends: tuple[str, ...], stop: tuple[str, ...], temperature: float
):
    table, sampling = random_table(seed), replace(SAMPLED, stop=stop, temperature=temperature)
    strategy = beam(
        sampling=sampling, width=1, candidates=1, step_ends=ends, step_tokens=step_tokens
    )
    plain = Independent(samples_per_prompt=1, sampling=sampling)
    one, other = (
        asyncio.run(decode(each, TableGenerator(table), Valued(lambda text: 0.5), [PROMPT]))[0]
        for each in (strategy, plain)
    )
    one, other = one.rollouts[0].completion, other.rollouts[0].completion
    assert one.token_ids.tolist() == other.token_ids.tolist()
    assert one.logprobs.tolist() == other.logprobs.tolist()
    assert (one.finish_reason, one.stop_reason) == (other.finish_reason, other.stop_reason)


@settings(max_examples=50)
@given(
    seed=st.integers(0, 10**6),
    width=st.integers(1, 3),
    candidates=st.integers(1, 3),
    rank=st.sampled_from(["minimum", "last"]),
    step_tokens=st.integers(1, 8),
    more=st.integers(0, 120),
    data=st.data(),
)
def test_never_more_than_the_budget_and_always_to_the_end(
    seed: int, width: int, candidates: int, rank: Any, step_tokens: int, more: int,
    data: st.DataObject,
):  # fmt: skip
    samples = data.draw(st.integers(1, width))
    budget = samples * SAMPLED.max_tokens + more
    strategy = beam(
        width=width, candidates=candidates, rank=rank, step_tokens=step_tokens, budget=budget,
        samples_per_prompt=samples,
    )  # fmt: skip
    generator = TableGenerator(random_table(seed))
    valued = Valued(lambda text: hash_to_one(seed, text))
    [group] = asyncio.run(decode(strategy, generator, valued, [PROMPT]))
    assert sum(generator.answered) <= budget
    assert sum(cost or 0.0 for cost in spent(group)) == pytest.approx(sum(generator.answered))
    assert 1 <= len(group.rollouts) <= samples
    for rollout in group.rollouts:
        completion = rollout.completion
        assert completion.finish_reason == "stop" or completion.length == SAMPLED.max_tokens
    values = [lowest(r, seed) if rank == "minimum" else last(r, seed) for r in group.rollouts]
    assert values == sorted(values, reverse=True)


def hash_to_one(seed: int, text: str) -> float:
    return float(np.random.default_rng([seed, len(text), *text.encode()]).random())


def lowest(rollout: Rollout, seed: int) -> float:
    return min(Valued(lambda text: hash_to_one(seed, text))._steps(rollout))


def last(rollout: Rollout, seed: int) -> float:
    return Valued(lambda text: hash_to_one(seed, text))._steps(rollout)[-1]


async def test_the_smallest_budget_is_plain_sampling_of_the_group():
    strategy = beam(budget=24, samples_per_prompt=2, candidates=3)
    generator = TableGenerator(random_table(1))
    await decode(strategy, generator, Valued(lambda text: 0.5), [PROMPT])
    assert [(r.n, r.sampling.max_tokens, r.sampling.stop) for r in generator.asked] == [(2, 12, ())]


async def test_all_prompts_go_in_step():
    calls = {}
    for number in (1, 9):
        valued, generator = Valued(lambda text: VALUES[text]), Written(LINES).generator()
        groups = await decode(beam(), generator, valued, small_prompts(number))
        assert [texts(group) for group in groups] == [["B\n1\n#c" + END]] * number
        assert [len(batch) for batch in valued.batches] == [3 * number, 4 * number, 3 * number]
        calls[number] = generator.calls
    assert calls[1] == calls[9] == 3


async def test_what_fails_is_left_out_and_counted(caplog: pytest.LogCaptureFixture):
    one, two = small_prompts(2)
    generator = Written(LINES).generator(failing=["0/a/step1/0"])
    valued = Valued(lambda text: VALUES.get(text, 0.0), timeouts=["0/b/step1/1"])  # B
    first, second = await decode(beam(), generator, valued, [one, two])
    assert (first.rollouts, [f.reason for f in first.failures]) == ((), ["generator_lost"])
    assert (
        not second.failures and "by reason: {'generator_lost': 1, 'not_finite': 1}" in caplog.text
    )
    assert texts(second) == ["A\n2\n#b" + END]  # A and C went on


def test_bad_values_are_refused():
    for fields, message in (
        ({"width": 0}, r"rollouts\.width is 0; the smallest valid value is 1"),
        ({"candidates": 0}, r"rollouts\.candidates is 0; the smallest valid value is 1"),
        ({"step_tokens": 0}, r"rollouts\.step_tokens is 0; the smallest valid value is 1"),
        ({"samples_per_prompt": 3}, r"samples_per_prompt is 3; the largest valid value is 2"),
        ({"samples_per_prompt": 2, "budget": 23}, r"budget is 23; the smallest valid value is 24"),
        ({"sampling": Sampling(temperature=0.0)}, r"temperature is 0 \(greedy\), where all of 2"),
        ({"source": ""}, r"rollouts\.source is ''"),
        ({"sampling": Sampling(top_p=0.9)}, r"sampling\.top_p is 0\.9.*valid value is 1\.0"),
    ):
        with pytest.raises(ValueError, match=message):
            beam(**fields)
