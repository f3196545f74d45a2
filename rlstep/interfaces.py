"""The plug points (small abstract classes) and the protocols of the three roles.

A plug-in is a frozen dataclass: its hyper-parameters are its fields, it is configured, pickled and
printed. What it needs to run (a tokenizer, a process pool) it is handed, or opens inside the role.
Adding one is a new file and its test; a recipe imports it. There is no registry.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

from rlstep.inputs import Reader as Reader
from rlstep.learner_config import LearnerConfig, PoolingConfig
from rlstep.roles import Answer as Answer
from rlstep.roles import AskContext as AskContext
from rlstep.roles import GenerateRole as GenerateRole
from rlstep.roles import LearnerRole as LearnerRole
from rlstep.roles import Roles as Roles
from rlstep.roles import RolloutContext as RolloutContext
from rlstep.roles import ScoreRole as ScoreRole
from rlstep.roles import Tokenizer as Tokenizer
from rlstep.types import (
    Completion,
    Counts,
    Failure,
    Floats,
    Group,
    Ints,
    OutcomeScore,
    Prompt,
    Rollout,
    Samples,
    Sampling,
    Score,
    Step,
)

if TYPE_CHECKING:  # ring 0 loads no torch; the loss room does
    from torch import Tensor

    from rlstep.batching import Batch


# --- tasks ---------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class PromptSet:
    """What a task loaded. The two lists share no prompt_id."""

    train: Sequence[Prompt]
    evaluation: Sequence[Prompt]
    dropped: Mapping[str, int] = field(default_factory=dict)
    """Rows that were left out, by reason."""


class Task(ABC):
    """A source of problems with checkable answers."""

    @abstractmethod
    def load(self, tokenizer: Tokenizer, max_prompt_tokens: int) -> PromptSet:
        """Read and tokenize every problem.

        Raises:
            ValueError: a row is broken; the message names file, line and field.
        """


@runtime_checkable
class StepOracle(Protocol):
    """A task that knows exactly which steps are right: for tests and studies, not for training."""

    def first_error(self, prompt: Prompt, step_texts: Sequence[str]) -> int | None:
        """Index of the first wrong step, or None where every step is right."""
        ...


# --- steps ---------------------------------------------------------------------------------------


class StepSplitter(ABC):
    """Cuts a completion into steps."""

    @abstractmethod
    def split(self, completion: Completion) -> tuple[Step, ...]:
        """A partition of the completion's tokens, in order, no step empty.

        The end-of-sequence token belongs to the last step. A completion of no tokens has no steps.
        """

    def split_all(self, completions: Sequence[Completion]) -> list[tuple[Step, ...]]:
        """The steps of every completion of one prompt, in order, each a partition as in `split`.

        One by one, save where a splitter looks at all completions to find where to cut one.
        """
        return [self.split(completion) for completion in completions]


# --- scoring -------------------------------------------------------------------------------------


class Verifier(ABC):
    """Compares a completion's final answer with the reference. Runs in a killable subprocess."""

    def check(self, deadline_s: float) -> None:  # noqa: B027  # most verifiers need nothing
        """Refuse to work where it cannot: asked before a run, and in every process it runs in.

        Args:
            deadline_s: after so long the pool kills the process, and the item is a Failure.

        Raises:
            ValueError: what is missing, or the field and its nearest valid value.
        """

    @abstractmethod
    def verify(self, text: str, answer: str) -> OutcomeScore:
        """Score one completion's text. May hang or crash: the pool around it has a deadline."""


# --- rollouts ------------------------------------------------------------------------------------


class RolloutStrategy(ABC):
    """How groups are made from prompts, written against the generate and score roles alone."""

    sampling: Sampling
    """How completions are drawn."""
    sources: ClassVar[frozenset[str]] = frozenset()
    """Step scores that its rollouts carry already."""
    reads: ClassVar[frozenset[str]] = frozenset()
    """Scores of step models that it asks for while it collects."""
    own_prompts: ClassVar[bool] = True
    """Whether every completion was sampled after the prompt that it is trained after; where not,
    the sampler's logprobs are another distribution's."""

    @abstractmethod
    def collect(self, prompts: Sequence[Prompt], context: RolloutContext) -> AsyncIterator[Group]:
        """Yield one verified group a prompt as it is complete; a slow one holds up nobody."""


