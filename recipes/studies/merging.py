"""Two children of one base, merged: what each merge solves of both tasks.

    python recipes/studies/merging.py [--problems 256]

Greedy accuracy on problems that nothing was trained on, by transformers alone, of the joint
policy's base and children (`recipes/policies/both`) and of their merges by every method and scale.
Every merge is what `rlstep merge` writes. One standard error of 50 % of 256 problems is 3 points.
"""

import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import tyro

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the recipes

from both_base import POLICIES, TASKS
from logic_process_grpo import config as logic_recipe

from rlstep.commands.merge import main as merge
from rlstep.interfaces import Verifier
from rlstep.tasks.arithmetic import AnswerLine
from rlstep.types import Prompt, Verdict

VERIFIERS: dict[str, Verifier] = {"arithmetic": AnswerLine(), "logic": logic_recipe().verifier}
SCALES = (0.3, 0.5, 1.0)
CHILDREN = [str(POLICIES / name) for name in TASKS]


def merges() -> Iterator[tuple[str, list[str]]]:
    """Names of the merges, and what `rlstep merge` is given for them."""
    yield "average", ["--method", "Average"]
    for method in ("TaskArithmetic", "Awd"):
        for scale in SCALES:
            yield f"{method} {scale:g}", ["--method", method, "--scale", str(scale)]


def accuracy(folder: str, name: str, problems: int) -> float:
    """The share of a task's evaluation problems that a model solves greedily."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    prompts = replace(TASKS[name], train=0, evaluation=problems).load(tokenizer, 64).evaluation
    batch = tokenizer([prompt.text for prompt in prompts], return_tensors="pt", padding=True)
    with torch.no_grad():
        out = model.generate(
            input_ids=batch["input_ids"],
            attention_mask=batch["attention_mask"],
            max_new_tokens=72,
            do_sample=False,
        )
    completions = out[:, batch["input_ids"].shape[1] :]
    texts = tokenizer.batch_decode(completions, skip_special_tokens=True)
    return sum(map(right, [name] * len(texts), texts, prompts)) / len(prompts)


def right(name: str, text: str, prompt: Prompt) -> bool:
    return VERIFIERS[name].verify(text, prompt.answer).verdict is Verdict.CORRECT


def main(problems: int = 256) -> None:
    """Print a table.

    Args:
        problems: of each task.
    """
    rows = {"base": str(POLICIES / "base"), **dict(zip(TASKS, CHILDREN, strict=True))}
    with tempfile.TemporaryDirectory() as folder:
        for name, options in merges():
            rows[name] = str(Path(folder) / name)
            merge([rows["base"], *CHILDREN, "--out", rows[name], *options])
        print(f"| {'model':<18} | arithmetic | logic  | mean   |\n|---|---|---|---|")
        for name, model in rows.items():
            found = [accuracy(model, task, problems) for task in TASKS]
            shown = " | ".join(f"{100 * value:5.1f}%" for value in (*found, sum(found) / 2))
            print(f"| {name:<18} | {shown} |", flush=True)


if __name__ == "__main__":
    tyro.cli(main)
