"""Makes the policy that `arithmetic_tool_grpo.py` begins with: it can call, and seldom does.

    python recipes/arithmetic_tool_sft.py [--out FOLDER]

Without a folder it takes the place of the shipped one; name any other to the recipe with
`--policy.model.path FOLDER`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from arithmetic_tool_grpo import POLICY, TASK
from sft_base import Sft, drawn, make_policy, random_policy

from rlstep.tasks.precedence import precedence_tokenizer, sft_samples
from rlstep.types import LabelSamples


@dataclass(frozen=True, kw_only=True)
class ToolSft(Sft):
    out: str = POLICY
    updates: int = 600
    sloppy: float = 0.8
    """Probability that a conversation goes without the calculator."""
    problems: int = 16_384


def batches(options: ToolSft) -> Iterator[LabelSamples]:
    """Fresh conversations for every batch."""
    tokenizer = precedence_tokenizer()
    problems = replace(TASK, train=options.problems, evaluation=0).load(tokenizer, 64).train
    rng = np.random.default_rng(options.seed)
    for chosen in drawn(problems, options.batch, options.updates):
        yield sft_samples(chosen, rng, options.sloppy, tokenizer)


def main(options: ToolSft) -> None:
    def fresh(folder: str) -> str:
        """Half a million parameters."""
        return random_policy(
            folder,
            options.seed,
            precedence_tokenizer(),
            vocab_size=len(precedence_tokenizer()),
            hidden_size=128,
            intermediate_size=512,
            num_hidden_layers=2,
        )

    make_policy(options, fresh, batches(options))


if __name__ == "__main__":
    import tyro

    main(tyro.cli(ToolSft))