class Labeller(ABC):
    """Scores rollouts by other means than the verifier or a model that is trained in the run.

    Monte-Carlo step values train the step models; rewards for form, judges of steps and remote
    services score beside the verifier. A run's labellers are asked one after the other, so a later
    one may read what an earlier one found.
    """

    source: str
    """The name of its scores."""
    reads: ClassVar[frozenset[str]] = frozenset()
    """Scores that it needs, made before it: by the verifier ('outcome'), the rollout strategy or an
    earlier labeller; a run that does not produce them in time is refused."""

    @abstractmethod
    async def label(self, rollouts: Sequence[Rollout], context: RolloutContext) -> list[Rollout]:
        """The same rollouts, in order, each with a Score of this source: StepScores (n = 0 where a
        step was not labelled), a RolloutScore, an OutcomeScore, or a Failure."""


class StepLayout(ABC):
    """How a PRM wants a solution written: which tokens it reads, and where each step is read out.

    Text in the problem or the steps is data: no tag and no special token comes out of it.
    """

    @abstractmethod
    def reader(self, policy: Any, model: Any) -> Reader:
        """The layout for two Hugging Face tokenizers, the policy's and the model's.

        Every read-out is the position of one token; there are as many as the rollout has steps.

        Raises:
            ValueError: the model's tokenizer does not know the layout's tokens.
        """


class LabelView(ABC):
    """Reads Monte-Carlo counts as labels: what a PRM should say of a step, and how much it counts.

    The counts are kept, so one record serves every view.
    """

    @abstractmethod
    def labels(self, n: Ints, k: Ints) -> tuple[Floats, Floats]:
        """Targets in [0, 1] and weights >= 0 of the K steps, float32 [K] each.

        A step of weight 0 is left out of the loss: one without a continuation, for instance.

        Args:
            n: int32 [K + 1], continuations of the prompt (entry 0) and of the prefix that ends
                with each step; 0 where none was drawn.
            k: int32 [K + 1], how many of them were correct.
        """


class StepModel(ABC):
    """A model that scores rollouts and learns from them: a PRM, a critic, an implicit PRM.

    It is a learner beside the policy's. In every iteration it first scores the batch, and is then
    trained on it: nothing is scored by a model that has seen it.
    """

    source: str
    """The name of its scores, of its metrics and of its part of a checkpoint."""
    learner: LearnerConfig
    loss: Any
    """A `Loss`, or None: the model is never trained. (A plug-in's own field says which.)"""
    every: int = 1
    """It is trained in every so many-th iteration, on that iteration's rollouts."""
    engine: PoolingConfig | None = None
    """vLLM in place of the learner, for a model that is never trained."""
    reads: ClassVar[frozenset[str]] = frozenset({"outcome"})
    """Scores its training needs; a run that does not produce them is refused."""
    log_ratios: ClassVar[bool] = False
    """Whether it reads, of a language model, logprobs minus its reference's."""
    embeds: ClassVar[bool] = False
    """Whether it reads, of a scalar head, what goes into it at the steps' last tokens as well."""

    def reader(self, tokenizer: Any) -> Reader | None:
        """What it reads of a rollout, or None: the policy's own tokens, all of them.

        Where it reads others, its `samples` and its `read_out` stay in the policy's tokens all the
        same: labels at the steps' last tokens are moved to where the steps are read out, and the
        predictions from there back, with NaN everywhere else.

        Args:
            tokenizer: the policy's.

        Raises:
            ValueError: the tokenizers or the layout do not fit; before any process starts.
        """
        return None

    @abstractmethod
    def samples(self, rollouts: Sequence[Rollout]) -> Samples:
        """What to train on, from rollouts that carry the scores it reads."""

    @abstractmethod
    def read_out(self, rollout: Rollout, predictions: Floats, version: int) -> Score:
        """Its scores of one rollout.

        Args:
            predictions: float32 [P + T], one number a token, or [P + T, outputs] (see `Loss`).
            version: how many updates the model had.
        """

    def read_out_all(
        self, rollouts: Sequence[Rollout], predictions: Sequence[Floats], version: int
    ) -> list[Score]:
        """The scores of a whole batch, in order: one by one, save where a model looks at all.

        Args:
            predictions: of each rollout as in `read_out`; for a model that `embeds` float32
                [K, 1 + d] (see `LearnerRole.embed`).
        """
        both = zip(rollouts, predictions, strict=True)
        return [self.read_out(rollout, rows, version) for rollout, rows in both]


