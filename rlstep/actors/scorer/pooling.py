"""Predictions of a model that is never trained, by vLLM: a head's numbers from its pooling engine,
a language model's logprobs of its prompt."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import ray

from rlstep.actors.generator.generator import engine_environment, own_sockets, watch_steps
from rlstep.actors.learner.heads import check_architecture, label_token_ids
from rlstep.actors.learner.models import check_learner
from rlstep.config import GeneratorConfig, LearnerConfig, PoolingConfig
from rlstep.measuring.peak_memory import peak_gib
from rlstep.reporting.role_logs import note_last_lines, role_environment
from rlstep.rollouts.progress import Progress, patiently
from rlstep.scoring.step_models.prm_text import context_of
from rlstep.tensors.tokenizers import read_tokenizer
from rlstep.types import Floats, TokenIds


class PoolingWorker:
    """One replica: a whole sequence in, one number a token out.

    Sequences are batched by the engine as they come, so in low precision their numbers depend a
    little on each other; a learner's forward does not.
    """

    def __init__(self, config: LearnerConfig, engine: PoolingConfig) -> None:
        self._config = config
        self._engine_config = engine
        self._asked = 0
        self._progress = Progress()

    async def start(self) -> None:
        from vllm import AsyncEngineArgs
        from vllm.v1.engine.async_llm import AsyncLLM

        arguments = engine_arguments(self._config, self._engine_config)
        self._sockets = own_sockets()
        self._engine = AsyncLLM.from_engine_args(AsyncEngineArgs(**arguments))
        watch_steps(self._engine, self._progress)

    async def predict(self, sequences: Sequence[TokenIds]) -> list[Floats]:
        """Per row of token ids (int32 [L]) float32 [L]: the head's number (see `actors.heads`).

        Raises:
            ValueError: a row is longer than the engine's context.
        """
        language = self._config.head == "language_model"
        predict = self._logprobs if language else self._predict
        return list(await asyncio.gather(*map(predict, sequences)))

    async def _logprobs(self, token_ids: TokenIds) -> Floats:
        """Of every token given those before it, at temperature 1; 0 for the first."""
        from vllm import SamplingParams

        self._asked += 1
        prompt: Any = {"type": "token", "prompt_token_ids": token_ids.tolist()}
        # An engine that generates must write something: one token, which nobody reads.
        parameters = SamplingParams(
            max_tokens=1, temperature=0.0, prompt_logprobs=0, detokenize=False
        )
        final = None
        async for output in self._engine.generate(prompt, parameters, str(self._asked)):
            final = output
        assert final is not None and final.finished, "vLLM ended a request without an answer"
        rows: Any = final.prompt_logprobs
        assert len(rows) == len(token_ids), f"vLLM returned {len(rows)} logprobs"
        found = [row[i].logprob for row, i in zip(rows[1:], token_ids[1:].tolist(), strict=True)]
        return np.array([0.0, *found], dtype=np.float32)

    async def _predict(self, token_ids: TokenIds) -> Floats:
        from vllm import PoolingParams

        self._asked += 1
        prompt: Any = {"prompt_token_ids": token_ids.tolist()}
        parameters = PoolingParams(task="token_classify", use_activation=False)
        final = None
        async for output in self._engine.encode(prompt, parameters, str(self._asked)):
            final = output
        assert final is not None and final.finished, "vLLM ended a request without an answer"
        logits = final.outputs.data.float().numpy()
        labels = 2 if self._config.head in ("two_label", "process_reward") else 1
        assert logits.shape == (len(token_ids), labels), f"vLLM returned {logits.shape}"
        return logits[:, 0] if labels == 1 else logits[:, 1] - logits[:, 0]

    async def idle_s(self) -> float:
        """Seconds since the engine's last step gave anything."""
        return self._progress.idle_s()

    async def peak_gib(self) -> float:
        """See `measuring.peak_memory`."""
        return peak_gib()

    async def close(self) -> None:
        """End the engine's processes; the actor itself is killed afterwards."""
        self._engine.shutdown()
        self._sockets.cleanup()


