"""Problems of which some, or all, have no answer that a rule could compare."""

from __future__ import annotations

from dataclasses import dataclass, replace

from rlstep.interfaces import PromptSet, Tokenizer
from rlstep.measuring.aggregate import Aggregate
from rlstep.tasks.best_of_n import best_of_n
from rlstep.tasks.jsonl import Jsonl
from rlstep.tasks.rows import Row


@dataclass(frozen=True, kw_only=True)
class OpenEnded(Jsonl):
    """Rows that may leave their answer out: a judge decides over them, by the row's other columns.

    Any column can say which judge takes a row, by the judges' routes: `scorer`, `domain`, ... A row
    that no judge takes is the verifier's and needs its answer, as does one for a judge that is
    shown the truth; a row for a `ReferenceJudge` needs the column `reference`, the completion to
    compare with, unless `references` has one. A row over which nobody can decide is refused when
    the run is prepared.
    """

    references: str = ""
    """The rollouts.jsonl of an earlier run on the same problems: the best of its first policy's
    samples of a problem is the reference completion of a row that has none (Shen et al. 2025,
    arXiv:2503.22230). One iteration over all problems is enough: --iterations 1,
    --rollouts.samples-per-prompt N, --prompts-per-iteration their number."""
    references_by: str = "prm"
    """The score in that file by which one is the best."""
    references_aggregate: Aggregate = "min"
    """One number from its step scores."""

    def load(self, tokenizer: Tokenizer, max_prompt_tokens: int) -> PromptSet:
        """See `Jsonl.load`. Raises, too: ValueError: `references` has no such file or score."""
        loaded = super().load(tokenizer, max_prompt_tokens)
        if not self.references:
            return loaded
        best = best_of_n(self.references, self.references_by, self.references_aggregate)
        train, evaluation = (
            [
                replace(prompt, meta={**prompt.meta, "reference": best[prompt.prompt_id]})
                if not prompt.meta.get("reference") and prompt.prompt_id in best
                else prompt
                for prompt in prompts
            ]
            for prompts in (loaded.train, loaded.evaluation)
        )
        return replace(loaded, train=train, evaluation=evaluation)

    def reference(self, row: Row) -> str:
        """'' where the answer is missing, null or empty."""
        if row.values.get(self.answer_column) in (None, ""):
            return ""
        return super().reference(row) or ""
