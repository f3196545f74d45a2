"""What the recipes of question generation share: the numbers of their problems, and the policy."""

from pathlib import Path

from rlstep.tasks.arithmetic import Arithmetic
from rlstep.tasks.arithmetic_writing import ArithmeticWriting

POLICY = str(Path(__file__).resolve().parent / "policies" / "questions")
PROBLEMS = Arithmetic(largest_operand=9, largest_factor=9, limit=99)
WRITING = ArithmeticWriting(problems=PROBLEMS, levels=10)
