from __future__ import annotations

import dataclasses
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlstep.scoring.answers.exact_answer import ExactAnswer
from rlstep.tasks import logic
from rlstep.tasks.logic import (
    ANSWER_LINE,
    ANSWERS,
    NOTHING,
    Deduction,
    EliminatedTerms,
    Logic,
    logic_tokenizer,
    names,
    read_problem,
    worked_solution,
)
from rlstep.tasks.syllogism import conclusions
from rlstep.testing.roles import FakeGenerator, FakeScorer, fake_context
from rlstep.types import Prompt, Verdict
from tests.builders import make_text_rollout
from tests.tasks.venn import entails

TOKENIZER = logic_tokenizer()
TASK = Logic(train=64, evaluation=64)
PROBLEMS = TASK.load(TOKENIZER, max_prompt_tokens=64)

# From d: some d are c, which are not b, among which are all a. So some d are not a.
CHAIN = "All a are b\nNo b are c\nSome d are c\nSome d are not a?\n"
FIRST = "Some d are c, No b are c: Some d are not b\n"
SECOND = "Some d are not b, All a are b: Some d are not a\n"
LONG = "All a are b\nAll b are c\nAll c are d\nAll x are b\nAll a are d?\n"
GAP = "All a are b\nAll c are b\nSome a are c?\n"
TURNED = "All a are b\nAll b are c\nAll c are a?\n"


def problem(text: str) -> Prompt:
    return Prompt(prompt_id=text, token_ids=np.zeros(1, np.int32), text=text, answer="")


@pytest.mark.parametrize(
    ("text", "steps", "first_error"),
    [
        (CHAIN, [FIRST, SECOND, "#yes"], None),
        (CHAIN, [], None),
        (CHAIN, [FIRST], None),  # cut short, right so far
        # the other way round, and with the premises in the other order
        (CHAIN, ["No b are c, All a are b: No a are c\n",
                 "No a are c, Some d are c: Some d are not a\n", "#yes"], None),
        (CHAIN, ["No b are c, All a are b: No c are a\n",
                 "No c are a, Some d are c: Some d are not a\n", "#yes"], None),
        # only what was written may be used as it was written
        (CHAIN, ["No b are c, All a are b: No c are a\n",
                 "No a are c, Some d are c: Some d are not a\n"], 1),
        (CHAIN, ["All a are b, No b are c: All a are c\n"], 0),  # drops the 'no'
        (CHAIN, ["All a are b, No b are c: Some a are not c\n"], 0),  # there may be no a
        (CHAIN, ["Some d are c, No b are c: Some b are not d\n"], 0),  # turned round
        (CHAIN, ["Some d are c, No b are c: nothing\n"], 0),
        (CHAIN, ["Some d are c, All a are b: nothing\n"], 0),  # have no term in common
        (CHAIN, ["All a are b, All b are c: All a are c\n"], 0),  # a valid form, not a premise
        (CHAIN, [FIRST, FIRST], 1),  # said before
        (CHAIN, ["No b are c, All a are b: No a are c\n",
                 "No b are c, All a are b: No c are a\n"], 1),  # the same in other words
        (CHAIN, [FIRST, "#yes"], 1),  # right, and not shown
        (CHAIN, ["#yes"], 0),
        (CHAIN, [FIRST, SECOND, "#no"], 2),
        (CHAIN, [FIRST, SECOND, "#unknown"], 2),
        (CHAIN, [FIRST, SECOND, "#"], 2),
        (CHAIN, [FIRST, "#None"], 1),
        (CHAIN, [FIRST, SECOND, "#yes\n", "#yes"], 3),  # goes on after the answer
        (CHAIN, [FIRST, SECOND, "#yes\n", "All a are b, No b are c: No a are c\n"], 3),
        (CHAIN, ["\n"], 0),
        (CHAIN, ["All a are b"], 0),
        (CHAIN, ["Some d are c, No b"], 0),
        (CHAIN.replace("Some d are not a?", "All d are a?"), [FIRST, SECOND, "#no"], None),
        (GAP, ["All a are b, All c are b: nothing\n", "#unknown"], None),
        (GAP, ["#unknown"], 0),
        (GAP, ["All a are b, All c are b: Some a are c\n"], 0),
        (GAP, ["All a are b, All c are b: nothing\n", "All c are b, All a are b: nothing\n"], 1),
        (GAP, ["All a are b, All c are b: nothing\n", "#no"], 1),
        (TURNED, ["All a are b, All b are c: All a are c\n", "#unknown"], None),
        (TURNED, ["All a are b, All b are c: All a are c\n", "#yes"], 1),
        # nothing follows from two statements that lie on one side of their middle term, or beside
        # the chain, and it says nothing about the question
        (LONG, ["All a are b, All b are c: All a are c\n", "All a are c, All b are c: nothing\n",
                "#unknown"], 2),
        (LONG, ["All a are b, All x are b: nothing\n", "#unknown"], 1),
        (LONG, ["All a are b, All x are b: nothing\n", "All a are b, All b are c: All a are c\n",
                "All a are c, All c are d: All a are d\n", "#yes"], None),
        (LONG, ["All x are b, All b are c: All x are c\n"], None),  # true, if of no use
    ],
)  # fmt: skip
def test_the_oracle_finds_the_first_wrong_step(text, steps, first_error):
    assert TASK.first_error(problem(text), steps) == first_error


