"""Seeds, ids and branches."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlstep.rollouts.requests import branch, branch_rollouts, group_of, prompt_request, request_seed
from rlstep.steps.newline import NewlineSplitter
from rlstep.testing.roles import (
    TOKENIZER,
    FakeGenerator,
    FakeScorer,
    fake_completion,
    fake_context,
)
from rlstep.testing.small import small_prompt
from rlstep.types import Completion, Failure, Rollout, Sampling, Step, VersionSpan
from tests.real_tokenizers import byte_level_with_tags

SAMPLING = Sampling(max_tokens=64)
TEXT = "2+3=5\n5*2=10\n#10"  # steps of 6, 7 and 3 bytes; the end token joins the last


def context(iteration: int = 0, purpose: str = "", seed: int = 0):
    generator = FakeGenerator(lambda prefix, child, seed: "")
    return fake_context(generator, FakeScorer(), iteration=iteration, purpose=purpose, seed=seed)


def rollout(text: str = TEXT, versions: tuple[VersionSpan, ...] = ()) -> Rollout:
    """The group's only rollout for an answer of one completion."""
    completion = fake_completion(text)
    if versions:
        completion = with_versions(completion, versions)
    request = prompt_request(small_prompt("p"), 1, SAMPLING, context())
    return group_of(small_prompt("p"), request, (completion,), context()).rollouts[0]


def with_versions(completion: Completion, versions: tuple[VersionSpan, ...]) -> Completion:
    return replace(completion, versions=versions)


def test_a_continuation_keeps_the_tags_of_its_whole_completion():
    reader = byte_level_with_tags()
    begun = reader.encode("<think>\n1")
    went_on = reader.encode("+1\n[/THINK]<|final|>2<|other|>")
    one, rest = (
        replace(
            fake_completion("x" * len(ids)),  # and an end token
            token_ids=np.array([*ids, reader.eos_token_id], np.int32),
        )
        for ids in (begun, went_on)
    )
    steps = (Step(start=0, end=len(begun)), Step(start=len(begun), end=len(begun) + 1))
    parent = replace(rollout(), completion=one, steps=steps)
    reading = replace(context(), tokenizer=reader)
    [joined] = branch_rollouts(branch(parent, 1, 1, "mc", SAMPLING, reading), [rest], reading)
    assert joined.completion.text == "<think>\n1+1\n[/THINK]<|final|>2"
    assert "".join(map(joined.step_text, range(len(joined.steps)))) == joined.completion.text


# --- seeds and ids -------------------------------------------------------------------------------


def test_seeds_and_ids_differ_by_prompt_iteration_purpose_and_run():
    requests = [
        prompt_request(small_prompt(name), 4, SAMPLING, context(iteration, purpose))
        for name in ("a", "b", "c")
        for iteration in range(4)
        for purpose in ("", "eval")
    ]
    assert len({r.request_id for r in requests}) == 24
    assert len({r.seed for r in requests}) == 24
    other_run = prompt_request(small_prompt("a"), 4, SAMPLING, context(seed=1))
    assert other_run.request_id == requests[0].request_id
    assert other_run.seed not in {r.seed for r in requests}


def test_a_seed_is_a_fixed_function_of_its_name():
    # printf 0/3/p | b2sum -l 48: a resumed run asks for the same samples on any machine.
    assert request_seed(0, "3/p") == 0x33700819B1E8


@given(st.integers(0, 2**31), st.text(max_size=20))
def test_seeds_fit_48_bits(seed: int, name: str):
    assert 0 <= request_seed(seed, name) < 2**48


def test_a_group_keeps_what_replays_it():
    request = prompt_request(small_prompt("p"), 2, SAMPLING, context(iteration=3))
    answer = (fake_completion("1\n#1"), fake_completion("2\n#2"))
    group = group_of(small_prompt("p"), request, answer, context(iteration=3))
    assert [r.rollout_id for r in group.rollouts] == ["3/p/0", "3/p/1"]
    assert [r.sample_index for r in group.rollouts] == [0, 1]
    assert {(r.seed, r.iteration, r.sampling) for r in group.rollouts} == {
        (request.seed, 3, SAMPLING)
    }
    assert all(r.parent is None and r.inherited == 0 for r in group.rollouts)


def test_a_failed_request_is_a_group_of_no_rollouts():
    failure = Failure(reason="generator_lost")
    request = prompt_request(small_prompt("p"), 2, SAMPLING, context())
    group = group_of(small_prompt("p"), request, failure, context())
    assert (group.rollouts, group.failures) == ((), (failure,))


# --- branches ------------------------------------------------------------------------------------


def test_a_branch_asks_for_the_parents_tokens():
    parent = rollout()
    origin = branch(parent, 2, 3, "fix", SAMPLING, context())
    # Prompt '2+3\n' and the first two steps, token by token.
    asked = TOKENIZER.decode(origin.request.prefix_ids.tolist())
    assert asked == "2+3\n2+3=5\n5*2=10\n"
    assert origin.inherited == 13
    assert origin.request.sampling.max_tokens == 64 - 13
    assert origin.request.n == 3
    assert origin.request.request_id == "0/p/0/fix2"
    # To the generator that sampled the parent, which may still have its keys and values.
    asked = prompt_request(small_prompt("p"), 1, SAMPLING, context())
    assert origin.request.affinity == asked.affinity == "p"


