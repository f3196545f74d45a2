"""Procedural problems of reasoning-gym (Stojanovski et al. 2025, arXiv:2505.24760)."""

from __future__ import annotations

import dataclasses
import difflib
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rlstep.checks import at_least, between, json_able, needs_extra, positive
from rlstep.interfaces import PromptSet, Task, Tokenizer
from rlstep.scoring.answers.reasoning_gym_answer import (
    EVALUATES,
    Entry,
    ReasoningGymAnswer,
    make_dataset,
)
from rlstep.tasks.rows import problem_id
from rlstep.tasks.synthetic import fitting
from rlstep.tensors.templates import PROBLEM, PromptEncoder, PromptTemplate
from rlstep.types import Prompt

HASH_SEEDED = frozenset(
    "codeio intermediate_integration isomorphic_strings knight_swap"
    " polynomial_multiplication ransom_note word_ladder".split()
)
"""Data sets of reasoning-gym 0.1.25 whose items depend on the order of sets of strings, which is
another one in every process: a seed alone does not fix them (findings/reasoning_gym_seeds.sh)."""
UNSEEDED = frozenset({"list_functions"})
"""Data sets that draw from the process's own random numbers, too: nothing fixes their items."""

_TEMPLATE = PromptTemplate(text=f"{PROBLEM}\n\nEnd with your answer as <answer>...</answer>.")


@dataclass(frozen=True, kw_only=True)
class Source:
    """One data set of a mixture."""

    dataset: str
    """Its name in the library: 'chain_sum'."""
    weight: float = 1.0
    """Its share of the problems is its weight over the sum of the weights."""
    level: int | None = None
    """Of the data set's curriculum, from 0; None takes the data set's own defaults."""
    config: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """Fields of the data set's configuration, by name: {"min_terms": 3}. JSON."""

    def __post_init__(self) -> None:
        positive("source.weight", self.weight)
        if self.level is not None:
            at_least("source.level", self.level, 0)
        json_able("source.config", self.config)


@dataclass(frozen=True, kw_only=True)
class ReasoningGym(Task):
    """Problems of the library's data sets, made when they are loaded, for `ReasoningGymAnswer`.

    Item i of seed s is item i - 1 of seed s + 1 in most data sets, so neighbouring seeds share
    nearly all of their problems. Here a run has one seed: items from 0 on are for evaluation, those
    that follow for training. A question that comes twice is kept once ('repeated'), and not in
    training where it is in evaluation ('in_evaluation'): data sets of few problems repeat them.
    Data sets whose items a seed does not fix (`HASH_SEEDED`) need PYTHONHASHSEED=0 in the process's
    environment, since a run that goes on in another process would have other problems.
    """

    sources: tuple[Source, ...]
    """What is mixed. No data set stands here twice with one level and configuration."""
    train: int = 4096
    """Number of training problems that are made."""
    evaluation: int = 512
    """Number of evaluation problems that are made."""
    seed: int = 0
    """Of every data set."""
    template: PromptTemplate = _TEMPLATE
    """What stands around the question."""

    def __post_init__(self) -> None:
        at_least("task.train", self.train, 0)
        at_least("task.evaluation", self.evaluation, 0)
        at_least("task.seed", self.seed, 0)
        if not self.sources:
            raise ValueError("task.sources is empty; it needs at least 1")
        for i, source in enumerate(self.sources):
            if source in self.sources[:i] and _same(source, self.sources[:i]):
                raise ValueError(f"task.sources.{i} repeats the data set {source.dataset!r}")

    def load(self, tokenizer: Tokenizer, max_prompt_tokens: int) -> PromptSet:
        """Make the problems. `dropped` also counts those over `max_prompt_tokens` as 'too_long'.

        Raises:
            ValueError: the library is not installed; a name, a level or a configuration is wrong; a
                grader evaluates answers as Python; or an item is not JSON. Names the field.
        """
        needs_extra("task", "reasoning_gym")
        at_least("max_prompt_tokens", max_prompt_tokens, 1)
        for i, source in enumerate(self.sources):
            _check(f"task.sources.{i}", source)
        encoder = PromptEncoder(self.template, tokenizer)
        dropped: Counter[str] = Counter()
        parts: list[list[Prompt]] = [[], []]
        weights = [source.weight for source in self.sources]
        shares = zip(_shares(self.evaluation, weights), _shares(self.train, weights), strict=True)
        for i, (source, (held_out, trained)) in enumerate(zip(self.sources, shares, strict=True)):
            made = self._prompts(f"task.sources.{i}", source, held_out + trained, encoder)
            parts[0] += made[:held_out]
            parts[1] += made[held_out:]
        evaluation = _first_of_each(parts[0], frozenset(), dropped)
        train = _first_of_each(parts[1], {p.prompt_id for p in evaluation}, dropped)
        fit = fitting(train, evaluation, max_prompt_tokens)
        return dataclasses.replace(fit, dropped={**dropped, **fit.dropped})

    def _prompts(
        self, name: str, source: Source, size: int, encoder: PromptEncoder
    ) -> list[Prompt]:
        if not size:
            return []
        config = dict(source.config)
        try:
            dataset = make_dataset(source.dataset, source.level, config, self.seed, size)
        except (AssertionError, TypeError, ValueError) as error:
            raise ValueError(f"{name} ({source.dataset!r}) is refused: {error}") from error
        prompts = [self._prompt(name, source, dataset[i], encoder) for i in range(size)]
        if _lost(dataset, prompts[0].answer):
            raise ValueError(
                f"{name}.dataset is {source.dataset!r}, whose grader knows its own answer no more"
                " once the item has been JSON, in which tuples are lists"
            )
        return prompts

    def _prompt(
        self, name: str, source: Source, item: dict[str, Any], encoder: PromptEncoder
    ) -> Prompt:
        json_able(f"{name} ({source.dataset!r}): an item", item)
        entry = Entry(
            dataset=source.dataset, level=source.level, config=dict(source.config), item=item
        )
        ids = encoder.problem(item["question"])
        return Prompt(
            prompt_id=f"{source.dataset}/{problem_id(item['question'])}",
            token_ids=np.array(ids, np.int32),
            text=encoder.decode(ids),
            answer=entry.answer(),
            meta={"dataset": source.dataset, "level": source.level, "problem": item["question"]},
        )