def test_the_example_of_the_documentation_is_right():
    assert logic.__doc__ is not None
    shown = [line.strip() + "\n" for line in logic.__doc__.splitlines() if line[:4] == "    "]
    question = next(i for i, line in enumerate(shown) if line.endswith("?\n")) + 1
    prompt, steps = problem("".join(shown[:question])), shown[question:]
    assert worked_solution(prompt, np.random.default_rng(0), 0.0) == [*steps[:-1], "#no"]
    assert TASK.first_error(prompt, steps) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "All a are b?\n",
        "All a are b\nAll a are b?\n",  # nothing to eliminate
        "All a are b\nAll b are c\n",
        "All a are b\nAll b are c\nAll a are c?",
        "All a are b\nAll b is c\nAll a are c?\n",
        "All a are b\nAll c are d\nAll a are d?\n",  # nothing leads from a to d
        "All a are b\nAll b are c\nAll a are x?\n",
        "All a are b\nAll b are c\nAll c are a\nAll a are c?\n",  # two ways
        "All a are b\nAll b are c\nAll x are y\nAll y are x\nAll a are c?\n",
        "All a are b\nAll b are c\nSome x are b\nAll a are c?\n",  # so there is a b: some b are c
    ],
)
def test_the_oracle_refuses_what_is_no_problem(text: str):
    with pytest.raises(ValueError, match=r"prompt\.text"):
        TASK.first_error(problem(text), [])


SIZES = given(
    premises=st.integers(2, 5),
    distractors=st.integers(0, 2),
    seed=st.integers(0, 2**32),
    split=st.sampled_from(["train", "evaluation"]),
)


def one(premises: int, distractors: int, seed: int, split: str) -> Prompt:
    sizes = {"train": 0, "evaluation": 0, split: 1}
    task = Logic(premises=premises, distractors=distractors, seed=seed, **sizes)
    (prompt,) = getattr(task.load(TOKENIZER, 256), split)
    return prompt


def lines(prompt: Prompt) -> tuple[list[str], str]:
    *premises, question = prompt.text.removesuffix("?\n").split("\n")
    return premises, question


def contradictory(question: str) -> str:
    quantifier, subject, _, *middle, predicate = question.split()
    if quantifier == "Some":
        return f"{'All' if middle else 'No'} {subject} are {predicate}"
    return f"Some {subject} are {'not ' if quantifier == 'All' else ''}{predicate}"


@SIZES
def test_an_independent_prover_agrees_with_every_answer(premises, distractors, seed, split):
    prompt = one(premises, distractors, seed, split)
    given_lines, question = lines(prompt)
    assert len(given_lines) == premises + distractors
    yes = entails(given_lines, question)
    no = entails(given_lines, contradictory(question))
    assert not (yes and no)
    assert prompt.answer == ("yes" if yes else "no" if no else "unknown")