def test_branches_of_other_steps_and_purposes_have_their_own_seeds():
    parent = rollout()
    made = [
        branch(parent, steps, 1, purpose, SAMPLING, context()).request
        for steps in (0, 1, 2)
        for purpose in ("mc", "fix")
    ]
    assert len({r.seed for r in made}) == len({r.request_id for r in made}) == 6


@pytest.mark.parametrize(
    ("inherited_steps", "limits"),
    # The prefix is 6 or 13 tokens long; both limits are those of the whole completion.
    [(0, (15, 10)), (1, (9, 4)), (2, (2, 0))],
)
def test_limits_hold_for_the_whole_completion(inherited_steps: int, limits: tuple[int, int]):
    sampling = Sampling(max_tokens=15, min_tokens=10)
    asked = branch(rollout(), inherited_steps, 1, "mc", sampling, context()).request.sampling
    assert (asked.max_tokens, asked.min_tokens) == limits


def test_a_prefix_at_the_limit_is_still_asked_for():
    asked = branch(rollout(), 2, 1, "mc", Sampling(max_tokens=13), context()).request.sampling
    assert asked.max_tokens == 1


def test_branch_rollouts_go_on_where_the_parent_was_cut():
    parent = rollout()
    origin = branch(parent, 1, 2, "fix", SAMPLING, context())
    answer = (fake_completion("5+5=10\n#10", version=7), fake_completion("#5", version=7))
    first, second = branch_rollouts(origin, answer, context())
    assert first.rollout_id == "0/p/0/fix1/0" and second.rollout_id == "0/p/0/fix1/1"
    assert first.parent == parent.rollout_id and first.inherited == 6
    assert first.completion.text == "2+3=5\n5+5=10\n#10"
    assert [first.step_text(i) for i in range(3)] == ["2+3=5\n", "5+5=10\n", "#10"]
    assert [second.step_text(i) for i in range(2)] == ["2+3=5\n", "#5"]
    # Tokens and sampler's logprobs are the parent's, then the continuation's; nothing is encoded.
    tokens, logprobs = first.completion.token_ids, first.completion.logprobs
    assert np.array_equal(tokens[:6], parent.completion.token_ids[:6])
    assert np.array_equal(tokens[6:], answer[0].token_ids)
    assert np.array_equal(logprobs[:6], parent.completion.logprobs[:6])
    assert np.array_equal(logprobs[6:], answer[0].logprobs)
    assert first.seed == origin.request.seed


def test_a_branch_says_what_its_own_request_found_cached():
    origin = branch(rollout(), 1, 1, "fix", SAMPLING, context())
    answer = replace(fake_completion("#10"), cached=7)
    (made,) = branch_rollouts(origin, (answer,), context())
    assert made.completion.cached == 7


def test_version_spans_join():
    spans = (VersionSpan(version=3, start=0, end=4), VersionSpan(version=4, start=4, end=17))
    parent = rollout(versions=spans)  # 16 bytes and the end token
    continuation = with_versions(
        fake_completion("#10"),  # 4 tokens
        (VersionSpan(version=5, start=0, end=1), VersionSpan(version=6, start=1, end=4)),
    )
    origin = branch(parent, 1, 1, "fix", SAMPLING, context())
    (made,) = branch_rollouts(origin, (continuation,), context())
    assert [(v.version, v.start, v.end) for v in made.completion.versions] == [
        (3, 0, 4),
        (4, 4, 6),  # cut at the 6 inherited tokens
        (5, 6, 7),
        (6, 7, 10),
    ]
    assert made.oldest_version == 3


def test_a_branch_from_the_start_inherits_nothing():
    origin = branch(rollout(), 0, 1, "fix", SAMPLING, context())
    (made,) = branch_rollouts(origin, (fake_completion("#10", version=2),), context())
    assert (made.inherited, made.completion.text) == (0, "#10")
    assert [v.version for v in made.completion.versions] == [2]


def test_a_character_split_over_the_cut_is_decoded_whole():
    """The first byte of 'é' is the parent's last kept token, the second is sampled next."""
    parent = rollout("é\n#1")
    parent = replace(parent, steps=(Step(start=0, end=1), Step(start=1, end=6)))
    origin = branch(parent, 1, 1, "fix", SAMPLING, context())
    tail = fake_completion("x\n#1")
    byte = np.array([0xA9], dtype=np.int32)
    tail = replace(tail, token_ids=np.concatenate([byte, tail.token_ids[1:]]))
    (made,) = branch_rollouts(origin, (tail,), context())
    assert made.completion.text == "é\n#1"
    assert list(made.completion.ends[:3]) == [0, 1, 2]  # written when its second byte came


lines = st.lists(st.text("0123=+#", min_size=1, max_size=6), min_size=1, max_size=5)


@given(lines, lines, st.data())
def test_steps_partition_and_prefixes_are_exact(kept: list[str], new: list[str], data):
    parent = rollout("\n".join(kept))
    steps = data.draw(st.integers(0, len(parent.steps) - 1))
    origin = branch(parent, steps, 1, "mc", Sampling(max_tokens=256), context())
    (made,) = branch_rollouts(origin, (fake_completion("\n".join(new)),), context())
    assert np.array_equal(made.prefix_ids(steps), parent.prefix_ids(steps))
    assert made.steps[:steps] == parent.steps[:steps]
    bounds = [0, *(step.end for step in made.steps)]
    assert bounds[-1] == len(made.completion.token_ids)
    assert all(a < b for a, b in pairwise(bounds))
    assert [step.start for step in made.steps] == bounds[:-1]
    # Cut where the splitter would have cut: the parent was kept up to a line's end.
    assert made.steps == NewlineSplitter().split(made.completion)
