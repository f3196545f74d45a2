"""What answers the policy's turns, and how an answer reads."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection
from typing import Any, ClassVar, TypeAlias

from rlstep.types import Action, Observation, Prompt

Between: TypeAlias = Callable[[str, int], list[int]]
"""(text of an observation, last token id of the turn before it) -> the token ids from the end of
that turn to where the next one is sampled, delimiters included."""


class Episode(ABC):
    """One conversation of an environment, from its reset on."""

    @abstractmethod
    def observe(self, action: Action) -> Observation:
        """What the environment answers to a turn. May raise, hang or end its process: the rollout
        is a Failure then."""

    def close(self) -> None:  # noqa: B027  # most hold nothing
        """Let go of what the episode holds, whether or not it came to its end."""


class Environment(ABC):
    """What answers the policy's turns. Runs in processes that can be killed, beside the verifiers.

    A frozen dataclass at the top of an importable module, its fields numbers, strings, booleans,
    None or tuples of these. Many episodes share a process, each turn in a thread of its own; a
    process that is killed for one of them is replaced, and the others are replayed.
    """

    replays: ClassVar[bool] = True
    """Whether the same prompt, seed and actions lead to the same observations. Where not, an
    episode whose process is gone is a Failure('environment_lost'), and nothing that continues a
    rollout from its middle (Monte Carlo, rectification, a tree search) can be used."""
    copies: ClassVar[bool] = False
    """Whether `copy.deepcopy` of an episode is an episode of its own, with nothing to close. Then
    a history that several go on from is replayed once, and copied for the others."""
    decides: ClassVar[bool] = True
    """Whether `Observation.success` is the outcome, a conversation that never succeeded being
    wrong; where not, the run's verifier reads the last turn."""

    @abstractmethod
    def reset(self, prompt: Prompt, seed: int) -> Episode:
        """A new episode of a problem. The policy has read the prompt, and speaks first.

        Args:
            seed: 48 bits; of all randomness in the episode. Rollouts of one group have the same.
        """

    def check(self, deadline_s: float) -> None:  # noqa: B027  # most need nothing
        """Refuse to work where it cannot: asked before a run, and in every process it runs in.

        Args:
            deadline_s: after so long a turn is ended with its process, and is a Failure.

        Raises:
            ValueError: what is missing, or the field and its nearest valid value.
        """


class TurnFormat(ABC):
    """How an observation stands between two turns, in token ids."""

    @abstractmethod
    def between(self, tokenizer: Any, stop_token_ids: Collection[int] = ()) -> Between:
        """What makes the token ids that follow a turn. Sampled tokens are never encoded again.

        Args:
            tokenizer: a fast Hugging Face tokenizer.
            stop_token_ids: what ends a turn beside the end-of-sequence token.

        Raises:
            ValueError: the tokenizer or its chat template does not fit; names what it would do.
        """
