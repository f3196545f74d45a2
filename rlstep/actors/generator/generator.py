"""The generator role: a vLLM engine in an asynchronous Ray actor."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Collection
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypedDict, Unpack

import numpy as np

from rlstep.config import GeneratorConfig
from rlstep.measuring.peak_memory import peak_gib
from rlstep.role_config import SERVED_RANKS
from rlstep.rollouts.progress import Progress
from rlstep.tensors.text import decode_with_ends
from rlstep.tensors.tokenizers import read_tokenizer, reading_tags
from rlstep.types import (
    Completion,
    Failure,
    Floats,
    Likeliest,
    Request,
    Sampling,
    VersionSpan,
)

Answer = tuple[str, tuple[Completion, ...] | Failure]
"""(request_id, completions by child index, or what went wrong)."""


def engine_environment(config: GeneratorConfig) -> dict[str, str]:
    """Environment of the generator's process and of the engine processes under it."""
    # vLLM 0.32 sends CUDA IPC handles to its engine process as pickles, and only if told to.
    pickles = {"VLLM_ALLOW_INSECURE_SERIALIZATION": "1"} if config.transfer == "ipc" else {}
    return {
        **pickles,
        "OMP_NUM_THREADS": str(config.threads),
        # 'auto' binds every engine on a machine to the same first cores (vLLM 0.32).
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_LOGGING_LEVEL": os.environ.get("VLLM_LOGGING_LEVEL", "ERROR"),
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
        "TOKENIZERS_PARALLELISM": "false",
    }


def own_sockets() -> TemporaryDirectory[str]:
    """A folder for the sockets of the engine that this process starts, until `cleanup`.

    vLLM 0.32 leaves three behind for every engine. Their paths end at 107 bytes, so a deep TMPDIR
    would break the engine's start.
    """
    folder = TemporaryDirectory(prefix=f"rlstep-vllm-{os.getpid()}-", dir="/tmp")
    os.environ["VLLM_RPC_BASE_PATH"] = folder.name
    return folder


def watch_steps(engine: Any, progress: Progress) -> None:
    """Take every step of a vLLM engine for progress.

    Its front end is handed what a step gave in `process_outputs` (vLLM 0.32), whether or not a
    request has come to its end; statistics, which would say the same, cost more than a time.
    """
    processor, process = engine.output_processor, engine.output_processor.process_outputs

    def watched(*arguments: Any, **named: Any) -> Any:
        progress.made()
        return process(*arguments, **named)

    processor.process_outputs = watched


class Serving(TypedDict, total=False):
    """What an engine is to do beside its configuration."""

    tempered: bool
    """See `engine_arguments`; False where it is not said."""
    tags: Collection[str]
    """Special tokens that stay in the text of completions; see `reading_tags`."""
    lora_rank: int
    """See `engine_arguments`; 0 where it is not said."""


