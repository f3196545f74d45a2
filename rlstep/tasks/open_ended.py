"""Problems of which some, or all, have no answer that a rule could compare."""

from __future__ import annotations

from dataclasses import dataclass

from rlstep.tasks.jsonl import Jsonl
from rlstep.tasks.rows import Row


@dataclass(frozen=True, kw_only=True)
class OpenEnded(Jsonl):
    """Rows that may leave their answer out: a judge decides over them, by the row's other columns.

    Any column can say which judge takes a row, by the judges' routes: `scorer`, `domain`, ... A row
    that no judge takes is the verifier's and needs its answer, as does one for a judge that is
    shown the truth; a row for a `ReferenceJudge` needs the column `reference`, the completion to
    compare with. A row over which nobody can decide is refused when the run is prepared.
    """

    def reference(self, row: Row) -> str:
        """'' where the answer is missing, null or empty."""
        if row.values.get(self.answer_column) in (None, ""):
            return ""
        return super().reference(row)
