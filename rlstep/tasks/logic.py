r"""Chains of syllogisms about invented things, with an exact step oracle: made, not downloaded.

In the manner of MuseD (arXiv:2410.09528). A problem is its premises, in any order, and a question:

    No demuq are rafoq
    All bakoq are demuq
    Some wizeq are rafoq
    All wizeq are bakoq?

A solution has one deduction a line, the two statements that it takes before the colon, and ends
with the answer, which is yes, no (the contradictory follows) or unknown (neither does):

    Some wizeq are rafoq, No demuq are rafoq: Some wizeq are not demuq
    Some wizeq are not demuq, All bakoq are demuq: Some wizeq are not bakoq
    #no

Each deduction eliminates a middle term. Whether a line follows from what stands before it can be
told for any text, so the first wrong step is known exactly. The answer alone tells little: yes and
no differ in the words of the question (see `syllogism.blend`), and one in three is a lucky guess.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from itertools import pairwise
from typing import Any, ClassVar, TypeVar

import numpy as np

from rlstep.checks import at_least, between
from rlstep.interfaces import Labeller, PromptSet, RolloutContext, Task, Tokenizer
from rlstep.tasks.syllogism import (
    Statement,
    blend,
    conclusions,
    follows,
    premises_for,
    read,
    way,
)
from rlstep.tasks.synthetic import closed_tokenizer, fitting
from rlstep.types import Prompt, Rollout, StepScores

T = TypeVar("T")

ANSWER = "#"
NOTHING = "nothing"
YES, NO, UNKNOWN = ANSWERS = ("yes", "no", "unknown")
ANSWER_LINE = r"(?m)^#(yes|no|unknown)\Z"
"""For `ExactAnswer`: the last line of a solution."""

_CONSONANTS = "bdfgklmprstvwz"
_FIRST = [c + v for c in _CONSONANTS for v in "aeiou"]
_LAST = [c + v + "q" for c in _CONSONANTS for v in "eou"]
_WORDS = ["All ", "No ", "Some ", " are not ", " are ", ", ", ": ", NOTHING, *ANSWERS]
TOKENS = (*_WORDS, *"#?\n", *_FIRST, *_LAST)
"""What problems and solutions are written in: words, and a name is two syllables."""
PATTERN = "|".join(
    [*map(re.escape, _WORDS), f"[{_CONSONANTS}][eou]q|[{_CONSONANTS}][aeiou]", r"[\s\S]"]
)
"""For `closed_tokenizer`; what is neither word nor syllable is read by the character."""
_LINE = re.compile(r"(.+), (.+): (.+)")


def logic_tokenizer() -> Any:
    """A transformers PreTrainedTokenizerFast for problems and solutions.

    Words are tokens, and names are two: every syllable is seen in training, so a name that is not
    reads as well as one that is. Anything else raises.
    """
    return closed_tokenizer(TOKENS, PATTERN)


@cache
def names(split: str) -> tuple[str, ...]:
    """The invented names of 'train' or 'evaluation': every eighth, by its hash, is for evaluation.

    No problem of one split has a name of the other, whatever the seed and the size.
    """
    every = (first + last for first in _FIRST for last in _LAST)
    return tuple(n for n in every if (zlib.crc32(n.encode()) % 8 == 0) == (split == "evaluation"))


@dataclass(frozen=True)
class Problem:
    """Premises that connect their terms without a circle, and a question about two of the terms."""

    premises: tuple[Statement, ...]
    question: Statement

    def __str__(self) -> str:
        return "".join(f"{premise}\n" for premise in self.premises) + f"{self.question}?\n"

    @cached_property
    def chain(self) -> tuple[Statement, ...]:
        """The premises that lead from the question's subject to its predicate, in order.

        Whatever is to be said of the two follows from these or not at all.
        """
        found = way(self.premises, self.question.subject, self.question.predicate)
        assert found is not None, "nothing leads from the question's subject to its predicate"
        return tuple(found)


@lru_cache(maxsize=1 << 14)
def read_problem(text: str) -> Problem:
    """The problem that a prompt's text is.

    Raises:
        ValueError: it is none of this task.
    """
    *lines, last = text.removesuffix("?\n").split("\n")
    premises, question = [read(line) for line in lines], read(last)
    if text.endswith("?\n") and question is not None:
        problem = Problem(tuple(p for p in premises if p is not None), question)
        if len(problem.premises) == len(premises) and _has_one_way(problem):
            return problem
    raise ValueError(
        f"prompt.text is {text!r}; a logic problem has premises on lines like 'All bakoq are"
        " demuq', a question like 'Some bakoq are demuq?' and one way from its subject to its"
        " predicate, of two premises or more, beside which every premise is universal"
    )


def _has_one_way(problem: Problem) -> bool:
    """Whether the premises are a tree with a middle term to eliminate, and those beside the chain
    universal: a particular one says that its terms have members, which the chain does not know."""
    start, end = problem.question.subject, problem.question.predicate
    terms = {term for premise in problem.premises for term in premise.terms}
    if not {start, end} <= terms or len(terms) != len(problem.premises) + 1:
        return False
    if any(way(problem.premises, start, term) is None for term in terms):
        return False
    beside = set(problem.premises) - set(problem.chain)
    return len(problem.chain) > 1 and not any(premise.particular for premise in beside)


class Deduction:
    """What has been shown of one problem, line after line of a solution."""

    def __init__(self, problem: Problem) -> None:
        self._question = problem.question
        self._known = list(problem.premises)
        self._place = {problem.question.subject: 0}
        """Of the chain's terms, in their order."""
        for statement in problem.chain:
            (term,) = statement.terms - self._place.keys()
            self._place[term] = len(self._place)
        self._fruitless: set[frozenset[Statement]] = set()
        self._broken = False
        self._answered = False

    def read(self, line: str) -> bool:
        """Whether the next line is right. Later lines may use what it shows; a wrong one shows
        nothing. What has been shown before is wrong to show again, as is anything after the answer.
        """
        if self._answered:
            return False
        if line.startswith(ANSWER):
            self._answered = True
            return self.answer is not None and line == ANSWER + self.answer
        match = _LINE.fullmatch(line)
        if match is None:
            return False
        known = {str(statement): statement for statement in self._known}
        first, second = (known.get(match[side]) for side in (1, 2))
        if first is None or second is None:
            return False
        if match[3] == NOTHING:
            return self._ends(first, second)
        return self._shows(first, second, read(match[3]))

    @property
    def answer(self) -> str | None:
        """The answer that has been shown; None as long as it is open."""
        shown = {statement.meaning for statement in self._known}
        if self._question.meaning in shown:
            return YES
        if self._question.contradictory.meaning in shown:
            return NO
        # Of two terms at most one thing follows: here it is another one, or a gap in the chain.
        other = any(statement.terms == self._question.terms for statement in self._known)
        return UNKNOWN if other or self._broken else None

    @property
    def standing(self) -> int:
        """Middle terms that are left between subject and predicate: 0 once the answer is shown."""
        if self._broken:
            return 0
        along = [statement for statement in self._known if statement.terms <= self._place.keys()]
        shortest = way(along, self._question.subject, self._question.predicate)
        assert shortest is not None, "the premises themselves are a way"
        return len(shortest) - 1

    def _shows(self, first: Statement, second: Statement, conclusion: Statement | None) -> bool:
        if conclusion is None or not follows(first, second, conclusion):
            return False
        if conclusion.meaning in {statement.meaning for statement in self._known}:
            return False
        self._known.append(conclusion)
        return True

    def _ends(self, first: Statement, second: Statement) -> bool:
        """That nothing follows from two statements; on both sides of a term of the chain, then
        nothing leads across it."""
        pair = frozenset((first, second))
        shared = first.terms & second.terms
        if len(shared) != 1 or conclusions(first, second) or pair in self._fruitless:
            return False
        self._fruitless.add(pair)
        (middle,) = shared
        if first.terms | second.terms <= self._place.keys():
            one, other = (self._place[term] for term in first.terms ^ second.terms)
            if min(one, other) < self._place[middle] < max(one, other):
                self._broken = True
        return True


