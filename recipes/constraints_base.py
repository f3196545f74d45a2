"""What the recipes on instructions with constraints share: the task, the policy that ships, and
what it is asked where it judges and refines."""

from pathlib import Path

from rlstep.tasks.constraints import Constraints

POLICY = str(Path(__file__).resolve().parent / "policies" / "constraints")
"""Shipped; `constraints_sft.py` made it."""
TASK = Constraints(levels=(0, 1, 2))
LONGEST_PROBLEM = 32
"""Tokens."""
JUDGE = "judge\n{problem}\n{solution}\nVerdict: CORRECT or Verdict: WRONG\n"
REFINE = "refine\n{problem}\n{solution}\n{judgment}\n"
