"""HumanEval: 164 Python functions to complete (Chen et al. 2021, arXiv:2107.03374)."""

from __future__ import annotations

from dataclasses import dataclass

from rlstep.scoring.programs.code_tests import Tests
from rlstep.tasks.jsonl import Jsonl
from rlstep.tasks.rows import Row


@dataclass(frozen=True, kw_only=True)
class HumanEval(Jsonl):
    """Rows of `prompt` (a signature and its docstring), `test` and `entry_point`, for CodeTests.

    `path` is a file in that form, or 'openai/openai_humaneval'. HumanEval itself has one split and
    is small: `held_out` sets some of its problems apart, by a hash of their `task_id`.
    """

    split: str = "test"
    id_column: str = "task_id"
    example_column: str = "canonical_solution"
    test_column: str = "test"
    """Holds the program that tests it."""
    entry_point_column: str = "entry_point"
    """Holds the name of the function that is tested."""

    def reference(self, row: Row) -> str:
        """The tests, as `Tests.answer` writes them."""
        entry_point = row.text(self.entry_point_column)
        if not entry_point.isidentifier():
            raise row.error(self.entry_point_column, f"{entry_point!r} is no Python name")
        tests = Tests(
            test=row.text(self.test_column),
            entry_point=entry_point,
            setup=row.text(self.prompt_column),
        )
        return tests.answer()
