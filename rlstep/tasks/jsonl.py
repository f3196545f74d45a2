"""Problems with checkable answers from a local file or a Hugging Face dataset."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from rlstep.checks import at_least
from rlstep.interfaces import PromptSet, Task, Tokenizer
from rlstep.tasks.read_rows import read_rows
from rlstep.tasks.rows import Row, as_json, digest, problem_id
from rlstep.tasks.shots import SHOTS, Shots, Shown, last_keys
from rlstep.tensors.templates import PromptEncoder, PromptTemplate
from rlstep.types import Prompt


@dataclass(frozen=True, kw_only=True)
class Jsonl(Task):
    """One problem per row. GSM8K and MATH are cases of it.

    A prompt_id is the row's own, or a hash of the problem as a reader sees it (`rows.problem_id`;
    of a conversation its roles and contents): the same problem is the same prompt, whichever file
    or line it stands in and however it is spaced. None is in training and evaluation at once, nor
    is one whose rows have ids of their own.
    A prompt's meta holds the source row, `problem` (the bare problem, or the last message) and
    `suffix` (the template's), `truncated_from`, its length in tokens, if it was truncated, and
    `shots`, how many solved problems stand before it, if any do.
    """

    path: str
    """Training problems: a local file if it ends in '.jsonl', '.json', '.csv' ('.gz' may follow) or
    '.parquet', else a Hugging Face dataset id."""
    evaluation: str = ""
    """Evaluation problems, likewise. Either this or `held_out`, or no evaluation."""
    held_out: int = 0
    """So many of the training problems are for evaluation instead, chosen by a hash of them."""
    limit: int = 0
    """Only the first rows of each source; 0 takes all."""
    subset: str = ""
    """Configuration of a Hugging Face dataset ('main' for openai/gsm8k)."""
    split: str = "train"
    """Split of a Hugging Face dataset."""
    evaluation_split: str = "test"
    """Split of `evaluation`, where it is a Hugging Face dataset."""
    prompt_column: str = "prompt"
    """Holds the problem as a string, or a conversation: [{"role": ..., "content": ...}, ...]."""
    answer_column: str = "answer"
    """Holds the reference answer, a string or a number; a row where it is null is left out (and
    counted as 'no_answer'). A dot goes into a column: 'reward_model.ground_truth'."""
    id_column: str = ""
    """Holds the prompt_id; '' takes a hash of the problem."""
    repeated: Literal["refuse", "drop", "keep"] = "refuse"
    """What happens to a problem (or own id) that an earlier row has. 'drop': it is left out, and
    counted as 'repeated', or 'repeated_with_another_answer'. 'keep': it is another prompt, its id
    ends in '/2' ('/3', ...). With either, what stands in training and in evaluation is left out of
    training, and counted as 'in_evaluation'."""
    template: PromptTemplate = PromptTemplate()
    """What stands around the problem."""
    example_column: str = ""
    """Holds what a training problem is shown with where `template.shots` shows it: its solution; ''
    takes the reference answer. (The last ones by a hash are shown; a problem is never its own.)"""
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
        if self.template.shots and self.too_long == "truncate":
            raise ValueError(
                f"task.template.shots is {self.template.shots} and task.too_long 'truncate', which"
                " cuts examples off; the nearest valid value is 'drop'"
            )

    def reference(self, row: Row) -> str | None:
        """The reference answer of a row, or None where that is null.

        Raises:
            ValueError: it has none; the message names file, line and field.
        """
        if row.value(self.answer_column) is None:
            return None
        return row.number_or_text(self.answer_column)

    def load(self, tokenizer: Tokenizer, max_prompt_tokens: int) -> PromptSet:
        """Read, check and tokenize every row; see Task.load for errors."""
        at_least("max_prompt_tokens", longest := max_prompt_tokens, 1)
        dropped: Counter[str] = Counter()
        train = self._read(self.path, self.split, dropped)
        evaluation: list[_Problem] = []
        if self.evaluation:
            evaluation = self._read(self.evaluation, self.evaluation_split, dropped)
            train = self._apart(train, evaluation, dropped)
        encoder = PromptEncoder(self.template, tokenizer)
        writing = _Writing(encoder=encoder, longest=longest, shots=self._shots(train))
        fitting = [
            {p: prompt for p in part if (prompt := self._prompt(p, writing))}
            for part in (train, evaluation)
        ]
        dropped["too_long"] = len(writing.too_long)
        if self.evaluation and not fitting[1]:
            raise ValueError(
                f"task.evaluation is {self.evaluation!r}, and none of its problems is left; dropped"
                f" {dict(+dropped)} at max_prompt_tokens {longest}"
            )
        if self.held_out and fitting[0]:
            fitting = self._hold_out(fitting[0])
        self._check_shots(writing.shots, fitting[1])
        return PromptSet(
            train=list(fitting[0].values()),
            evaluation=list(fitting[1].values()),
            dropped=dict(+dropped),
            too_long=writing.too_long,
        )

    def _read(self, path: str, split: str, dropped: Counter[str]) -> list[_Problem]:
        """A source's problems, each with an id of its own; counts what is left out."""
        problems: dict[str, _Problem] = {}
        copies: Counter[str] = Counter()
        for row in read_rows(path, subset=self.subset, split=split, limit=self.limit):
            key = self._key(row)
            prompt_id = row.number_or_text(self.id_column) if self.id_column else key
            answer = self.reference(row)
            if answer is None:
                dropped["no_answer"] += 1
                continue
            copies[prompt_id] += 1
            if first := problems.get(prompt_id):
                if self.repeated == "refuse":
                    column = self.id_column or self.prompt_column
                    raise row.error(column, self._repeats(first.row))
                if self.repeated == "drop":
                    same = answer == first.answer
                    dropped["repeated" if same else "repeated_with_another_answer"] += 1
                    continue
                prompt_id = f"{prompt_id}/{copies[prompt_id]}"
            problems[prompt_id] = _Problem(prompt_id=prompt_id, key=key, answer=answer, row=row)
        return list(problems.values())

    def _apart(
        self, train: list[_Problem], evaluation: list[_Problem], dropped: Counter[str]
    ) -> list[_Problem]:
        """The training problems that are not for evaluation as well."""
        by_key = {problem.key: problem for problem in train}
        by_id = {problem.prompt_id: problem for problem in train}
        for problem in evaluation:
            same = by_key.get(problem.key)
            if same is None and problem.prompt_id in by_id:  # one id for two problems
                first = by_id[problem.prompt_id].row
                raise problem.row.error(self.id_column, f"repeats that of {first.place}")
            if same is not None and self.repeated == "refuse":
                raise problem.row.error(self.prompt_column, self._repeats(same.row))
        shared = {problem.key for problem in evaluation}
        kept = [problem for problem in train if problem.key not in shared]
        dropped["in_evaluation"] = len(train) - len(kept)
        return kept

    def _repeats(self, first: Row) -> str:
        return f"repeats that of {first.place}; task.repeated 'drop' leaves such rows out"

    def _key(self, row: Row) -> str:
        """What two rows of one problem have in common."""
        value = row.value(self.prompt_column)
        if not isinstance(value, list):
            return problem_id(row.text(self.prompt_column))
        messages = self._messages(row)
        if [m["role"] for m in messages] == ["user"]:
            return problem_id(messages[0]["content"])
        return problem_id(*(text for m in messages for text in (m["role"], m["content"])))

    def _shots(self, train: list[_Problem]) -> Shots:
        """Those of the training problems that are shown before others.

        Raises:
            ValueError: there are too few, or one has no solution; names its row and column.
        """
        if not (number := self.template.shots):
            return Shots(number=0)
        first = {problem.key: problem for problem in reversed(train)}
        chosen = [first[key] for key in last_keys(list(first), number)]
        shown = [Shown(key=p.key, worked=(self._text(p.row), self._worked(p))) for p in chosen]
        return Shots(number=number, pool=tuple(shown))

    def _text(self, row: Row) -> str:
        if isinstance(row.value(self.prompt_column), list):
            why = "a conversation cannot be shown before another; template.shots must be 0"
            raise row.error(self.prompt_column, why)
        return row.text(self.prompt_column)

    def _worked(self, problem: _Problem) -> str:
        if self.example_column:
            return problem.row.text(self.example_column)
        if not problem.answer.strip():
            raise problem.row.error(self.answer_column, "is empty; template.shots has to show it")
        return problem.answer

    def _check_shots(self, shots: Shots, evaluation: Mapping[_Problem, Prompt]) -> None:
        """Refuse to ask what is shown."""
        asked = {problem.key for problem in evaluation}
        if any(shown.key in asked for shown in shots.pool):
            raise ValueError(
                f"task.template.shots is {shots.number} and task.held_out {self.held_out}: what is"
                " held out would be shown; fewer of one of the two are valid"
            )

    def _prompt(self, problem: _Problem, writing: _Writing) -> Prompt | None:
        """None, and its length noted, if it is too long and such prompts are dropped."""
        row, encoder, longest = problem.row, writing.encoder, writing.longest
        if isinstance(row.value(self.prompt_column), list):
            if not encoder.chats:
                needed = "a conversation needs a tokenizer with a chat template"
                raise row.error(self.prompt_column, needed)
            messages = self._messages(row)
            text, ids = messages[-1]["content"], encoder.conversation(messages)
        else:
            text = row.text(self.prompt_column)
            try:
                ids = encoder.problem(text, writing.shots.before(problem.key))
            except Exception as error:  # all that the tokenizers library (0.22) raises
                raise row.error(self.prompt_column, f"cannot be tokenized: {error}") from error
        meta = {**as_json(row.values), "problem": text, "suffix": self.template.suffix}
        if self.template.shots:
            meta[SHOTS] = self.template.shots
        if len(ids) > longest:
            if self.too_long == "drop":
                writing.too_long.append(len(ids))
                return None
            meta["truncated_from"] = len(ids)
            ids = ids[-longest:]
        return Prompt(
            prompt_id=problem.prompt_id,
            token_ids=np.array(ids, np.int32),
            text=encoder.decode(ids),
            answer=problem.answer,
            meta=meta,
        )

    def _messages(self, row: Row) -> list[dict[str, str]]:
        column, messages = self.prompt_column, row.value(self.prompt_column)
        for message in messages:
            if not isinstance(message, dict):
                raise row.error(column, f"the message {message!r} is no object")
            for key in ("role", "content"):
                row.checked(f"{column}.{key}", message.get(key))
        if not messages or messages[-1]["role"] == "assistant":
            raise row.error(column, "the last message must ask for an answer")
        return [{"role": m["role"], "content": m["content"]} for m in messages]

    def _hold_out(self, prompts: dict[_Problem, Prompt]) -> list[dict[_Problem, Prompt]]:
        """Training and evaluation; every row of one problem is on one side."""
        names = {p.key: p.prompt_id for p in reversed(prompts)}
        if self.held_out >= len(names):
            raise ValueError(
                f"task.held_out is {self.held_out} of {len(names)} problems; the largest valid"
                f" value is {max(len(names) - 1, 0)}"
            )
        chosen = set(sorted(names, key=lambda key: digest(names[key]))[: self.held_out])
        return [
            {p: prompt for p, prompt in prompts.items() if (p.key in chosen) == held_out}
            for held_out in (False, True)
        ]


@dataclass(frozen=True, kw_only=True)
class _Writing:
    """What makes prompts of problems."""

    encoder: PromptEncoder
    longest: int
    """Most tokens of a prompt."""
    shots: Shots
    too_long: list[int] = field(default_factory=list)
    """Lengths of the prompts that were left out for theirs."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Problem:
    """A row that is a prompt to be."""

    prompt_id: str
    key: str
    """The same for every row of the problem."""
    answer: str
    row: Row