@dataclass(frozen=True, kw_only=True)
class Logic(Task):
    """Syllogism trees over invented names, with a step oracle, as in MuseD (arXiv:2410.09528).

    Made backwards: a conclusion is replaced by two premises that it follows from by way of a new
    term, one of these by two others, and so on. The question is the conclusion, its contradictory,
    or one of the two when a premise or the question itself has been turned round ('All a are b' to
    'All b are a'), so that neither follows; a third of the problems each. The prompt_id is the text
    in one line; the level is premises less two.
    """

    premises: int = 4
    """Size of the tree: premises that the answer takes, all of them. One less are its steps."""
    distractors: int = 0
    """Further premises that lead nowhere, each about a term of its own. They are universal."""
    train: int = 4096
    """Number of training problems."""
    evaluation: int = 512
    """Number of evaluation problems."""
    seed: int = 0
    """Which problems are drawn."""

    def __post_init__(self) -> None:
        between("task.premises", self.premises, 2, 64)
        between("task.distractors", self.distractors, 0, 64)
        at_least("task.train", self.train, 0)
        at_least("task.evaluation", self.evaluation, 0)

    def load(self, tokenizer: Tokenizer, max_prompt_tokens: int) -> PromptSet:
        """Make the problems. `dropped` counts those over `max_prompt_tokens` as 'too_long'."""
        train = self._prompts("train", self.train, tokenizer)
        evaluation = self._prompts("evaluation", self.evaluation, tokenizer)
        return fitting(train, evaluation, max_prompt_tokens)

    def first_error(self, prompt: Prompt, step_texts: Sequence[str]) -> int | None:
        """Index of the first wrong step, or None where every step is right.

        A right step takes two statements that are premises or were shown before, and states what
        follows from them by a valid syllogism and has not been shown yet, or rightly that nothing
        does; or it is the answer, when that has been shown, and ends the solution.
        """
        deduction = Deduction(read_problem(prompt.text))
        for index, text in enumerate(step_texts):
            if not deduction.read(text.removesuffix("\n")):
                return index
        return None

    def eliminated(self, prompt: Prompt, step_texts: Sequence[str]) -> list[float]:
        """The share of the middle terms that each step eliminates; they add up to at most 1.

        A right step counts even after a wrong one that it does not use. One that rightly finds
        nothing to follow on the way from subject to predicate settles all that are left.
        """
        deduction = Deduction(read_problem(prompt.text))
        left = [deduction.standing]
        for text in step_texts:
            deduction.read(text.removesuffix("\n"))
            left.append(deduction.standing)
        return [(before - after) / left[0] for before, after in pairwise(left)]

    def _prompts(self, split: str, number: int, tokenizer: Tokenizer) -> list[Prompt]:
        rng = np.random.default_rng([self.seed, zlib.crc32(split.encode())])
        answers: dict[str, str] = {}
        while len(answers) < number:
            problem, answer = self._problem(names(split), rng)
            answers[str(problem)] = answer
        return [
            Prompt(
                prompt_id=text.removesuffix("\n").replace("\n", "; "),
                token_ids=np.array(tokenizer.encode(text, add_special_tokens=False), np.int32),
                text=text,
                answer=answer,
                meta={"premises": self.premises, "level": self.premises - 2},
            )
            for text, answer in answers.items()
        ]

    def _problem(self, among: Sequence[str], rng: np.random.Generator) -> tuple[Problem, str]:
        terms = self.premises + 1 + self.distractors
        drawn = [among[int(i)] for i in rng.choice(len(among), terms, replace=False)]
        subject, predicate, *more = drawn
        conclusion = Statement(_coin(rng), _coin(rng), subject, predicate)
        tree = [conclusion]
        for middle in more[: self.premises - 1]:
            leaf = int(rng.integers(len(tree)))
            tree[leaf : leaf + 1] = _pick(premises_for(tree[leaf], middle), rng)
        answer = _pick(ANSWERS, rng)
        asked = answer == YES or (answer == UNKNOWN and _coin(rng))
        stated = [*tree, conclusion if asked else conclusion.contradictory]
        if answer == UNKNOWN:
            turned = _pick([i for i, s in enumerate(stated) if s.turnable], rng)
            stated[turned] = stated[turned].turned
        *premises, question = stated
        premises += _distractors(drawn, self.distractors, rng)
        shuffled = tuple(premises[i] for i in rng.permutation(len(premises)))
        return Problem(shuffled, question), answer