@SIZES
def test_deleting_any_premise_of_the_proof_breaks_it(premises, distractors, seed, split):
    prompt = one(premises, distractors, seed, split)
    given_lines, question = lines(prompt)
    proof = {str(statement) for statement in read_problem(prompt.text).chain}
    assert len(proof) == premises
    for deleted in given_lines:
        left = [line for line in given_lines if line != deleted]
        claims = {"yes": question, "no": contradictory(question)}
        shown = {answer for answer, claim in claims.items() if entails(left, claim)}
        needed = deleted in proof or prompt.answer == "unknown"
        assert shown == (set() if needed else {prompt.answer})


@SIZES
@settings(max_examples=40)
def test_no_line_that_the_oracle_takes_is_wrong(premises, distractors, seed, split):
    """A random walk through everything that can be shown, by another prover at every step."""
    prompt = one(premises, distractors, seed, split)
    given_lines, _ = lines(prompt)
    deduction, rng = Deduction(read_problem(prompt.text)), np.random.default_rng(seed)
    known = list(read_problem(prompt.text).premises)
    for _ in range(30):
        first, second = (known[i] for i in rng.choice(len(known), 2, replace=False))
        found = conclusions(first, second)
        claim = found[rng.integers(len(found))] if found else NOTHING
        left = deduction.standing
        if deduction.read(f"{first}, {second}: {claim}"):
            assert claim == NOTHING or entails(given_lines, str(claim))
            known += found
        assert deduction.standing <= left
        assert deduction.answer in (None, prompt.answer)
        assert (deduction.standing == 0) == (deduction.answer is not None)


@SIZES
def test_middle_terms_can_be_eliminated_in_any_order(premises, distractors, seed, split):
    prompt = one(premises, distractors, seed, split)
    rng = np.random.default_rng(seed)
    chain, steps = list(read_problem(prompt.text).chain), []
    while len(chain) > 1:
        at = int(rng.integers(len(chain) - 1))
        first, second = chain[at : at + 2]
        found = conclusions(first, second)
        chain[at : at + 2] = [found[rng.integers(len(found))]] if found else []
        steps.append(f"{first}, {second}: {chain[at] if found else NOTHING}\n")
        if not found:
            assert prompt.answer == "unknown"
            break
    assert TASK.first_error(prompt, [*steps, f"#{prompt.answer}"]) is None
    assert sum(TASK.eliminated(prompt, steps)) == pytest.approx(1.0)


@given(
    index=st.integers(0, len(PROBLEMS.train) - 1),
    seed=st.integers(0, 2**32),
    data=st.data(),
)
def test_careful_solutions_are_right_until_a_character_changes(index, seed, data):
    prompt = PROBLEMS.train[index]
    steps = worked_solution(prompt, np.random.default_rng(seed), sloppy=0.0)
    assert TASK.first_error(prompt, steps) is None
    verdict = ExactAnswer(pattern=ANSWER_LINE).verify("".join(steps), prompt.answer).verdict
    assert verdict is Verdict.CORRECT
    k = data.draw(st.integers(0, len(steps) - 1))
    at = data.draw(st.integers(0, len(steps[k].removesuffix("\n")) - 1))
    other = data.draw(st.sampled_from("abdeoqANS ,:#").filter(lambda c: c != steps[k][at]))
    broken = [*steps[:k], steps[k][:at] + other + steps[k][at + 1 :], *steps[k + 1 :]]
    assert TASK.first_error(prompt, broken) == k


def test_sloppiness_takes_what_it_sounds_like():
    rng = np.random.default_rng(0)
    assert worked_solution(problem(CHAIN), rng, 0.0) == [FIRST, SECOND, "#yes"]
    assert worked_solution(problem(CHAIN), rng, 1.0) == [FIRST, SECOND, "#yes"]
    # no d are b and all a are b: no d are a either way; but of 'all b are a' it goes on as well
    spoilt = problem("All b are a\nNo b are d\nNo d are a?\n")
    assert worked_solution(spoilt, rng, 0.0) == ["No b are d, All b are a: nothing\n", "#unknown"]
    hasty = ["No b are d, All b are a: No d are a\n", "#yes"]
    assert worked_solution(spoilt, rng, 1.0) == hasty
    assert TASK.first_error(spoilt, hasty) == 0
    # the right answer with a wrong step: what follows from the first two is 'All c are a'
    around = problem("All b are a\nAll c are b\nNo c are d\nSome a are not d?\n")
    assert worked_solution(around, rng, 1.0)[0] == "All b are a, All c are b: All a are c\n"
    # 64 problems of 3 steps: where something follows, careful and sloppy often agree
    wrong = [TASK.first_error(p, worked_solution(p, rng, 1.0)) is not None for p in PROBLEMS.train]
    answers = [worked_solution(p, rng, 1.0)[-1] == f"#{p.answer}" for p in PROBLEMS.train]
    unknown = [p.answer == "unknown" for p in PROBLEMS.train]
    assert all(right == (not u) for right, u in zip(answers, unknown, strict=True))
    assert all(w for w, u in zip(wrong, unknown, strict=True) if u)
    assert any(w for w, u in zip(wrong, unknown, strict=True) if not u)