# --- judges --------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Question:
    """Something to ask a language model, for one answer."""

    question_id: str
    """Unique within a run; it fixes the answer's seed."""
    text: str


class Ask(Protocol):
    """A model that is ready to answer."""

    async def __call__(self, questions: Sequence[Question]) -> list[str | Failure]:
        """Per question, in order, the model's own words (nothing of the question), or a Failure:
        'unparsable_judgment' for an answer that was cut at its limit."""
        ...


class JudgeModel(ABC):
    """The language model behind a judge."""

    def check(self) -> None:
        """Called before any process starts.

        Raises:
            ValueError: something that it needs is not in the environment.
        """
        return

    @abstractmethod
    def open(self, context: AskContext) -> AbstractAsyncContextManager[Ask]:
        """Open what it takes to ask; one that is open serves any number of callers at once."""


class Judge(ABC):
    """Decides outcomes by asking a language model; where no judge does, the verifier decides."""

    model: JudgeModel

    @abstractmethod
    def takes(self, prompt: Prompt) -> bool:
        """Whether it decides over the rollouts of this prompt; the first judge that does, does."""

    def check(self, prompt: Prompt) -> None:
        """Called when the task is loaded, for every prompt that it takes.

        Raises:
            ValueError: the prompt lacks what its judgment is based on; names the field.
        """
        return

    @abstractmethod
    async def judge(self, rollouts: Sequence[Rollout], ask: Ask) -> list[OutcomeScore | Failure]:
        """One outcome per rollout, in order."""


# --- groups to samples ---------------------------------------------------------------------------


class SampleBuilder(ABC):
    """Turns scored groups into what a loss takes: pairs, advantages or labels."""

    makes: ClassVar[type]
    """The kind of samples, one of the `Samples` records."""
    sources: ClassVar[frozenset[str]] = frozenset({"outcome"})
    """Scores it reads; a run that does not produce them is refused when it is configured."""
    laws: ClassVar[frozenset[str]] = frozenset()
    """Names of the laws in tests/test_sample_laws.py that hold for it, beside the general ones."""

    @abstractmethod
    def samples(self, groups: Sequence[Group]) -> Samples:
        """See the whole batch at once. Deterministic: groups arrive sorted by prompt_id."""


# --- losses --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LossOutput:
    """A scalar to minimise and numbers to look at."""

    loss: Tensor
    metrics: Mapping[str, Tensor]
    """Scalars that are already divided by a global count, so that micro-batches and ranks add."""


class Loss(ABC):
    """A pure function of the model's per-token predictions.

    For a language model `predictions[n, t]` is the logprob of token t of sequence n given what came
    before it (0 at t = 0); for a scalar head it is the head's output at token t. A separable loss
    of a language model that reads 'entropies' gets predictions [N, L, 2] instead: the logprob of
    token t and the entropy, in nats, of the distribution that token t is drawn from (0 at t = 0).
    One of a scalar head that wants several `outputs` gets predictions [N, L, outputs].

    A loss sums and divides by the global `counts` that it is handed. A *separable* loss is a sum
    over sequences, called once a micro-batch with that micro-batch's rows. Any other loss is
    called once with the predictions of the whole mini-batch as a leaf, and the learner carries its
    gradient through the model micro-batch by micro-batch (the chain rule, so exactly): no loss ever
    sees where micro-batches or ranks were cut.
    """

    takes: ClassVar[type]
    """The kind of samples, one of the `Samples` records."""
    separable: ClassVar[bool] = False
    outputs: ClassVar[int] = 1
    """Numbers a token that it wants of a scalar head; the learner makes the head as wide."""
    of_logits: ClassVar[bool] = False
    """Whether it fits the sigmoid of a scalar head, and not the head's number itself."""
    laws: ClassVar[frozenset[str]] = frozenset()
    """Names of the laws in tests/test_laws.py that hold for it."""

    @property
    def reads(self) -> frozenset[str]:
        """Which of 'old_logprobs', 'ref_logprobs' and 'entropies' it reads; the learner computes no
        others."""
        return frozenset()

    @abstractmethod
    def __call__(self, predictions: Tensor, batch: Batch, counts: Counts) -> LossOutput:
        """predictions: float32 [N, L], [N, L, 2] with entropies, or [N, L, outputs]. Returns a
        scalar loss."""
