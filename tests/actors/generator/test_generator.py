"""The generator role on the real engine: what it is asked is what it answers."""

from __future__ import annotations

import zlib
from dataclasses import replace

import numpy as np
import pytest

from rlstep.actors.generator.generator_group import GeneratorGroup
from rlstep.actors.weights.vllm_plugin import BACKEND, register
from rlstep.types import Failure
from tests.actors.weights.sync_kit import PROBE, answers, both, completions, part_of, request
from tests.rollouts.test_generate_door import opened

Engines = dict[bool, GeneratorGroup]


@pytest.mark.parametrize("replicas", [1, 2])
async def test_every_request_is_answered_once_with_tokens_logprobs_text_and_versions(
    engines: Engines, replicas: int
) -> None:
    group = both(engines) if replicas == 2 else part_of(engines[False], 1)
    asked = [
        request(f"all{replicas}/{i}", [3 + i % 30, 5, 7], n=3, seed=100 * i) for i in range(30)
    ]
    found = await answers(group, asked)
    assert set(found) == {item.request_id for item in asked}
    for answer in found.values():
        assert not isinstance(answer, Failure) and len(answer) == 3
        for completion in answer:
            length = len(completion.token_ids)
            assert 1 <= length <= 16
            assert completion.logprobs.shape == completion.ends.shape == (length,)
            assert (completion.logprobs <= 0).all() and completion.ends[-1] == len(completion.text)
            assert completion.versions[0].start == 0 and completion.versions[-1].end == length
            assert completion.truncated == (completion.finish_reason == "length")


async def test_a_seed_fixes_a_request_and_only_that_request(engines: Engines) -> None:
    group = part_of(engines[False], 1)
    sampling = {"max_tokens": 24, "min_tokens": 24, "n": 4}
    first = await completions(group, request("seed/a", [3, 4], seed=1, **sampling))
    again = await completions(group, request("seed/b", [3, 4], seed=1, **sampling))
    other = await completions(group, request("seed/c", [3, 4], seed=50, **sampling))
    for one, same in zip(first, again, strict=True):
        assert np.array_equal(one.token_ids, same.token_ids)
    assert len({completion.token_ids.tobytes() for completion in (*first, *other)}) == 8


async def test_the_likeliest_tokens_are_told_beside_the_sampled_one(engines: Engines) -> None:
    group = part_of(engines[False], 1)
    for temperature, n in ((1.0, 2), (0.0, 1)):
        plain = request(f"plain{temperature}", [3, 4], n=n, temperature=temperature)
        asked = replace(plain, request_id=f"told{temperature}", likeliest=5)
        without, found = await completions(group, plain), await completions(group, asked)
        for one, other in zip(without, found, strict=True):
            told = other.likeliest
            assert one.likeliest is None and told is not None
            assert np.array_equal(one.token_ids, other.token_ids)
            assert np.allclose(one.logprobs, other.logprobs, atol=1e-5)
            assert told.token_ids.shape == told.logprobs.shape == (len(other.token_ids), 5)
            assert (np.diff(told.logprobs) <= 0).all()
            place, column = np.nonzero(told.token_ids == other.token_ids[:, None])
            assert np.array_equal(told.logprobs[place, column], other.logprobs[place])
            assert temperature or np.array_equal(told.token_ids[:, 0], other.token_ids)


async def test_a_completion_says_what_it_found_cached(engines: Engines) -> None:
    """Blocks of 32: of 70 tokens, two blocks are shared and 6 tokens are each request's own."""
    group = part_of(engines[False], 1)
    prefix = np.random.default_rng(1).integers(3, 43, 110).astype(np.int32)
    [first] = await completions(group, request("cached/first", prefix[:70]))
    assert first.cached == 0
    several = await completions(group, request("cached/several", prefix[:70], n=3))
    assert [completion.cached for completion in several] == [None] * 3
    [longer] = await completions(group, request("cached/b", prefix))
    assert longer.cached == 64
    [again] = await completions(group, request("cached/c", prefix))
    assert again.cached == 96
    [aligned] = await completions(group, request("cached/d", prefix[:64]))
    assert aligned.cached == 32  # the last token is computed, and with it its block


async def test_a_child_is_a_request_of_its_own_with_the_next_seed(engines: Engines) -> None:
    """What lets a benchmark ask for children one by one and get the same."""
    group = part_of(engines[False], 1)
    together = await completions(group, request("children", [3, 4], n=3))
    apart = [
        (
            await completions(
                group, replace(asked, request_id=f"child/{i}", n=1, seed=asked.seed + i)
            )
        )[0]
        for i in range(3)
        for asked in [request("children", [3, 4], n=3)]
    ]
    pairs = zip(together, apart, strict=True)
    assert all(np.array_equal(a.token_ids, b.token_ids) for a, b in pairs)


