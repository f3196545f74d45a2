"""Makes the policy that the guessing recipe begins with: it guesses anywhere in what is left.

    python recipes/guess_number_sft.py [--out FOLDER]

Without a folder it takes the place of the shipped one; name any other to the recipe with
`--policy.model.path FOLDER`.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from guess_number_turns import GUESSES, POLICY
from sft_base import Sft, make_policy, random_policy

from rlstep.environments.guess_number import anywhere
from rlstep.tasks.guess_number import GuessNumberTask, guess_number_tokenizer, sft_samples
from rlstep.types import LabelSamples


@dataclass(frozen=True, kw_only=True)
class GuessSft(Sft):
    out: str = POLICY
    updates: int = 1200
    batch: int = 32
    learning_rate: float = 2e-3


def batches(options: GuessSft) -> Iterator[LabelSamples]:
    """Fresh games for every batch, of training problems alone."""
    tokenizer = guess_number_tokenizer()
    problems = GuessNumberTask().load(tokenizer, 64).train
    rng = np.random.default_rng(options.seed)
    for _ in range(options.updates):
        chosen = [problems[i] for i in rng.choice(len(problems), options.batch, replace=False)]
        yield sft_samples(chosen, GUESSES, anywhere, rng, tokenizer)


def main(options: GuessSft) -> None:
    def fresh(folder: str) -> str:
        """Half a million parameters."""
        return random_policy(
            folder,
            options.seed,
            guess_number_tokenizer(),
            vocab_size=len(guess_number_tokenizer()),
            hidden_size=128,
            intermediate_size=512,
            num_hidden_layers=2,
        )

    make_policy(options, fresh, batches(options))


if __name__ == "__main__":
    import tyro

    main(tyro.cli(GuessSft))
