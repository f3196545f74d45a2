"""The game's rules, and the exact values of its turns."""

from __future__ import annotations

import numpy as np
import pytest

from rlstep.environments.guess_number import (
    GuessNumber,
    anywhere,
    chance,
    halving,
    read_range,
    value,
)
from rlstep.tasks.guess_number import ALPHABET, GuessNumberTask, guess, guess_number_tokenizer
from rlstep.testing.small import small_prompt
from rlstep.types import Action, Observation


def played(answer: int, *said: str, guesses: int = 5, shaped: bool = False) -> list[Observation]:
    prompt = small_prompt("p", text="03-33\n", answer=str(answer))
    episode = GuessNumber(guesses=guesses, shaped=shaped).reset(prompt, 0)
    return [episode.observe(Action(text=text, token_ids=())) for text in said]


def test_a_game_worked_by_hand():
    told = played(20, "15\n", "27\n", "20\n")
    assert told == [
        Observation(text=">"),
        Observation(text="<"),
        Observation(reward=1.0, done=True, success=True),
    ]
    lost = played(20, "15\n", "27\n", guesses=2)
    assert lost[-1] == Observation(text="<", done=True, success=False)


@pytest.mark.parametrize("said", ["", "x", "34", "02", "-5", "1 5", "²", "٣"])
def test_what_is_no_number_of_the_range_is_a_turn_all_the_same(said: str):
    first, second = played(20, said, "20")
    assert first.text == "?" and not first.done and second.success
    assert played(20, said, guesses=1)[0] == Observation(text="?", done=True, success=False)


def test_values_worked_by_hand():
    # One number: found at once. Two, one guess: 1/2; two guesses: always.
    assert value(anywhere, 1, 1) == 1.0 and value(anywhere, 2, 1) == 0.5
    assert value(anywhere, 2, 2) == 1.0 and value(halving, 0, 3) == value(halving, 3, 0) == 0.0
    # Three numbers, two guesses: the middle finds all; an end (2/3 of the time) finds 1 + 1 of 3.
    assert value(halving, 3, 2) == 1.0
    assert value(anywhere, 3, 2) == pytest.approx((1 / 3) * 1 + (2 / 3) * (2 / 3))
    assert [value(halving, 2**n - 1, n) for n in range(1, 7)] == [1.0] * 6
    assert value(halving, 31, 4) == pytest.approx(15 / 31)
    assert value(anywhere, 31, 5) == pytest.approx(0.543, abs=5e-4)


@pytest.mark.parametrize("guesses", range(7))
@pytest.mark.parametrize("left", [1, 2, 3, 6, 7, 8, 15, 31, 33])
def test_the_chance_is_the_value_of_halving(left: int, guesses: int):
    assert chance(left, guesses) == pytest.approx(value(halving, left, guesses))


def test_shaped_rewards_worked_by_hand():
    """Of 31 numbers in 5 guesses the best play finds each. The middle loses nothing; 29 leaves the
    numbers above it, 4 for 3 guesses (nothing lost); 33 instead leaves the 15 numbers from 19 on
    but one, of which 3 guesses find 7; a word that is no number costs its guess."""
    assert [o.reward for o in played(31, "18", "29", "31", shaped=True)] == [0.0, 0.0, 0.0]
    assert [o.reward for o in played(31, "18", "33", shaped=True)] == [0.0, 7 / 14 - 1]
    assert [o.reward for o in played(31, "x", shaped=True)] == [15 / 31 - 1]
    # What is known already: 2 is outside the range, 20 cannot be after 18 was too small of 10.
    assert [o.reward for o in played(10, "18", "20", shaped=True)] == [0.0, 7 / 15 - 1]


@pytest.mark.parametrize("said", ["31 33 18 11", "18 10 26 x 31", "18 26 31", "31 30 29 28 27"])
@pytest.mark.parametrize("guesses", [4, 5])
def test_shaped_rewards_sum_to_the_outcome_less_the_chance_at_the_start(said: str, guesses: int):
    told = played(31, *said.split(), *["19"] * 5, guesses=guesses, shaped=True)
    turns = next(i for i, observation in enumerate(told, 1) if observation.done)
    won = bool(told[turns - 1].success)
    assert sum(o.reward for o in told[:turns]) == pytest.approx(won - chance(31, guesses))


@pytest.mark.parametrize("play", [anywhere, halving])
def test_values_are_what_games_come_to(play):
    rng, prompt = np.random.default_rng(0), small_prompt("p", text="03-17\n", answer="0")
    found = 0
    for game in range(3000):
        number, seen = 3 + game % 15, list[tuple[int, str]]()
        for _ in range(3):
            made = guess(prompt, seen, play, rng)
            found += made == number
            if made == number:
                break
            seen.append((made, "<" if number < made else ">"))
    expected = value(play, 15, 3)
    assert found / 3000 == pytest.approx(expected, abs=4 * (0.25 / 3000) ** 0.5)


def test_problems_are_all_there_once_and_split():
    prompts = GuessNumberTask().load(guess_number_tokenizer(), 16)
    every = [*prompts.train, *prompts.evaluation]
    assert len({p.prompt_id for p in every}) == len(every) == 11 * 31
    assert 25 <= len(prompts.evaluation) <= 60
    for prompt in every:
        low, high = read_range(prompt.text)
        assert high - low == 30 and low <= int(prompt.answer) <= high
        assert guess_number_tokenizer().decode(prompt.token_ids.tolist()) == prompt.text
    assert set(ALPHABET) >= set("".join(p.text for p in every))


def test_bad_values_are_refused():
    with pytest.raises(ValueError, match=r"environment\.guesses is 0"):
        GuessNumber(guesses=0)
    with pytest.raises(ValueError, match=r"task\.lowest is 70; .*69"):
        GuessNumberTask(lowest=70)
    with pytest.raises(ValueError, match=r"prompt\.text is '33-03'"):
        read_range("33-03")