def _distractors(
    terms: Sequence[str], number: int, rng: np.random.Generator
) -> Iterator[Statement]:
    """Universal statements that hang the last terms on those before them."""
    for place in range(len(terms) - number, len(terms)):
        statement = Statement(False, _coin(rng), terms[place], _pick(terms[:place], rng))
        yield statement.turned if _coin(rng) else statement


def _coin(rng: np.random.Generator) -> bool:
    return bool(rng.integers(2))


def _pick(items: Sequence[T], rng: np.random.Generator) -> T:
    return items[int(rng.integers(len(items)))]


@dataclass(frozen=True, kw_only=True)
class EliminatedTerms(Labeller):
    """MuseD's step check (arXiv:2410.09528): correctly eliminated middle terms over all of them.

    A step's score is the share that it eliminates (see `Logic.eliminated`), so that they add up to
    the rollout's; 1 is a complete proof.
    """

    source: ClassVar[str] = "eliminated"

    task: Logic
    """The task whose problems are labelled."""

    async def label(self, rollouts: Sequence[Rollout], context: RolloutContext) -> list[Rollout]:
        return [rollout.with_scores(eliminated=self._scores(rollout)) for rollout in rollouts]

    def _scores(self, rollout: Rollout) -> StepScores:
        texts = [rollout.step_text(i) for i in range(len(rollout.steps))]
        values = np.array(self.task.eliminated(rollout.prompt, texts), np.float32)
        return StepScores(values=values, version=0)


def worked_solution(prompt: Prompt, rng: np.random.Generator, sloppy: float) -> list[str]:
    """A solution as a learner of mixed quality would write it, one text per step.

    It goes along the chain from the question's subject. Careful, a step states what follows, or
    that nothing does. Sloppy, it states what the two premises sound like (`syllogism.blend`), read
    from the question's subject on, whether or not it follows: right in form where something
    follows, but maybe turned round, and never at a loss. So a sloppy learner never answers unknown.

    Args:
        prompt: a problem of this task.
        sloppy: probability of the sloppy way, drawn for every step.
    """
    problem = read_problem(prompt.text)
    subject = problem.question.subject
    reached, *rest = problem.chain
    steps = []
    for premise in rest:
        (term,) = premise.terms - reached.terms
        sound = blend(reached, premise, subject, term)
        found = [sound] if rng.random() < sloppy else conclusions(reached, premise)
        found.sort(key=lambda statement: statement.subject != subject)
        steps.append(f"{reached}, {premise}: {found[0] if found else NOTHING}\n")
        if not found:
            return [*steps, ANSWER + UNKNOWN]
        reached = found[0]
    said = {problem.question.meaning: YES, problem.question.contradictory.meaning: NO}
    return [*steps, ANSWER + said.get(reached.meaning, UNKNOWN)]
