r"""Instructions with constraints that are checked exactly: made, not downloaded.

A problem is what a few words must be like, and any answer that meets all of it is right:

    exactly 3 words; moon before sea; without fish; separated by commas

    moon, hill, sea

The words are few and closed, so that a tiny policy can follow instructions of the verifiable kind
of IFEval (Zhou et al. 2023, arXiv:2311.07911): length, keywords, format, order, how an answer
starts and ends. What can be asked stands in `scoring/answers/constraints_met.py`.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from rlstep.checks import at_least, between
from rlstep.interfaces import PromptSet, Task, Tokenizer
from rlstep.scoring.answers.constraints_met import COMMA, LINE, SEPARATORS, SPACE
from rlstep.tasks.synthetic import closed_tokenizer, fitting
from rlstep.types import Prompt

WORDS = (
    *("sun", "sea", "moon", "tree", "fish", "bird", "wind", "rain"),
    *("leaf", "wolf", "hill", "lamp", "river", "stone", "cloud", "grass"),
)
BETWEEN = "; "
"""Between the constraints of a problem."""
SHORTEST, LONGEST = 2, 6
"""Words of an answer that a problem is made from."""
HIGHEST_LEVEL = 5
REPEATED = 10_000
"""Draws one after the other that give nothing new, after which a task has too few problems."""

_PHRASES = (
    *("exactly ", " words", "at most ", " letters", "with ", "without ", " before "),
    *("starts with ", "ends with ", "no word twice", "separated by commas", "one word a line"),
)
_TAGS = [f"{tag}{name}-#>" for name in ("problem", "solution", "judgment") for tag in ("<", "</")]
"""Tags around texts (`judgment_text.render`) whatever their number, as a token each."""
_UNREADABLE = "?"
MET, MISSED = ": met", ": missed"
"""What a judgment says of a constraint."""
_ROLES = (
    *("judge", "refine", "Verdict: ", "CORRECT", "WRONG", " or ", MET, MISSED, _UNREADABLE),
    *_TAGS,
)
"""What a policy reads and writes where it judges and refines, beside problems and answers."""
_FORMATS = {COMMA: "separated by commas", LINE: "one word a line"}


def constraints_tokenizer() -> Any:
    """A transformers PreTrainedTokenizerFast for problems, answers, judgments and the tags around
    them. Words and phrases are tokens; anything else raises.

    A tag's number is left out, so that a tiny policy need not read it: `<problem-0a1b2c3d>` is the
    token `<problem-#>`. Where a policy itself has written that token it becomes `?`, so that still
    no text can close its own tags.
    """
    from tokenizers import Regex, normalizers

    phrases = sorted([*_PHRASES, *_ROLES, *WORDS, BETWEEN, COMMA], key=len, reverse=True)
    pattern = "|".join([*map(re.escape, phrases), r"[\s\S]"])
    tokenizer = closed_tokenizer([*phrases, SPACE, LINE, *"0123456789"], pattern)
    tokenizer.backend_tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.Replace(Regex("|".join(_TAGS)), _UNREADABLE),
            normalizers.Replace(Regex("-[0-9a-f]{8}>"), "-#>"),
        ]
    )
    return tokenizer


@dataclass(frozen=True, kw_only=True)
class Constraints(Task):
    """Instructions about a few words, to be followed to the letter (see the module).

    A problem of level k, `meta['level']`, has k + 2 constraints, of as many kinds. They are read
    off an answer, so that every problem has one; it is the reference answer. Which split a problem
    is of follows from its constraints in any order, so no seed or size moves one across.
    `meta['constraints']` is what `ConstraintsMet` checks, `meta['problem']` the problem in a line,
    which is the prompt_id as well.
    """

    levels: tuple[int, ...] = (0, 1, 2)
    """Of the problems, as many of each."""
    train: int = 4096
    """Number of training problems."""
    evaluation: int = 512
    """Number of evaluation problems."""
    seed: int = 0
    """Which problems are drawn."""

    def __post_init__(self) -> None:
        for level in self.levels:
            between("task.levels", level, 0, HIGHEST_LEVEL)
        if not self.levels or len(set(self.levels)) < len(self.levels):
            raise ValueError(f"task.levels is {self.levels}; it must name levels, each once")
        at_least("task.train", self.train, 0)
        at_least("task.evaluation", self.evaluation, 0)

    def load(self, tokenizer: Tokenizer, max_prompt_tokens: int) -> PromptSet:
        """Make the problems. `dropped` counts those over `max_prompt_tokens` as 'too_long'.

        Raises:
            ValueError: there are not so many problems of a level.
        """
        train = self._prompts("train", self.train, tokenizer)
        evaluation = self._prompts("evaluation", self.evaluation, tokenizer)
        return fitting(train, evaluation, max_prompt_tokens)

    def _prompts(self, split: str, number: int, tokenizer: Tokenizer) -> list[Prompt]:
        return [
            prompt_of(constraints, answer, level, tokenizer)
            for level, constraints, answer in _drawn(self, split, number)
        ]


def prompt_of(constraints: Seq[str], answer: str, level: int, tokenizer: Tokenizer) -> Prompt:
    """The prompt of a problem.

    Args:
        answer: one that meets the constraints.
    """
    problem = BETWEEN.join(constraints)
    ids = tokenizer.encode(f"{problem}\n", add_special_tokens=False)
    meta = {"problem": problem, "constraints": list(constraints), "level": level}
    return Prompt(
        prompt_id=problem,
        token_ids=np.array(ids, np.int32),
        text=f"{problem}\n",
        answer=answer,
        meta=meta,
    )


@lru_cache(maxsize=4)
def _drawn(
    task: Constraints, split: str, number: int
) -> tuple[tuple[int, tuple[str, ...], str], ...]:
    """A split's (level, constraints, answer), the levels in turn. A run asks for them twice: to
    check them, and to begin."""
    rng = np.random.default_rng([task.seed, zlib.crc32(split.encode())])
    found: dict[tuple[str, ...], tuple[int, tuple[str, ...], str]] = {}
    repeated = 0
    while len(found) < number:
        level = task.levels[len(found) % len(task.levels)]
        constraints, answer = _problem(level, rng)
        key = tuple(sorted(constraints))
        if key in found:
            repeated += 1
            if repeated == REPEATED:
                raise ValueError(
                    f"task.{split} is {number}, but problems of level {level} repeat after"
                    f" {len(found)}; ask for fewer or for higher levels"
                )
        elif split_of(key) == split:
            repeated = 0
            found[key] = (level, constraints, answer)
    return tuple(found.values())


def split_of(constraints: Seq[str]) -> str:
    """Every eighth problem, by the hash of its constraints in any order, is for evaluation."""
    text = BETWEEN.join(sorted(constraints))
    return "evaluation" if zlib.crc32(text.encode()) % 8 == 0 else "train"


def _problem(level: int, rng: np.random.Generator) -> tuple[tuple[str, ...], str]:
    """Constraints of as many kinds, in any order, and the answer that they are read off."""
    while True:
        count = int(rng.integers(SHORTEST, LONGEST + 1))
        drawn = rng.choice(len(WORDS), count, replace=bool(rng.random() < 0.3))
        words = [WORDS[int(i)] for i in drawn]
        separator = SEPARATORS[int(rng.choice(3, p=(0.5, 0.25, 0.25)))]
        possible = list(_true_of(words, separator, rng))
        if len(possible) >= level + 2:
            chosen = rng.choice(len(possible), level + 2, replace=False)
            return tuple(possible[int(i)] for i in chosen), separator.join(words)


def _true_of(words: Seq[str], separator: str, rng: np.random.Generator) -> Iterator[str]:
    """One constraint of every kind that the answer meets."""
    yield f"exactly {len(words)} words"
    yield f"at most {sum(map(len, words)) + int(rng.integers(3))} letters"
    yield f"starts with {words[0]}"
    yield f"ends with {words[-1]}"
    yield f"with {words[int(rng.integers(len(words)))]}"
    others = [word for word in WORDS if word not in words]
    yield f"without {others[int(rng.integers(len(others)))]}"
    distinct = list(dict.fromkeys(words))
    if len(distinct) > 1:
        first, second = sorted(rng.choice(len(distinct), 2, replace=False))
        yield f"{distinct[first]} before {distinct[second]}"
    if len(distinct) == len(words):
        yield "no word twice"
    if separator in _FORMATS:
        yield _FORMATS[separator]
