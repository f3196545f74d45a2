"""Makes the arithmetic policy: supervised training on worked solutions of mixed quality.

    python recipes/arithmetic_sft.py --out /tmp/policy            the shipped policy, from scratch
    python recipes/arithmetic_sft.py --start recipes/policies/arithmetic --seconds 290 \
        --learning-rate 1e-4 --out /tmp/more                      more of the same, as a control
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from arithmetic_base import TASK
from sft_base import Sft, drawn, make_policy, random_policy

from rlstep.tasks.arithmetic import arithmetic_tokenizer, sft_samples
from rlstep.types import LabelSamples


def batches(options: Sft) -> Iterator[LabelSamples]:
    """Fresh solutions for every batch."""
    tokenizer = arithmetic_tokenizer()
    problems = replace(TASK, train=options.problems, evaluation=0).load(tokenizer, 64).train
    rng = np.random.default_rng(options.seed)
    for chosen in drawn(problems, options.batch, options.updates):
        yield sft_samples(chosen, rng, options.sloppy, tokenizer)


def main(options: Sft) -> None:
    def fresh(folder: str) -> str:
        """Half a million parameters."""
        return random_policy(
            folder,
            options.seed,
            arithmetic_tokenizer(),
            vocab_size=24,
            hidden_size=128,
            intermediate_size=512,
            num_hidden_layers=2,
        )

    make_policy(options, fresh, batches(options))


if __name__ == "__main__":
    import tyro

    main(tyro.cli(Sft))
