"""Math-Shepherd's rows: where its signs go, and which rows are none."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from rlstep.examples.math_shepherd import MathShepherd
from rlstep.scoring.step_models.math_shepherd import MathShepherdLayout
from rlstep.tensors.templates import PromptTemplate
from tests.examples.test_judged_steps import BYTES, MISTRAL, labels, only, written

INPUT = "Add 2+3. Step 1: 2+3=6 ки\nStep 2: The answer is: 6 ки"
ROW = {"input": INPUT, "label": INPUT.replace("ки", "+", 1).replace("ки", "-"), "task": "GSM8K"}
BARE = PromptTemplate(chat=False, text="{problem}\n")


def test_a_sign_is_the_label_of_the_step_that_it_ends(tmp_path: Path) -> None:
    samples = only(MathShepherd(path=written(tmp_path, ROW), template=BARE))
    [sequence] = samples.sequences
    spoken = [
        BYTES.decode(sequence.token_ids[sequence.step_index == k].tolist()) for k in (-1, 0, 1)
    ]
    assert spoken == ["Add 2+3.\n", "Step 1: 2+3=6\n", "Step 2: The answer is: 6<|im_end|>"]
    ends = [int(np.flatnonzero(sequence.step_index == k)[-1]) for k in (0, 1)]
    assert labels(samples) == {ends[0]: (1.0, 1.0), ends[1]: (0.0, 1.0)}


def test_its_own_layout_gives_its_own_text_back(tmp_path: Path) -> None:
    samples = only(
        MathShepherd(path=written(tmp_path, ROW), layout=MathShepherdLayout()), tokenizer=MISTRAL
    )
    [sequence] = samples.sequences
    assert sequence.token_ids.tolist() == [1, *MISTRAL.encode(INPUT, add_special_tokens=False)]
    # ' ки' is token 12902 (see test_layouts.py), and it is where the labels stand.
    tags = np.flatnonzero(sequence.token_ids == 12902).tolist()
    assert labels(samples) == {tags[0]: (1.0, 1.0), tags[1]: (0.0, 1.0)}


def test_rows_whose_problem_is_unclear_are_left_out_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tagged = {**ROW, "input": f"Add ки {INPUT}", "label": f"Add + {ROW['label']}"}
    unnumbered = {**ROW, "input": "Add 2+3. 5 ки", "label": "Add 2+3. 5 +"}
    path = written(tmp_path, ROW, tagged, unnumbered)
    with caplog.at_level(logging.WARNING):
        assert len(only(MathShepherd(path=path)).sequences) == 1
    assert (
        f"{path}: 2 left out, no 'Step 1:' stands before the first tag; the first:" in caplog.text
    )
    assert f"{path}, line 2" in caplog.text


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"label": ROW["label"][:-1]}, "field 'label': .* at the end of step 2 it reads"),
        ({"label": ROW["label"].replace("2+3=6", "2+3=5")}, "'label': .* at the end of step 1"),
        ({"label": INPUT}, "'label': is not 'input' with '\\+' or '-' for its tags"),
        ({"input": INPUT + " so"}, "field 'input': ends with ' so'; a step ends with the tag"),
        ({"input": "Add. Step 1: 5"}, "field 'input': ends with 'Add. Step 1: 5'"),
        ({"input": "Step 1: 5 ки", "label": "Step 1: 5 +"}, "'input': has no problem before"),
        ({"input": "Add. Step 1: 5 ки ки", "label": "Add. Step 1: 5 + +"}, "its step 2 is empty"),
        ({"input": None}, "field 'input': None is no string"),
    ],
)
def test_a_row_that_does_not_fit_is_named(
    change: dict[str, str | None], words: str, tmp_path: Path
) -> None:
    path = written(tmp_path, ROW, {**ROW, **change})
    with pytest.raises(ValueError, match=f"line 2, .*{words}"):
        list(MathShepherd(path=path).batches(BYTES, 0))