def test_sloppiness_is_a_share_of_steps():
    rng = np.random.default_rng(0)
    firsts = [worked_solution(problem(GAP), rng, 0.3)[0] for _ in range(2000)]
    hasty = np.mean([NOTHING not in first for first in firsts])
    assert abs(hasty - 0.3) < 0.05  # five standard deviations of 2000 draws


def test_problems_repeat_with_the_seed_and_differ_without():
    again = dataclasses.replace(TASK).load(TOKENIZER, 64)
    other = dataclasses.replace(TASK, seed=1).load(TOKENIZER, 64)
    ids = [p.prompt_id for p in PROBLEMS.train]
    assert [p.prompt_id for p in again.train] == ids
    assert not set(ids) & {p.prompt_id for p in other.train}
    longer = dataclasses.replace(TASK, train=128, evaluation=16).load(TOKENIZER, 64)
    assert [p.prompt_id for p in longer.train[:64]] == ids
    assert len(set(ids)) == 64 and not any("\n" in name for name in ids)


def test_no_name_of_one_split_is_in_the_other_whatever_the_seed_and_size():
    seen: dict[str, set[str]] = {"train": set(), "evaluation": set()}
    ids: dict[str, set[str]] = {"train": set(), "evaluation": set()}
    for seed in range(5):
        task = Logic(premises=3, distractors=2, train=200, evaluation=200, seed=seed)
        loaded = task.load(TOKENIZER, 64)
        for split in seen:
            for prompt in getattr(loaded, split):
                words = prompt.text.replace("?", "").split()
                seen[split] |= {word for word in words if word.endswith("q")}
                ids[split].add(prompt.prompt_id)
    assert not seen["train"] & seen["evaluation"] and not ids["train"] & ids["evaluation"]
    assert seen["train"] <= set(names("train")) and len(seen["train"]) > 2000
    assert seen["evaluation"] <= set(names("evaluation")) and len(names("evaluation")) > 300


def test_answers_and_the_words_of_the_question_are_balanced():
    prompts = Logic(premises=3, train=3000, evaluation=0).load(TOKENIZER, 64).train
    counts = Counter(p.answer for p in prompts)
    assert set(counts) == set(ANSWERS)
    for number in counts.values():  # 3000 draws at 1/3: a standard deviation is 26
        assert abs(number - 1000) < 130
    for answer in ANSWERS:
        asked = Counter(
            question.split()[0] + (" not" if " not " in question else "")
            for p in prompts
            if p.answer == answer
            for question in [lines(p)[1]]
        )
        assert set(asked) == {"All", "No", "Some", "Some not"}
        assert all(abs(number - counts[answer] / 4) < 70 for number in asked.values())


def test_prompts_that_are_too_long_are_dropped_and_counted():
    lengths = [len(p.token_ids) for p in (*PROBLEMS.train, *PROBLEMS.evaluation)]
    # 4 premises and a question of 2 + 4 tokens and the line's end, and one for '?'
    assert set(lengths) == {5 * 7 + 1}
    assert PROBLEMS.dropped == {}
    short = TASK.load(TOKENIZER, max_prompt_tokens=35)
    assert (short.train, short.evaluation, short.dropped) == ([], [], {"too_long": 128})


