"""Expressions in which multiplication comes first."""

from __future__ import annotations

import ast

import numpy as np
import pytest

from rlstep.environments.plain_turns import PlainTurns
from rlstep.environments.tool_use import ToolUse
from rlstep.tasks.precedence import (
    PIECES,
    Precedence,
    from_left_to_right,
    precedence_tokenizer,
    sft_samples,
    value,
)
from rlstep.tools.calculator import Calculator, worked_out
from rlstep.types import Action

TOKENIZER = precedence_tokenizer()


def test_values_worked_by_hand():
    assert value("7+2*3-4") == 9  # 7 + 6 - 4
    assert value("9-2*2*2") == 1 and value("2*3+4*5") == 26
    # 7 + 2 is 9, 9 * 3 is 27, 27 - 4 is 23
    assert from_left_to_right("7+2*3-4") == [("7+2", 9), ("9*3", 27), ("27-4", 23)]


def test_problems():
    prompts = Precedence(train=300, evaluation=60).load(TOKENIZER, 32)
    every = [*prompts.train, *prompts.evaluation]
    assert len({p.prompt_id for p in every}) == len(every) == 360
    for prompt in every:
        assert prompt.answer == str(worked_out(prompt.prompt_id)) == str(value(prompt.prompt_id))
        assert "*" in prompt.prompt_id and len(ast.dump(ast.parse(prompt.prompt_id))) > 0
        reached = [after for _, after in from_left_to_right(prompt.prompt_id)]
        assert all(0 <= number <= 99 for number in (*reached, int(prompt.answer)))
        assert TOKENIZER.decode(prompt.token_ids.tolist()) == prompt.text
    by_itself = [str(from_left_to_right(p.prompt_id)[-1][1]) == p.answer for p in every]
    assert 0.4 < np.mean(by_itself) < 0.65  # who reckons by itself


def test_problems_follow_the_seed_and_stay_in_their_split():
    first = Precedence(train=100, evaluation=20).load(TOKENIZER, 32)
    again = Precedence(train=100, evaluation=20).load(TOKENIZER, 32)
    other = Precedence(train=100, evaluation=20, seed=1).load(TOKENIZER, 32)
    ids = [p.prompt_id for p in first.train]
    assert ids == [p.prompt_id for p in again.train] != [p.prompt_id for p in other.train]
    assert not {p.prompt_id for p in other.train} & {p.prompt_id for p in first.evaluation}


def test_too_many_problems_are_refused():
    with pytest.raises(ValueError, match=r"task\.train is 999 and task\.evaluation 0, of which"):
        Precedence(operations=1, train=999, evaluation=0).load(TOKENIZER, 32)


def test_worked_conversations_are_what_the_environment_answers():
    prompts = Precedence(train=20, evaluation=0).load(TOKENIZER, 32).train
    between = PlainTurns().between(TOKENIZER)
    episode = ToolUse(tools=(Calculator(),)).reset
    calling = sft_samples(prompts, np.random.default_rng(0), 0.0, TOKENIZER)
    for prompt, sequence in zip(prompts, calling.sequences, strict=True):
        trained = sequence.token_ids[sequence.loss_mask]
        turns = [sequence.token_ids[sequence.step_index == k].tolist() for k in (0, 1)]
        assert [turn[-1] for turn in turns] == [TOKENIZER.eos_token_id] * 2
        said = TOKENIZER.decode(turns[0], skip_special_tokens=True)
        told = episode(prompt, 0).observe(Action(text=said, token_ids=()))
        assert told.counts["broken_calls"] == 0 and told.text == prompt.answer
        seen = between(told.text, turns[0][-1])
        assert [*prompt.token_ids, *turns[0], *seen, *turns[1]] == sequence.token_ids.tolist()
        assert trained.tolist() == turns[0] + turns[1]
        answer = TOKENIZER.decode(turns[1], skip_special_tokens=True)
        assert answer == f"#{prompt.answer}"


def test_by_itself_it_goes_from_left_to_right():
    [prompt] = Precedence(train=1, evaluation=0).load(TOKENIZER, 32).train
    [sequence] = sft_samples([prompt], np.random.default_rng(0), 1.0, TOKENIZER).sequences
    text = TOKENIZER.decode(sequence.token_ids.tolist(), skip_special_tokens=True)
    steps = "".join(f"{said}={after}\n" for said, after in from_left_to_right(prompt.prompt_id))
    assert text == f"{prompt.text}{steps}#{from_left_to_right(prompt.prompt_id)[-1][1]}"


def test_the_pieces_of_a_call_are_tokens_and_errors_can_be_said():
    for piece in PIECES:
        assert len(TOKENIZER.encode(piece, add_special_tokens=False)) == 1
    error = "error: there is no tool 'x'; [it's] {100%} ~ \"quoted\"\n"
    assert TOKENIZER.decode(TOKENIZER.encode(error, add_special_tokens=False)) == error
