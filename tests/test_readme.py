"""What the README shows works as shown."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from rlstep.cli import load_recipe
from rlstep.tasks.arithmetic import arithmetic_tokenizer
from rlstep.tensors.batching import collate, count
from rlstep.types import OutcomeScore, Pair, PairSamples, Verdict
from tests.builders import make_sequence
from tests.scoring.processes.patient_pool import PatientPool

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


async def test_the_example_of_a_task_a_reward_and_a_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [code] = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    (tmp_path / "mine.py").write_text(code)
    monkeypatch.setattr(sys, "path", [str(ROOT / "recipes"), *sys.path])
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    config = load_recipe(str(tmp_path / "mine.py"))

    prompts = config.task.load(arithmetic_tokenizer(), config.max_prompt_tokens)
    assert len(prompts.train) == 80 and prompts.evaluation[0].answer == "4"

    with PatientPool(config.verifier, workers=1) as pool:  # in a process of its own
        verdicts = await pool.verify([("2*2=4\n#4", "4"), ("2*2=4\n#5", "4"), ("\n\n\n#4", "4")])
    assert [v.verdict for v in verdicts if isinstance(v, OutcomeScore)] == [
        Verdict.CORRECT,
        Verdict.WRONG,
        Verdict.WRONG,
    ]

    sequences = (make_sequence("a", [1, 1]), make_sequence("b", [1, 1]))
    pair = Pair(
        chosen=0,
        rejected=1,
        shared_prefix=1,
        chosen_score=1.0,
        rejected_score=0.0,
        provenance="test",
    )
    samples = PairSamples(sequences=sequences, pairs=(pair,), groups=1)
    zeros = [np.zeros(3, np.float32)] * 2
    batch = collate(samples, zeros, zeros)
    # beta 0.1; the chosen side 2 nats up, the rejected 3 down: hinge 1 - 0.1 (2 - -3) = 0.5
    predictions = torch.tensor([[0.0, 1.0, 1.0], [0.0, -1.0, -2.0]])
    assert config.loss(predictions, batch, count(samples)).loss.item() == pytest.approx(0.5)


def test_every_path_in_the_readme_exists() -> None:
    mentioned = set(re.findall(r"(?:rlstep|recipes|tests|cluster)/[\w./]+", README))
    missing = {path for path in mentioned if not (ROOT / path.rstrip("./")).exists()}
    assert missing <= {"recipes/mine.py", "recipes/x.py"}


def test_no_figure_is_left_to_fill_in() -> None:
    assert "@@" not in README


def test_the_map_shows_every_room_and_nothing_else() -> None:
    [drawn] = re.findall(r"```\nrlstep/\n.*?```", README, re.DOTALL)
    shown, path = set(), [""] * 4
    for line in drawn.splitlines()[1:-1]:
        indent, name = re.findall(r"^( *)(\S+)", line)[0]
        if len(indent) > 4:
            continue  # the line before goes on
        depth = len(indent) // 2
        path[depth:] = [name]
        shown.add("".join(path[: depth + 1]))
    tracked = {path.relative_to(ROOT) for path in (ROOT / "rlstep").rglob("*.py")}
    loose = {str(path) for path in tracked if len(path.parts) == 2} - {"rlstep/__init__.py"}
    rooms = {f"{path.parent}/" for path in tracked}
    there = loose | rooms | {"recipes/", "recipes/studies/", "recipes/policies/"}
    assert shown == there | {"tests/", "cluster/"}