async def test_requests_of_one_affinity_share_a_replicas_cache(engines: Engines) -> None:
    group = both(engines)
    prefix = np.random.default_rng(2).integers(3, 43, 70).astype(np.int32)
    asked = [replace(request(f"affine/{i}", prefix), affinity="p") for i in range(6)]
    assert len({zlib.crc32(item.request_id.encode()) % 2 for item in asked}) == 2
    found = [(await completions(group, item))[0].cached for item in asked]
    assert found == [0, 64, 64, 64, 64, 64]


async def test_stop_tokens_stop_strings_and_length(engines: Engines) -> None:
    group = part_of(engines[False], 1)
    [free] = await completions(group, request("free", [3, 4], max_tokens=12, min_tokens=12))
    assert (free.finish_reason, free.stop_reason, free.truncated) == ("length", None, True)
    token = next(t for t in free.token_ids.tolist() if t >= 10)  # "w1" would also end "w12"
    [cut] = await completions(group, request("cut", [3, 4], stop_token_ids=(token,)))
    assert (cut.finish_reason, cut.stop_reason) == ("stop", token)
    first = free.token_ids.tolist().index(token)
    assert cut.token_ids.tolist() == free.token_ids[: first + 1].tolist()
    word = f"w{token}"
    [text] = await completions(group, request("text", [3, 4], stop=(word,)))
    assert (text.finish_reason, text.stop_reason) == ("stop", word)
    assert text.text.endswith(word)


async def test_a_tag_that_is_a_special_token_stands_in_the_text(engines: Engines) -> None:
    """Of the special tokens w5 and w6 the former is a tag; others leave no trace in a text."""
    group = part_of(engines[True], 1)
    asked = [request(f"tags/{i}", [3 + i, 5, 6], max_tokens=64, n=8) for i in range(8)]
    written = set()
    for completion in [one for item in asked for one in await completions(group, item)]:
        ids = completion.token_ids.tolist()
        assert completion.text.split() == [f"w{i}" for i in ids if i not in (0, 1, 6)]
        if 5 in ids:
            assert completion.text[: completion.ends[ids.index(5)]].endswith("w5")
        written |= {*ids}
    assert {5, 6} <= written


async def test_many_seeded_requests_in_flight_do_not_kill_the_engine(engines: Engines) -> None:
    """With chunked prefill, vLLM 0.32's CPU engine dies of a seed: 'CPU Generator does not use
    offset'. 400 requests of 70 tokens overflow a scheduling round of 8192."""
    group = part_of(engines[True], 1)
    asked = [request(f"many/{i}", np.roll(PROBE, i), max_tokens=2, seed=i) for i in range(400)]
    found = await answers(group, asked)
    assert len(found) == 400 and not any(isinstance(a, Failure) for a in found.values())


async def test_a_prefix_over_the_context_is_a_failure_and_the_others_are_answered(
    engines: Engines,
) -> None:
    group = part_of(engines[False], 1)
    context = group.config.context
    asked = [
        request(f"long/{length}", [3] * length, max_tokens=4)
        for length in (8, context - 1, context, context + 44)
    ]
    found = await answers(group, asked)
    for name in (f"long/{context}", f"long/{context + 44}"):
        failure = found[name]
        assert isinstance(failure, Failure) and failure.reason == "rejected", failure
        assert str(context) in failure.detail
    short, edge = found["long/8"], found[f"long/{context - 1}"]
    assert not isinstance(short, Failure) and not isinstance(edge, Failure)
    assert len(edge[0].token_ids) == 1 and edge[0].truncated


async def test_a_door_answers_as_the_role_does(engines: Engines) -> None:
    group = part_of(engines[True], 1)
    context = group.config.context
    asked = request("role", [3, 4, 7], seed=11, n=2, max_tokens=20)
    ids = asked.prefix_ids.tolist()
    async with opened(group, context) as ask:
        sampling = {"seed": 11, "n": 2, "max_tokens": 20, "logprobs": 1}
        status, answer = await ask({"token_ids": ids, "sampling_params": sampling})
        over, refusal = await ask({"token_ids": [3] * context})
    assert status == 200 and over == 400 and str(context) in refusal["error"]["message"]
    version = str(await group.actors[0].weight_version.remote())
    expected = await completions(group, asked)
    for choice, completion in zip(answer["choices"], expected, strict=True):
        assert choice["token_ids"] == completion.token_ids.tolist()
        assert choice["finish_reason"] == completion.finish_reason
        logprobs = [entry["logprob"] for entry in choice["logprobs"]["content"]]
        assert np.allclose(logprobs, completion.logprobs, atol=1e-4)
        end = len(completion.token_ids)
        assert choice["weight_versions"] == [{"version": version, "start": 0, "end": end}]


def test_the_plugin_registers_once_and_again() -> None:
    from vllm.distributed.weight_transfer.factory import WeightTransferEngineFactory

    register()
    register()
    assert BACKEND in WeightTransferEngineFactory._registry