class PoolingGroup:
    """Every replica of one frozen model. Made by `start`; predicts as a learner does."""

    def __init__(self, name: str, actors: Sequence[Any], deadline_s: float) -> None:
        self.name = name
        self.actors = actors
        self.signs = 0
        """Grows while anything that they were asked gets done."""
        self._deadline_s = deadline_s

    @classmethod
    async def start(
        cls,
        config: LearnerConfig,
        engine: PoolingConfig,
        *,
        name: str,
        deadline_s: float,
        actor_options: Mapping[str, Any] | None = None,
    ) -> PoolingGroup:
        """Start every replica and load the model.

        Args:
            name: the role's name, for messages.
            deadline_s: the longest any verb may take, the start included.
            actor_options: Ray options of each replica (GPUs, placement).

        Raises:
            ValueError: the model cannot be loaded, or has no such head.
            TimeoutError: a replica did not come up.
        """
        check_learner(config, None)
        check_architecture(config)
        environment = engine_environment(GeneratorConfig(threads=config.threads))
        options = {"num_cpus": 0, "max_concurrency": 1000, **(actor_options or {})}
        kind = ray.remote(PoolingWorker)

        def create(replica: int) -> Any:
            variables = environment | role_environment(f"{name}-{replica}")
            its = kind.options(runtime_env={"env_vars": variables}, **options)
            return its.remote(config, engine)

        group = cls(name, [create(replica) for replica in range(engine.replicas)], deadline_s)
        try:
            await asyncio.gather(*(group._call(i, "start") for i in range(engine.replicas)))
        except BaseException:
            group._kill()
            raise
        return group

    async def predict(
        self, sequences: Sequence[TokenIds], *, log_ratios: bool = False
    ) -> list[Floats]:
        """Per row of token ids (int32 [L]) float32 [L]: the head's number."""
        assert not log_ratios, f"{self.name}: a frozen model is its own reference"
        n = len(self.actors)
        shares = [sequences[i::n] for i in range(n)]
        answers = await asyncio.gather(
            *(self._call(i, "predict", share) for i, share in enumerate(shares) if len(share))
        )
        return [answers[i % n][i // n] for i in range(len(sequences))]

    async def close(self) -> None:
        """End every engine, by force where it does not answer."""
        try:
            await asyncio.gather(*(self._call(i, "close") for i in range(len(self.actors))))
        finally:
            self._kill()

    def _kill(self) -> None:
        for actor in self.actors:
            ray.kill(actor)

    async def _call(self, replica: int, verb: str, *arguments: Any) -> Any:
        actor, limit = self.actors[replica], self._deadline_s
        call = getattr(actor, verb).remote(*arguments)
        place = f"pooling {self.name!r} replica {replica}: {verb}"

        async def idle_s() -> float:
            idle = await actor.idle_s.remote()
            self.signs += idle < limit
            return idle

        waited = (
            patiently(call, idle_s, every_s=limit, limit_s=limit)
            if verb == "predict"  # of a long queue
            else asyncio.wait_for(call, limit)
        )
        try:
            return await waited
        except TimeoutError as error:
            late = TimeoutError(f"{place} did nothing for {limit:g} s")
            note_last_lines(late, f"{self.name}-{replica}")
            raise late from error
        except Exception as error:  # raised as it is, with its place
            error.add_note(place)
            note_last_lines(error, f"{self.name}-{replica}")
            raise


def engine_arguments(config: LearnerConfig, engine: PoolingConfig) -> dict[str, Any]:
    """Keyword arguments of vLLM's engine."""
    context = min(engine.context, context_of(config.model.path))
    arguments: dict[str, Any] = {
        "model": config.model.path,
        **_runner(config),
        "trust_remote_code": False,
        "skip_tokenizer_init": True,
        "dtype": config.model.dtype,
        "tensor_parallel_size": engine.tensor_parallel_size,
        "max_model_len": context,
        "max_num_seqs": engine.concurrency,
        "max_num_batched_tokens": max(context, engine.prefill_tokens),
        "enable_chunked_prefill": False,  # every token's number is wanted in one piece
        "enable_prefix_caching": False,  # of a cached prefix there would be none (vLLM 0.32)
        "enforce_eager": engine.enforce_eager,
        "disable_log_stats": True,
        "seed": 0,
    }
    if config.head == "two_token":
        # The rows of the vocabulary's head that stand for the two tokens become a head of one
        # label, the good one's minus the bad one's.
        good, bad = label_token_ids(config)
        tokenizer = read_tokenizer(config.model.path)
        arguments["convert"] = "classify"
        arguments["hf_overrides"] = {
            "method": "from_2_way_softmax",
            "classifier_from_token": tokenizer.convert_ids_to_tokens([bad, good]),
        }
    if engine.tensor_parallel_size == 1:
        from vllm.v1.executor.uniproc_executor import UniProcExecutor

        # By its class: see `generator.engine_arguments`.
        arguments["distributed_executor_backend"] = UniProcExecutor
    if engine.kv_cache_mib:
        arguments["kv_cache_memory_bytes"] = engine.kv_cache_mib << 20
    else:
        arguments["gpu_memory_utilization"] = engine.gpu_memory_utilization
    return arguments


def _runner(config: LearnerConfig) -> dict[str, Any]:
    """What the engine does with a sequence."""
    if config.head == "language_model":
        return {"runner": "generate", "logprobs_mode": "raw_logprobs"}
    from vllm.config import PoolerConfig

    pooler = PoolerConfig(task="token_classify", tok_pooling_type="ALL", use_activation=False)
    return {"runner": "pooling", "pooler_config": pooler}
