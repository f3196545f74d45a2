"""What the recipes of two tasks share: arithmetic and logic, one tokenizer, the shipped policies.

`policies/both` has three of one architecture: `base`, which solves both tasks in part, and its
children `arithmetic` and `logic`. `both_sft.py` made them.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import arithmetic_base
import logic_process_grpo

from rlstep.tasks.arithmetic import ALPHABET
from rlstep.tasks.logic import PATTERN, TOKENS
from rlstep.tasks.synthetic import closed_tokenizer

POLICIES = Path(__file__).resolve().parent / "policies" / "both"
BASE = str(POLICIES / "base")
ARITHMETIC = replace(arithmetic_base.TASK, operations=5)
LOGIC = logic_process_grpo.TASK
TASKS = {"arithmetic": ARITHMETIC, "logic": LOGIC}
"""What is measured: those of the tasks' own recipes, arithmetic with shorter chains."""
LEVELS = {
    "arithmetic": tuple(replace(ARITHMETIC, operations=n) for n in (3, 5, 7)),
    "logic": tuple(replace(LOGIC, premises=n) for n in (2, 3)),
}
"""What the policies were trained on, the hardest last."""


def both_tokenizer() -> Any:
    """A transformers PreTrainedTokenizerFast for problems and solutions of both tasks.

    Logic's tokens, with the ids that they have there, then the characters that arithmetic has
    beside them.
    """
    return closed_tokenizer([*TOKENS, *(c for c in ALPHABET if c not in TOKENS)], PATTERN)
