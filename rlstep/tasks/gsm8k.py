"""GSM8K: grade-school word problems (Cobbe et al. 2021, arXiv:2110.14168)."""

from __future__ import annotations

from dataclasses import dataclass

from rlstep.tasks.jsonl import Jsonl
from rlstep.tasks.rows import Row


@dataclass(frozen=True, kw_only=True)
class Gsm8k(Jsonl):
    """Rows of `question` and `answer`, a worked solution with the reference after '####'.

    `path` is a file in that form, or 'openai/gsm8k' with `subset` 'main'.
    """

    prompt_column: str = "question"
    example_column: str = "answer"

    def reference(self, row: Row) -> str | None:
        if row.value(self.answer_column) is None:
            return None
        _, mark, reference = row.text(self.answer_column).rpartition("####")
        if not mark or not reference.strip():
            raise row.error(self.answer_column, "has no reference answer after '####'")
        return reference.strip()