def test_the_tokenizer_knows_every_problem_and_solution_and_survives_a_folder(tmp_path):
    from transformers import AutoTokenizer

    TOKENIZER.save_pretrained(tmp_path)
    rng = np.random.default_rng(0)
    for tokenizer in (TOKENIZER, AutoTokenizer.from_pretrained(tmp_path)):
        assert (tokenizer.pad_token_id, tokenizer.eos_token_id, len(tokenizer)) == (0, 1, 128)
        for prompt in PROBLEMS.evaluation:
            text = prompt.text + "".join(worked_solution(prompt, rng, 0.5))
            ids = tokenizer.encode(text)
            assert tokenizer.decode([*ids, 1], skip_special_tokens=True) == text
            assert ids[: len(prompt.token_ids)] == prompt.token_ids.tolist()
        # quantifier, two syllables, verb, two syllables
        assert len(tokenizer.encode("Some bakoq are not demuq")) == 6
        assert len(tokenizer.encode("#unknown")) == 2
        with pytest.raises(Exception, match="UNK"):
            tokenizer.encode("Some cats are not dogs")


@pytest.mark.parametrize(
    ("text", "verdict", "extracted"),
    [
        (FIRST + "#yes", Verdict.CORRECT, "yes"),
        ("#yes", Verdict.CORRECT, "yes"),
        (FIRST + "#no", Verdict.WRONG, "no"),
        (FIRST + "#unknown", Verdict.WRONG, "unknown"),
        (FIRST, Verdict.UNPARSABLE, ""),
        ("#yes\n" + FIRST, Verdict.UNPARSABLE, ""),
        ("#yes\n", Verdict.UNPARSABLE, ""),
        ("#yesno", Verdict.UNPARSABLE, ""),
        ("Some d #yes", Verdict.UNPARSABLE, ""),
        ("##yes", Verdict.UNPARSABLE, ""),
        ("#maybe", Verdict.UNPARSABLE, ""),
        ("", Verdict.UNPARSABLE, ""),
    ],
)
def test_the_answer_line_is_the_last(text: str, verdict: Verdict, extracted: str):
    score = ExactAnswer(pattern=ANSWER_LINE).verify(text, "yes")
    assert (score.verdict, score.extracted) == (verdict, extracted)


@pytest.mark.parametrize(
    ("text", "steps", "shares"),
    [
        (CHAIN, [FIRST, SECOND, "#yes"], [0.5, 0.5, 0.0]),  # b, then c, of 2
        (CHAIN, [FIRST], [0.5]),
        (CHAIN, ["#yes"], [0.0]),  # an answer eliminates nothing
        # a wrong step does not stop the count; the one that builds on it is wrong as well
        (CHAIN, ["All a are b, No b are c: All a are c\n", FIRST, SECOND], [0.0, 0.5, 0.5]),
        (CHAIN, ["All a are b, No b are c: All a are c\n",
                 "All a are c, Some d are c: Some d are a\n"], [0.0, 0.0]),
        # the same middle term from both sides is eliminated once
        (CHAIN, [FIRST, "All a are b, No b are c: No a are c\n"], [0.5, 0.0]),
        (LONG, ["All a are b, All x are b: nothing\n"], [0.0]),
        (LONG, ["All x are b, All b are c: All x are c\n"], [0.0]),  # not on the way
        (GAP, ["All a are b, All c are b: nothing\n", "#unknown"], [1.0, 0.0]),
    ],
)  # fmt: skip
async def test_shares_of_eliminated_terms_by_hand(text, steps, shares):
    assert TASK.eliminated(problem(text), steps) == shares
    rollout = make_text_rollout(problem(text), steps)
    context = fake_context(FakeGenerator(lambda *_: ""), FakeScorer())
    [labelled] = await EliminatedTerms(task=TASK).label([rollout], context)
    scores = labelled.step_scores("eliminated")
    assert scores is not None and scores.values.tolist() == shares


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"premises": 1}, r"task\.premises is 1; the smallest valid value is 2"),
        ({"premises": 65}, r"task\.premises is 65; the largest valid value is 64"),
        ({"distractors": -1}, r"task\.distractors is -1; the smallest valid value is 0"),
        ({"distractors": 65}, r"task\.distractors is 65; the largest valid value is 64"),
        ({"train": -1}, r"task\.train is -1"),
        ({"evaluation": -1}, r"task\.evaluation is -1"),
    ],
)
def test_bad_settings_name_the_field(change: dict[str, int], message: str):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(TASK, **change)