class GeneratorWorker:
    """One replica. Tokens in, tokens and the sampler's logprobs out.

    Everything outstanding, from however many `generate` calls, is batched continuously by the
    engine. The weight-transfer verbs are vLLM's own, passed through.
    """

    def __init__(
        self, config: GeneratorConfig, model_path: str, **serving: Unpack[Serving]
    ) -> None:
        self._config = config
        self._model_path = model_path
        self._tempered = serving.get("tempered", False)
        self._tags = serving.get("tags", ())
        self._lora_rank = serving.get("lora_rank", 0)
        self._adapter: Any = None
        """Of vLLM's requests: the adapter that they are answered with."""
        self._adapters = 0
        """How many have come."""
        self._progress = Progress()

    async def start(self) -> None:
        """Start the engine with the model's weights on disk, labelled version 0."""
        from vllm import AsyncEngineArgs
        from vllm.v1.engine.async_llm import AsyncLLM

        self._tokenizer = reading_tags(read_tokenizer(self._model_path), self._tags)
        self._sockets = own_sockets()
        arguments = engine_arguments(
            self._config, self._model_path, self._tempered, lora_rank=self._lora_rank
        )
        self._engine = AsyncLLM.from_engine_args(AsyncEngineArgs(**arguments))
        watch_steps(self._engine, self._progress)
        await self._engine.update_weight_version("0")

    async def generate(self, requests: list[Request]) -> AsyncIterator[list[Answer]]:
        """Answers as they finish, each request exactly once; several that are ready come together.

        Raises:
            vllm's EngineDeadError: the engine is gone; the replica must be recreated.
        """
        done: asyncio.Queue[Answer | Exception] = asyncio.Queue()
        tasks = [asyncio.create_task(self._answer(request, done)) for request in requests]
        try:
            answered = 0
            while answered < len(requests):
                ready = [await done.get()]
                while not done.empty():
                    ready.append(done.get_nowait())
                errors = [item for item in ready if isinstance(item, Exception)]
                if errors:
                    raise errors[0]
                answered += len(ready)
                yield ready  # type: ignore[misc]
        finally:
            for task in tasks:
                task.cancel()

    async def _answer(self, request: Request, done: asyncio.Queue[Answer | Exception]) -> None:
        from vllm.exceptions import VLLMClientError

        try:
            done.put_nowait((request.request_id, await self._complete(request)))
        except (ValueError, VLLMClientError) as error:  # refused (a prefix over the context)
            done.put_nowait((request.request_id, Failure(reason="rejected", detail=str(error))))
        except Exception as error:  # handed to `generate`, which raises it to the caller
            done.put_nowait(error)

    async def _complete(self, request: Request) -> tuple[Completion, ...]:
        prompt: Any = {"type": "token", "prompt_token_ids": request.prefix_ids.tolist()}
        parameters = sampling_parameters(request)
        final = None
        asked = request.request_id
        async for output in self._engine.generate(
            prompt, parameters, asked, lora_request=self._adapter
        ):
            final = output
        assert final is not None and final.finished, f"{request.request_id}: no final output"
        # Of n children vLLM 0.32 says for one only what it found cached.
        cached = final.num_cached_tokens or 0 if request.n == 1 else None
        return tuple(self._completion(child, cached, request.likeliest) for child in final.outputs)

    def _completion(self, output: Any, cached: int | None, likeliest: int) -> Completion:
        token_ids = np.asarray(output.token_ids, dtype=np.int32)
        logprobs, told = _told(output.logprobs, len(token_ids), likeliest)
        text, ends = decode_with_ends(self._tokenizer, token_ids)
        return Completion(
            token_ids=token_ids,
            logprobs=logprobs,
            likeliest=told,
            text=text,
            ends=ends,
            finish_reason=output.finish_reason,
            stop_reason=output.stop_reason,
            versions=tuple(
                VersionSpan(version=int(span.version), start=span.start, end=span.end)
                for span in output.weight_versions
            ),
            cached=cached,
        )

    async def pause(self) -> None:
        """Freeze what is running and clear every cached key and value.

        vLLM 0.32 keeps the prefix cache through a weight update (5.7 nats off on a cached prefix).
        """
        await self._engine.pause_generation(mode="keep", clear_cache=True)

    async def resume(self) -> None:
        self._progress.made()  # nobody is to blame for the time of the pause
        await self._engine.resume_generation()
        self._progress.made()

    async def idle_s(self) -> float:
        """Seconds since the engine's last step gave anything."""
        return self._progress.idle_s()

    async def health(self) -> None:
        """Raises where the engine has died."""
        await self._engine.check_health()

    async def process_id(self) -> int:
        return os.getpid()

    async def peak_gib(self) -> float:
        """See `measuring.peak_memory`."""
        return peak_gib()

    async def close(self) -> None:
        """End the engine's processes; the actor itself is killed afterwards."""
        self._engine.shutdown()
        self._sockets.cleanup()

    # --- weight transfer, called by the learner's sync client ---------------------------------

    async def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None:
        from vllm.distributed.weight_transfer.base import WeightTransferInitRequest

        await self._engine.shutdown_weight_transfer_engine()  # an earlier group, if there was one
        await self._engine.init_weight_transfer_engine(WeightTransferInitRequest(init_info))

    async def start_weight_update(self) -> None:
        await self._engine.start_weight_update()

    async def update_weights(self, update_info: dict[str, Any]) -> None:
        from vllm.distributed.weight_transfer.base import WeightTransferUpdateRequest

        await self._engine.update_weights(WeightTransferUpdateRequest(update_info))

    async def finish_weight_update(self, version: str) -> None:
        await self._engine.finish_weight_update(version)

    async def serve_adapter(self, files: dict[str, bytes], version: str) -> None:
        """Answer with another adapter from now on, also what is running.

        vLLM (0.32) finds cached keys and values by an adapter's name and path, so each has its own;
        and the adapter itself by its number, so that all have the same: running requests go on with
        the newest one, as they do after an update of all weights.

        Args:
            files: of an adapter's folder, by name.
            version: what it is labelled with.
        """
        from vllm.lora.request import LoRARequest

        self._adapters += 1
        name = f"adapter-{self._adapters}"
        folder = Path(self._sockets.name, name)
        folder.mkdir()
        for file, content in files.items():
            (folder / file).write_bytes(content)
        await self._engine.add_lora(LoRARequest(name, 1, str(folder), load_inplace=True))
        shutil.rmtree(folder)  # the engine holds it
        self._adapter = LoRARequest(name, 1, str(folder))
        await self._engine.update_weight_version(version)

    async def weight_version(self) -> int:
        return int(await self._engine.get_weight_version())


