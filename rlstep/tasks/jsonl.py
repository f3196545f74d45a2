"""Problems with checkable answers from a .jsonl file or a Hugging Face dataset."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from itertools import islice
from typing import Literal

import numpy as np

from rlstep.checks import at_least
from rlstep.interfaces import PromptSet, Task, Tokenizer
from rlstep.tasks.rows import Row, read_dataset, read_jsonl
from rlstep.tensors.templates import PromptEncoder, PromptTemplate
from rlstep.types import Prompt


@dataclass(frozen=True, kw_only=True)
class Jsonl(Task):
    """One problem per row. GSM8K and MATH are cases of it.

    A prompt_id is the row's own, or a hash of the problem: the same problem is the same prompt,
    whichever file or line it stands in, so none can be in training and evaluation at once.
    A prompt's meta holds the source row, `problem` (the bare problem, or the last message) and
    `suffix` (the template's), and `truncated_from`, its length in tokens, if it was truncated.
    """

    path: str
    """Training problems: a local file if it ends in '.jsonl' or '.jsonl.gz', else a Hugging Face
    dataset id."""
    evaluation: str = ""
    """Evaluation problems, likewise. Either this or `held_out`, or no evaluation."""
    held_out: int = 0
    """So many of the training problems are for evaluation instead, chosen by a hash of their id."""
    limit: int = 0
    """Only the first rows of each source; 0 takes all."""
    subset: str = ""
    """Configuration of a Hugging Face dataset ('main' for openai/gsm8k)."""
    split: str = "train"
    """Split of a Hugging Face dataset."""
    evaluation_split: str = "test"
    prompt_column: str = "prompt"
    """Holds the problem as a string, or a conversation: [{"role": ..., "content": ...}, ...]."""
    answer_column: str = "answer"
    """Holds the reference answer, a string or a number."""
    id_column: str = ""
    """Holds the prompt_id; '' takes a hash of the problem."""
    template: PromptTemplate = PromptTemplate()
    too_long: Literal["drop", "truncate"] = "drop"
    """What happens to a prompt of more than max_prompt_tokens: it is left out (and counted as
    'too_long'), or its last max_prompt_tokens tokens are kept."""

    def __post_init__(self) -> None:
        at_least("task.held_out", self.held_out, 0)
        at_least("task.limit", self.limit, 0)
        if self.held_out and self.evaluation:
            raise ValueError(
                f"task.held_out is {self.held_out} and task.evaluation {self.evaluation!r}; "
                "the nearest valid value of task.held_out is 0"
            )

    def reference(self, row: Row) -> str:
        """The reference answer of a row.

        Raises:
            ValueError: it has none; the message names file, line and field.
        """
        return row.number_or_text(self.answer_column)

    def load(self, tokenizer: Tokenizer, max_prompt_tokens: int) -> PromptSet:
        """Read, check and tokenize every row; see Task.load for errors."""
        at_least("max_prompt_tokens", max_prompt_tokens, 1)
        encoder = PromptEncoder(self.template, tokenizer)
        rows: dict[str, Row] = {}
        train_ids = self._read(self.path, self.split, rows)
        evaluation_ids = []
        if self.evaluation:
            evaluation_ids = self._read(self.evaluation, self.evaluation_split, rows)
        every = {i: self._prompt(i, row, encoder, max_prompt_tokens) for i, row in rows.items()}
        train = [prompt for i in train_ids if (prompt := every[i])]
        evaluation = [prompt for i in evaluation_ids if (prompt := every[i])]
        if self.held_out:
            train, evaluation = self._hold_out(train)
        too_long = sum(prompt is None for prompt in every.values())
        dropped = {"too_long": too_long} if too_long else {}
        return PromptSet(train=train, evaluation=evaluation, dropped=dropped)

    def _read(self, path: str, split: str, rows: dict[str, Row]) -> list[str]:
        """Add a source's rows by prompt_id, and list those."""
        local = path.endswith((".jsonl", ".jsonl.gz"))
        source = read_jsonl(path) if local else read_dataset(path, self.subset, split)
        ids = []
        for row in islice(source, self.limit or None):
            ids.append(self._id(row))
            first = rows.setdefault(ids[-1], row)
            if first is not row:
                column = self.id_column or self.prompt_column
                raise row.error(column, f"repeats that of {first.source}, line {first.line}")
        if not ids:
            raise ValueError(f"{path}: has no rows")
        return ids

    def _id(self, row: Row) -> str:
        if self.id_column:
            return row.number_or_text(self.id_column)
        value = row.value(self.prompt_column)
        return _digest(repr(value) if isinstance(value, list) else row.text(self.prompt_column))

    def _prompt(
        self, prompt_id: str, row: Row, encoder: PromptEncoder, max_prompt_tokens: int
    ) -> Prompt | None:
        """None if it is too long and such prompts are dropped."""
        answer = self.reference(row)
        if isinstance(row.value(self.prompt_column), list):
            messages = self._messages(row, encoder)
            problem, ids = messages[-1]["content"], encoder.conversation(messages)
        else:
            problem = row.text(self.prompt_column)
            try:
                ids = encoder.problem(problem)
            except Exception as error:  # all that the tokenizers library (0.22) raises
                raise row.error(self.prompt_column, f"cannot be tokenized: {error}") from error
        meta = {**row.values, "problem": problem, "suffix": self.template.suffix}
        if len(ids) > max_prompt_tokens:
            if self.too_long == "drop":
                return None
            meta["truncated_from"] = len(ids)
            ids = ids[-max_prompt_tokens:]
        return Prompt(
            prompt_id=prompt_id,
            token_ids=np.array(ids, np.int32),
            text=encoder.decode(ids),
            answer=answer,
            meta=meta,
        )

    def _messages(self, row: Row, encoder: PromptEncoder) -> list[dict[str, str]]:
        column, messages = self.prompt_column, row.value(self.prompt_column)
        if not encoder.chats:
            raise row.error(column, "a conversation needs a tokenizer with a chat template")
        for message in messages:
            if not isinstance(message, dict):
                raise row.error(column, f"the message {message!r} is no object")
            for key in ("role", "content"):
                row.checked(f"{column}.{key}", message.get(key))
        if not messages or messages[-1]["role"] == "assistant":
            raise row.error(column, "the last message must ask for an answer")
        return [{"role": m["role"], "content": m["content"]} for m in messages]

    def _hold_out(self, prompts: list[Prompt]) -> tuple[list[Prompt], list[Prompt]]:
        if self.held_out >= len(prompts):
            raise ValueError(
                f"task.held_out is {self.held_out} of {len(prompts)} problems; the largest valid "
                f"value is {max(len(prompts) - 1, 0)}"
            )
        chosen = set(sorted((p.prompt_id for p in prompts), key=_digest)[: self.held_out])
        return (
            [p for p in prompts if p.prompt_id not in chosen],
            [p for p in prompts if p.prompt_id in chosen],
        )


def _digest(text: str) -> str:
    return blake2b(text.encode(), digest_size=8).hexdigest()
