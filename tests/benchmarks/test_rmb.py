"""RMB's two scores by hand, and its two layouts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rlstep.benchmarks.rmb import Rmb
from rlstep.tensors.templates import PromptTemplate
from rlstep.types import RolloutScore
from tests.benchmarks.kit import TOKENIZER, figures, written
from tests.real_tokenizers import byte_level_tokenizer

BARE = PromptTemplate(chat=False)
ASKED = [{"role": "user", "content": "why?", "language": "English"}]
HELP, HARM = "Helpfulness/Reasoning/Logical Deduction", "Harmlessness/S1"


def pair(chosen: str, reject: str, category: str = HELP) -> dict[str, Any]:
    """Answers that end with their scores."""
    return {
        "pair_uid": f"{chosen}-{reject}",
        "conversation_input": ASKED,
        "chosen": {"llm_name": "a", "answer": f"x {chosen}", "score": 5.0},
        "reject": {"llm_name": "b", "answer": f"y {reject}", "score": 3.5},
        "category_path": f"Pairwise_set/{category}",
    }


def best(score: str, *losers: str, category: str = HELP) -> dict[str, Any]:
    return {
        "bon_uid": "7",
        "conversation_input": ASKED,
        "bon_best": {"llm_name": "a", "answer": f"x {score}"},
        "loser_list": [{"llm_name": "b", "answer": f"y {loser}"} for loser in losers],
        "category_path": f"BoN_set/{category}",
    }


def test_both_scores_worked_by_hand(tmp_path: Path) -> None:
    pairs = [pair("0.9", "0.1"), pair("0.4", "0.6"), pair("0.5", "0.5"), pair("2", "-3", HARM)]
    bons = [best("0.9", "0.1", "0.8"), best("0.7", "0.1", "0.8"), best("0.7", "0.7", "0.1")]
    written(tmp_path / "Pairwise_set" / "Helpfulness" / "Reasoning" / "Logic.json", *pairs[:3])
    written(tmp_path / "Pairwise_set" / "Harmlessness" / "S1.json", pairs[3])
    written(tmp_path / "BoN_set" / "Helpfulness" / "Reasoning" / "Logic.json", *bons)
    found = figures(Rmb(path=str(tmp_path), template=BARE))
    # Pairs: right, wrong, a tie that is wrong, right: 2 of 4, sqrt(0.25 / 4) = 0.25. Best of N:
    # the first beats both losers, the second only one, the third is reached: 1 of 3,
    # sqrt(2/9 / 3) = 0.27217.
    assert found == pytest.approx(
        {
            **{"pairwise": 0.5, "pairwise_error": 0.25},
            **{"pairwise_cases": 4, "pairwise_failures": 0},
            **{"Helpfulness/pairwise": 1 / 3, "Helpfulness/pairwise_error": 0.27217},
            **{"Helpfulness/pairwise_cases": 3, "Helpfulness/pairwise_failures": 0},
            **{"Harmlessness/pairwise": 1.0, "Harmlessness/pairwise_error": 0.0},
            **{"Harmlessness/pairwise_cases": 1, "Harmlessness/pairwise_failures": 0},
            **{"best_of_n": 1 / 3, "best_of_n_error": 0.27217},
            **{"best_of_n_cases": 3, "best_of_n_failures": 0},
            **{"Helpfulness/best_of_n": 1 / 3, "Helpfulness/best_of_n_error": 0.27217},
            **{"Helpfulness/best_of_n_cases": 3, "Helpfulness/best_of_n_failures": 0},
        },
        abs=1e-5,
    )


def test_a_case_with_a_failure_is_no_loss(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", pair("0.9", "0.1"), pair("0.9", "?"))
    found = figures(Rmb(path=str(path), template=BARE))
    assert (found["pairwise"], found["pairwise_cases"], found["pairwise_failures"]) == (1, 1, 1)
    path = written(tmp_path / "b.jsonl", pair("?", "0.1"))
    with pytest.raises(ValueError, match="no case of 'pairwise' has scores"):
        figures(Rmb(path=str(path), template=BARE))


def test_a_reward_model_scores_whole_answers(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", pair("0", "0"), best("0", "0", "0"))
    benchmark = Rmb(path=str(path), template=BARE)
    rewards = [[RolloutScore(value=v) for v in row] for row in ([-1.0, -2.0], [40.5, 40.0, 40.5])]
    found = benchmark.figures(benchmark.cases(TOKENIZER), rewards)
    assert (found["pairwise"], found["best_of_n"]) == (1.0, 0.0)


def test_an_answer_of_steps_has_one_score(tmp_path: Path) -> None:
    rows = [pair("0.9\n\nb 0.4", "0.5"), pair("0.9\n\nb 0.4\n\n", "0.3")]
    path = str(written(tmp_path / "a.jsonl", *rows))
    whole = Rmb(path=path, step_end="\n\n", aggregate="min", template=BARE)
    steps = [len(r.steps) for case in whole.cases(TOKENIZER) for r in case.rollouts]
    assert steps == [2, 1, 2, 1]  # what ends with the end of a step has no empty one after it
    assert figures(whole)["pairwise"] == 0.5  # 0.4 against 0.5, and against 0.3
    mean = Rmb(path=path, step_end="\n\n", aggregate="mean", template=BARE)
    assert figures(mean)["pairwise"] == 1.0  # 0.65


def test_conversations_are_read_in_the_models_own_template(tmp_path: Path) -> None:
    messages = [*ASKED, {"role": "assistant", "content": "so"}, {"role": "user", "content": "eh?"}]
    longer = {**pair("1", "0"), "conversation_input": messages}
    path = str(written(tmp_path / "a.jsonl", longer, pair("1", "0")))
    two, one = Rmb(path=path).cases(byte_level_tokenizer())
    turns = [f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n" for m in messages]
    assert two.rollouts[0].prompt.text == "".join(turns) + "<|im_start|>assistant\n"
    assert one.rollouts[0].prompt.text == turns[0] + "<|im_start|>assistant\n"
    assert [r.completion.text for r in one.rollouts] == ["x 1", "y 0"]
    assert [r.rollout_id for r in one.rollouts] == ["pairwise/1-0/chosen", "pairwise/1-0/reject"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"conversation_input": []}, r"field 'conversation_input': is \[\]; it must be a list"),
        ({"conversation_input": [{"role": "user"}]}, r"field 'conversation_input\.0\.content'"),
        (
            {"conversation_input": [*ASKED, {"role": "assistant", "content": "so"}]},
            "the last message must ask for an answer",
        ),
        ({"chosen": {"llm_name": "a"}}, r"field 'chosen\.answer': missing"),
        ({"bon_best": {"answer": "x"}, "loser_list": []}, "field 'loser_list': is"),
    ],
)
def test_a_row_that_does_not_fit_is_named(
    change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    path = written(tmp_path / "a.jsonl", {**pair("1", "0"), **change})
    with pytest.raises(ValueError, match=message):
        Rmb(path=str(path), template=BARE).cases(TOKENIZER)
