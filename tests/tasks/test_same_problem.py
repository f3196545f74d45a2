"""Which rows are one problem, and what becomes of those that repeat one."""

import pytest

from tests.tasks.loading import PLAIN, load

# --- the same problem, however it is written

SAME = [  # of "Find x: é + 2 = 3", in other characters
    "  Find x: é + 2 = 3",
    "Find x: é + 2 = 3\n",
    "Find  x: é + 2 = 3",
    "Find x:\té + 2 = 3",
    "Find x:\r\né + 2 = 3",
    "Find x: é + 2 =\n\n 3",
    "Find\u00a0x: é + 2 = 3",
    "Find x:\u2009é + 2 = 3",
    "Find x: é + 2\u202f= 3",
    "Find x:\u2028é + 2 = 3",
    "Find x:\u3000é + 2 = 3",
    "Find x: e\u0301 + 2 = 3",
    "\ufeffFind x: é + 2 = 3",
    "Find\u200b x: é + 2 = 3",
    "Find\u2060 x: é + 2 = 3",
]
OTHER = [
    "find x: é + 2 = 3",
    "Find X: é + 2 = 3",
    "Find x: e + 2 = 3",
    "Find x: é + ² = 3",
    "Find x: é + 2 = 3?",
    "Findx: é + 2 = 3",
    "Find x: é + 2 = 33",
    "Find x: é - 2 = 3",
    "Find x: é \u2212 2 = 3",
]
PROBLEM = "Find x: é + 2 = 3"


@pytest.mark.parametrize("text", SAME)
def test_no_spelling_hides_a_problem_of_training_in_evaluation(write, text):
    path = write([{"prompt": "1+1?", "answer": "2"}, {"prompt": PROBLEM, "answer": "1"}])
    second = write([{"prompt": text, "answer": "1"}], "second.jsonl")
    with pytest.raises(ValueError, match=r"second.jsonl, line 1, field 'prompt': repeats .*line 2"):
        load(path, evaluation=second)
    found = load(path, evaluation=second, repeated="drop", template=PLAIN)
    assert [p.answer for p in found.train] == ["2"] and found.dropped == {"in_evaluation": 1}


@pytest.mark.parametrize("text", OTHER)
def test_other_problems_stay_apart(write, text):
    found = load(write([{"prompt": t, "answer": "1"} for t in (PROBLEM, text)]))
    assert len({p.prompt_id for p in found.train}) == 2


USER = {"role": "user", "content": "2+3?"}
SAME_TALK = [
    [{"content": "2+3?", "role": "user"}],
    [{"role": "user", "content": " 2+3?\n"}],
    [{"role": "user", "content": "2+3?", "name": None}],
    [{"tool_calls": [], "content": "2+3?", "role": "user"}],
    "2+3?",
    "2+3?\n",
]
OTHER_TALK = [
    [{"role": "system", "content": "Brief."}, USER],
    [USER, {"role": "assistant", "content": "5"}, USER],
    [{"role": "tool", "content": "2+3?"}],
    [{"role": "user", "content": "2+4?"}],
]


@pytest.mark.parametrize("talk", SAME_TALK)
def test_key_order_hides_no_conversation(write, talk):
    path = write([{"prompt": [USER], "answer": "5"}, {"prompt": talk, "answer": "5"}])
    with pytest.raises(ValueError, match=r"line 2, field 'prompt': repeats that of .*, line 1"):
        load(path)


def test_other_conversations_stay_apart(write):
    rows = [{"prompt": talk, "answer": "5"} for talk in [[USER], *OTHER_TALK]]
    assert len({p.prompt_id for p in load(write(rows)).train}) == 5


# --- repeated rows

REPEATED = [("a", "1"), ("b", "1"), ("a ", "1"), ("a", "2"), ("c", "3"), ("b", "1")]


def test_repeated_rows_are_refused_dropped_or_kept(write):
    path = write([{"prompt": prompt, "answer": answer} for prompt, answer in REPEATED])
    with pytest.raises(ValueError, match=r"line 3, .* line 1; task\.repeated 'drop' leaves such"):
        load(path)
    dropped = load(path, repeated="drop", template=PLAIN)
    assert [(p.text, p.answer) for p in dropped.train] == [("a", "1"), ("b", "1"), ("c", "3")]
    assert dropped.dropped == {"repeated": 2, "repeated_with_another_answer": 1}
    kept = load(path, repeated="keep", template=PLAIN)
    assert [(p.text, p.answer) for p in kept.train] == REPEATED
    assert kept.dropped == {}
    a, b, c = (p.prompt_id for p in dropped.train)
    assert [p.prompt_id for p in kept.train] == [a, b, f"{a}/2", f"{a}/3", c, f"{b}/2"]


def test_kept_repeats_are_on_one_side(write):
    texts = [f"{i % 10}" for i in range(30)]
    path = write([{"prompt": text, "answer": "1"} for text in texts])
    found = load(path, repeated="keep", held_out=4, template=PLAIN)
    held_out = [p.text for p in found.evaluation]
    assert len(held_out) == 12 and len(set(held_out)) == 4
    assert not set(held_out) & {p.text for p in found.train}


@pytest.mark.parametrize("repeated", ["drop", "keep"])
def test_what_is_in_evaluation_is_left_out_of_training(write, repeated):
    path = write([{"prompt": text, "answer": "1"} for text in "abab"])
    second = write([{"prompt": text, "answer": "1"} for text in "bcc"], "second.jsonl")
    found = load(path, evaluation=second, repeated=repeated, template=PLAIN)
    twice = repeated == "keep"
    assert [p.text for p in found.train] == ["a"] * (1 + twice)
    assert [p.text for p in found.evaluation] == ["b", "c"] + ["c"] * twice
    assert found.dropped["in_evaluation"] == 1 + twice
    ids = [p.prompt_id for p in (*found.train, *found.evaluation)]
    assert len(set(ids)) == len(ids)


def test_own_ids_do_not_hide_a_problem_of_training_in_evaluation(write):
    path = write([{"prompt": "a", "answer": "1", "id": 1}, {"prompt": "b", "answer": "1", "id": 2}])
    second = write([{"prompt": "b\n", "answer": "1", "id": 3}], "second.jsonl")
    with pytest.raises(ValueError, match=r"second.jsonl, line 1, field 'prompt': repeats .*line 2"):
        load(path, evaluation=second, id_column="id")
    found = load(path, evaluation=second, id_column="id", repeated="drop")
    assert [p.prompt_id for p in found.train] == ["1"] and found.dropped == {"in_evaluation": 1}


@pytest.mark.parametrize("repeated", ["refuse", "drop", "keep"])
def test_one_id_for_two_problems_is_refused(write, repeated):
    path = write([{"prompt": "a", "answer": "1", "id": 1}])
    second = write([{"prompt": "b", "answer": "1", "id": 1}], "second.jsonl")
    with pytest.raises(ValueError, match=r"second.jsonl, line 1, field 'id': repeats that of"):
        load(path, evaluation=second, id_column="id", repeated=repeated)