def _same(source: Source, others: Iterable[Source]) -> bool:
    return any(dict(source.config) == dict(other.config) for other in others)


def _lost(dataset: Any, reference: str) -> bool:
    """Whether the first item's own answer is right, and wrong after its way through JSON."""
    item = dataset[0]
    if not isinstance(item["answer"], str) or dataset.score_answer(item["answer"], item) != 1.0:
        return False
    return ReasoningGymAnswer().grade(item["answer"], reference) != 1.0


def _check(name: str, source: Source) -> None:
    """Refuse what the library does not have, and graders that run answers."""
    from reasoning_gym.factory import CURRICULA, DATASETS  # pyright: ignore[reportMissingImports]

    known = DATASETS.keys() - {"composite"}
    if source.dataset not in known:
        hint = "; mix with task.sources" if source.dataset == "composite" else ""
        raise ValueError(
            f"{name}.dataset is {source.dataset!r}{hint};"
            f" nearest: {_nearest(source.dataset, known)}"
        )
    if source.dataset in EVALUATES:
        raise ValueError(
            f"{name}.dataset is {source.dataset!r}, whose grader evaluates texts as Python;"
            f" nearest: {_nearest(source.dataset, _safe(known))}"
        )
    if source.dataset in UNSEEDED:
        raise ValueError(
            f"{name}.dataset is {source.dataset!r}, of which every process makes other items,"
            f" whatever the seed; nearest: {_nearest(source.dataset, _safe(known))}"
        )
    if source.dataset in HASH_SEEDED and os.environ.get("PYTHONHASHSEED") != "0":
        raise ValueError(
            f"{name}.dataset is {source.dataset!r}, of which every process makes other items;"
            " start with PYTHONHASHSEED=0 in the environment, or nearest:"
            f" {_nearest(source.dataset, _safe(known))}"
        )
    if source.level is not None:
        if source.dataset not in CURRICULA:
            raise ValueError(f"{name}.level is {source.level}; {source.dataset!r} has only None")
        attributes = CURRICULA[source.dataset]().attributes.values()
        between(f"{name}.level", source.level, 0, max(len(a.levels) for a in attributes) - 1)
    fields = {f.name for f in dataclasses.fields(DATASETS[source.dataset][1])} - {"seed", "size"}
    for key in source.config:
        if key not in fields:
            raise ValueError(f"{name}.config has {key!r}; nearest: {_nearest(key, fields)}")


def _safe(names: Set[str]) -> Set[str]:
    """Those that are refused in no environment."""
    return names - EVALUATES - HASH_SEEDED - UNSEEDED


def _nearest(name: str, names: Iterable[str]) -> str:
    return repr(difflib.get_close_matches(name, sorted(names), 1, 0.0)[0])


def _shares(number: int, weights: list[float]) -> list[int]:
    """Whole numbers in proportion, that sum to `number`."""
    ends = np.rint(np.cumsum(weights) / sum(weights) * number).astype(int)
    return [int(n) for n in np.diff(ends, prepend=0)]


def _first_of_each(
    prompts: Iterable[Prompt], taken: Iterable[str], dropped: Counter[str]
) -> list[Prompt]:
    kept: dict[str, Prompt] = {}
    for prompt in prompts:
        if prompt.prompt_id in taken:
            dropped["in_evaluation"] += 1
        elif prompt.prompt_id in kept:
            dropped["repeated"] += 1
        else:
            kept[prompt.prompt_id] = prompt
    return list(kept.values())
