"""What the recipes that share one GPU among their roles have in common."""

from rlstep.config import GeneratorConfig


def generator(context: int, kv_cache_mib: int = 8192) -> GeneratorConfig:
    """An engine beside the learner: a cache of fixed size, and weights handed over on the GPU."""
    return GeneratorConfig(
        dtype="bfloat16",
        context=context,
        kv_cache_mib=kv_cache_mib,
        block_size=16,
        enforce_eager=False,
        transfer="ipc",
        parity_tolerance=0.2,  # nats; bfloat16 in two implementations
    )