def _told(flat: Any, tokens: int, likeliest: int) -> tuple[Floats, Likeliest | None]:
    """The sampled tokens' logprobs, float32 [T], and of every place so many of the likeliest tokens
    where any were asked for. vLLM (0.32) puts the sampled one first, and again among those."""
    shape = (tokens, 1 + likeliest)
    rows = np.asarray(flat.logprobs, dtype=np.float32).reshape(shape)
    if not likeliest:
        return rows[:, 0], None
    names = np.asarray(flat.token_ids, dtype=np.int32).reshape(shape)
    return rows[:, 0], Likeliest(token_ids=names[:, 1:], logprobs=rows[:, 1:])


def sampling_parameters(request: Request) -> Any:
    """vLLM's SamplingParams of one request; the seed is the request's own, so that prompts of one
    batch do not share their noise."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    sampling = request.sampling
    exactly = sampling.min_tokens == sampling.max_tokens  # nothing is banned, and nothing stops it
    return SamplingParams(
        n=request.n,
        seed=request.seed if sampling.temperature > 0 else None,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        top_k=sampling.top_k,
        max_tokens=sampling.max_tokens,
        ignore_eos=exactly,
        min_tokens=0 if exactly else sampling.min_tokens,
        stop=[] if exactly else list(sampling.stop),
        include_stop_str_in_output=True,
        stop_token_ids=[] if exactly else list(sampling.stop_token_ids),
        # The engine reads text only to find stop strings.
        detokenize=bool(sampling.stop) and not exactly,
        logprobs=request.likeliest,  # beside the sampled token's
        flat_logprobs=True,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def engine_arguments(
    config: GeneratorConfig, model_path: str, tempered: bool = False, *, lora_rank: int = 0
) -> dict[str, Any]:
    """Keyword arguments of vLLM's engine; benchmarks start a bare engine with the same.

    Args:
        tempered: whether a completion's logprobs are those of the distribution that it was drawn
            from, softmax(logits / temperature), and not the model's at temperature 1. Of greedy
            decoding they are the model's either way.
        lora_rank: of the adapters that the engine is to apply; 0: it takes whole weights.
    """
    arguments: dict[str, Any] = {
        "logprobs_mode": "processed_logprobs" if tempered else "raw_logprobs",
        "model": model_path,
        "dtype": config.dtype,
        "tensor_parallel_size": config.tensor_parallel_size,
        "max_model_len": config.context,
        "max_num_seqs": config.concurrency,
        # A chunked prefill under a per-request seed kills the CPU engine (vLLM 0.32: 'CPU
        # Generator does not use offset'), so a whole prompt must fit in one scheduling round.
        "enable_chunked_prefill": False,
        "max_num_batched_tokens": max(config.context, config.prefill_tokens),
        "enforce_eager": config.enforce_eager,
        "enable_prefix_caching": True,
        "block_size": config.block_size,
        "disable_log_stats": True,
        "seed": 0,
    }
    if lora_rank:
        room = next(rank for rank in SERVED_RANKS if rank >= lora_rank)
        arguments |= {"enable_lora": True, "max_loras": 1, "max_lora_rank": room}
    else:
        arguments["weight_transfer_config"] = {"backend": config.transfer}
    if config.tensor_parallel_size == 1:
        from vllm.v1.executor.uniproc_executor import UniProcExecutor

        # By its class: the name 'uni' becomes 'mp' on a CPU (vLLM 0.32) for the sake of thread
        # settings, which are in the environment here. One process fewer to start and to talk to.
        arguments["distributed_executor_backend"] = UniProcExecutor
    if config.kv_cache_mib:
        arguments["kv_cache_memory_bytes"] = config.kv_cache_mib << 20
    else:
        arguments["gpu_memory_utilization"] = config.gpu_memory_utilization
    return arguments


def greedy(max_tokens: int) -> Sampling:
    """Greedy decoding of exactly `max_tokens` tokens, for the parity probe."""
    return replace(Sampling(max_tokens=max_tokens, temperature=0.0), min_tokens=max_tokens)
