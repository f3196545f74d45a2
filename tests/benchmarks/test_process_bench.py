"""ProcessBench's protocol by hand, its layout, and thresholds that are no result."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from rlstep.benchmarks.process_bench import ProcessBench
from rlstep.tensors.templates import PromptTemplate
from tests.benchmarks.kit import TOKENIZER, figures, written
from tests.real_tokenizers import byte_level_tokenizer

BARE = PromptTemplate(chat=False, text="{problem}\n")


def row(scores: str, label: int, problem: str = "p") -> dict[str, Any]:
    """A solution whose steps end with their scores."""
    steps = [f"s{i} {score}" for i, score in enumerate(scores.split())]
    known = {"generator": "g", "final_answer_correct": label == -1}
    return {"id": f"{problem}-{label}", "problem": problem, "steps": steps, "label": label, **known}


# Five with an error, found exactly in three; two without, of neither of which one is claimed.
HALF = [
    row("0.9 0.2 0.8", 1),
    row("0.4", 0),
    row("0.9 0.9 0.1", 2),
    row("0.4 0.2", 1),  # the step before it is called wrong
    row("0.9 0.6", 1),  # nothing is
    row("0.9 0.5", -1),  # under the threshold is strictly under
    row("0.7 0.9", -1),
]


def test_an_f1_worked_by_hand(tmp_path: Path) -> None:
    found = figures(ProcessBench(path=str(written(tmp_path / "math.jsonl", *HALF)), template=BARE))
    # 3/5 and 2/2: 2 (0.6) (1) / 1.6 = 0.75. dF/da = 2 / 1.6^2, Var a = 0.6 * 0.4 / 5:
    # 0.78125 sqrt(0.048) = 0.17116.
    assert found == pytest.approx(
        {
            "threshold": 0.5,
            "math/f1": 0.75,
            "math/f1_error": 0.17116,
            "math/erroneous": 0.6,
            "math/correct": 1.0,
            "math/cases": 7.0,
            "math/failures": 0.0,
            "f1": 0.75,
        },
        abs=1e-5,
    )


def test_never_an_error_is_an_f1_of_0_and_no_nan(tmp_path: Path) -> None:
    rows = [row("0.9 0.9", 1), row("0.9", -1)]
    found = figures(ProcessBench(path=str(written(tmp_path / "a.jsonl", *rows)), template=BARE))
    assert (found["a/erroneous"], found["a/correct"], found["a/f1"], found["f1"]) == (0, 1, 0, 0)


def folder(tmp_path: Path) -> str:
    """As Qwen/ProcessBench has it: a list in a file for each subset."""
    written(tmp_path / "gsm8k.json", row("0.8 0.55", 1, "q"), row("0.7 0.9", -1, "r"))
    written(tmp_path / "math.json", *HALF)
    return str(tmp_path)


def test_subsets_count_once_each(tmp_path: Path) -> None:
    found = figures(ProcessBench(path=folder(tmp_path), template=BARE))
    # gsm8k: the error is missed at 1/2, so its F1 is 0; the mean with 0.75 is 0.375.
    assert (found["gsm8k/f1"], found["math/f1"], found["f1"]) == pytest.approx((0.0, 0.75, 0.375))
    only = ProcessBench(path=folder(tmp_path), subsets=("math",), limit=6, template=BARE)
    assert figures(only).keys() & {"gsm8k/f1", "math/f1", "math/cases"} == {"math/f1", "math/cases"}
    assert figures(only)["math/cases"] == 6


def test_a_tuned_threshold_is_no_result_on_its_own_subset(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    benchmark = ProcessBench(path=folder(tmp_path), tuned_on="gsm8k", template=BARE)
    with caplog.at_level(logging.WARNING):
        found = figures(benchmark)
    # Right on both of gsm8k are 0.55 < t <= 0.7: 0.625. There math finds the errors of rows 0, 1,
    # 2 and 4 (0.6 < 0.625), and claims one of two correct ones (0.5): 2 (0.8) (0.5) / 1.3.
    assert found["threshold"] == pytest.approx(0.625)
    assert found["tuned_on/gsm8k/f1"] == 1.0 and "gsm8k/f1" not in found
    assert found["f1"] == found["math/f1"] == pytest.approx(0.8 / 1.3)
    assert "chosen on 'gsm8k', so its F1 of 1.000 there is no result" in caplog.text


def test_a_threshold_is_not_reported_on_what_it_is_tuned_on(tmp_path: Path) -> None:
    alone = written(tmp_path / "alone" / "math.jsonl", *HALF)
    with pytest.raises(ValueError, match=r"tuned_on is 'math', the only subset .* tuned on"):
        ProcessBench(path=str(alone), tuned_on="math", template=BARE).cases(TOKENIZER)
    # The same solution under the name of another subset.
    written(tmp_path / "two" / "math.jsonl", *HALF)
    written(tmp_path / "two" / "copy.jsonl", HALF[0], row("0.9", -1, "other"))
    with pytest.raises(ValueError, match="tuned_on is 'math', and 'copy' has solutions of it"):
        ProcessBench(path=str(tmp_path / "two"), tuned_on="math", template=BARE).cases(TOKENIZER)
    with pytest.raises(ValueError, match=r"tuned_on is 'mth'; .* \['copy', 'math'\]"):
        ProcessBench(path=str(tmp_path / "two"), tuned_on="mth", template=BARE).cases(TOKENIZER)


def test_what_has_no_score_is_counted_and_no_error(tmp_path: Path) -> None:
    rows = [*HALF, row("0.9 ?", 1), row("?", -1)]
    found = figures(ProcessBench(path=str(written(tmp_path / "math.jsonl", *rows)), template=BARE))
    assert (found["math/f1"], found["math/cases"], found["math/failures"]) == (
        pytest.approx(0.75), 7, 2,
    )  # fmt: skip
    lost = [row("0.9 ?", 1), row("0.9", -1)]
    with pytest.raises(ValueError, match="of 'b' 0 solutions with an error have scores and 1 with"):
        figures(ProcessBench(path=str(written(tmp_path / "b.jsonl", *lost)), template=BARE))


def test_steps_are_read_as_a_policy_writes_them(tmp_path: Path) -> None:
    tokenizer = byte_level_tokenizer()
    path = str(written(tmp_path / "math.jsonl", row("0.9 0.2", 1, "1+2?"), row("0.9", -1)))
    case, _ = ProcessBench(path=path, template=BARE).cases(tokenizer)
    [rollout] = case.rollouts
    assert (rollout.prompt.text, rollout.completion.text) == ("1+2?\n", "s0 0.9\ns1 0.2")
    assert [rollout.step_text(k) for k in range(2)] == ["s0 0.9\n", "s1 0.2"]
    assert rollout.completion.token_ids[-1] == tokenizer.eos_token_id
    assert (rollout.rollout_id, case.subset, case.first_error) == ("math/1+2?-1", "math", 1)
    assert rollout.prompt.meta["problem"] == "1+2?"  # which PRMs' layouts read


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": 2}, r"line 1, field 'label': is 2; it must be the index of one of the 2 steps"),
        ({"label": None}, "field 'label': is None"),
        ({"label": True}, "field 'label': is True"),
        ({"label": -2}, "or -1 where none is wrong"),
        ({"steps": []}, r"field 'steps': is \[\]; it must be a list of at least one step"),
        ({"steps": ["a", ""]}, r"field 'steps\.1': empty"),
        ({"problem": None}, "field 'problem'"),
    ],
)
def test_a_row_that_does_not_fit_is_named(
    change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    path = written(tmp_path / "a.jsonl", {**row("0.9 0.1", 1), **change}, row("0.9", -1))
    with pytest.raises(ValueError, match=message):
        ProcessBench(path=str(path), template=BARE).cases(TOKENIZER)


def test_what_cannot_be_measured_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"benchmarks\.path is ''"):
        ProcessBench(path="")
    with pytest.raises(ValueError, match=r"threshold is 1\.5; the largest valid value is 1"):
        ProcessBench(path="x", threshold=1.5)
    written(tmp_path / "math.jsonl", row("0.9", 0))
    with pytest.raises(ValueError, match="'math' has no solution without an error"):
        ProcessBench(path=str(tmp_path), template=BARE).cases(TOKENIZER)
    with pytest.raises(ValueError, match=r"has 'gsm8k'; .* has \['math'\]"):
        ProcessBench(path=str(tmp_path), subsets=("gsm8k",)).cases(TOKENIZER)
    with pytest.raises(ValueError, match=r"no such file or folder; did you mean '.*math\.jsonl'"):
        ProcessBench(path=str(tmp_path / "mat.jsonl")).cases(TOKENIZER)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"a folder without a \.jsonl, \.json or \.parquet file"):
        ProcessBench(path=str(tmp_path / "empty")).cases(TOKENIZER)
