"""Serves an exported folder with vLLM, and prints how far its logprobs are from transformers'.

Each in a process of its own: vLLM (0.32) changes some of transformers' classes where it serves
them, OLMo's among them, which cannot be loaded afterwards.
"""

from __future__ import annotations

import multiprocessing
import sys

PROMPT = [*range(2, 22)] * 2


def serve(folder: str, dtype: str) -> tuple[list[int], list[float]]:
    """Greedy tokens and their logprobs."""
    from vllm import LLM, SamplingParams

    engine = LLM(
        model=folder,
        dtype=dtype,  # type: ignore[arg-type]
        skip_tokenizer_init=True,
        enforce_eager=True,
        max_model_len=96,
        kv_cache_memory_bytes=32 << 20,
    )
    sampling = SamplingParams(temperature=0, max_tokens=16, logprobs=0, ignore_eos=True)
    [answer] = engine.generate({"prompt_token_ids": PROMPT}, sampling, use_tqdm=False)
    tokens = list(answer.outputs[0].token_ids)
    served = [at[t].logprob for at, t in zip(answer.outputs[0].logprobs, tokens, strict=True)]  # type: ignore[arg-type]
    return tokens, served


def main(folder: str, dtype: str) -> None:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        tokens, served = pool.apply(serve, (folder, dtype))
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=getattr(torch, dtype), attn_implementation="eager"
    ).eval()
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([PROMPT + tokens])).logits[0].float()
    read = logits.log_softmax(-1)[len(PROMPT) - 1 : -1]
    own = read[range(len(tokens)), tokens]
    print("difference", (own - torch.tensor(served)).abs().max().item(), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
