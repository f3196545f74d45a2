"""A verifier for each part of a mixture of tasks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rlstep.checks import named
from rlstep.interfaces import Verifier
from rlstep.types import OutcomeScore, Prompt, Rollout


@dataclass(frozen=True, kw_only=True)
class VerifierOf:
    """What decides over one part."""

    task: str
    """Its name in `TaskMixture`."""
    verifier: Verifier
    """What decides over its rollouts."""

    def __post_init__(self) -> None:
        named("verifier_of.task", self.task, "part of the mixture, for instance 'logic'")


@dataclass(frozen=True, kw_only=True)
class ByTask(Verifier):
    """The verifier that a prompt's `meta["task"]` names, as `TaskMixture` writes it.

    All of them are in every scorer's processes. Of a row only what the one that is named asks for
    is sent.
    """

    verifiers: tuple[VerifierOf, ...]
    """One for each part that no judge takes."""

    def __post_init__(self) -> None:
        tasks = [each.task for each in self.verifiers]
        if not tasks:
            raise ValueError("by_task.verifiers is empty; it needs at least 1")
        if again := [task for i, task in enumerate(tasks) if task in tasks[:i]]:
            raise ValueError(f"by_task.verifiers has two for the task {again[0]!r}")

    def check(self, deadline_s: float) -> None:
        for each in self.verifiers:
            each.verifier.check(deadline_s)

    def check_prompt(self, prompt: Prompt) -> None:
        tasks = [each.task for each in self.verifiers]
        if prompt.meta.get("task") not in tasks:
            raise ValueError(
                f"verifier ByTask has none for prompt {prompt.prompt_id!r}, whose meta has task"
                f" {prompt.meta.get('task')!r}; it has {tasks}"
            )
        self._of(prompt.meta).check_prompt(prompt)

    def item(self, rollout: Rollout) -> tuple[str, str, Mapping[str, Any]]:
        meta = rollout.prompt.meta
        text, answer, asked = self._of(meta).item(rollout)
        row = {**asked.get("row", {}), "task": meta["task"]}
        return text, answer, {**asked, "row": row}

    def verify(
        self, text: str, answer: str, row: Mapping[str, Any], finish_reason: str = "stop"
    ) -> OutcomeScore:
        verifier = self._of(row)
        every = {"row": row, "finish_reason": finish_reason}
        return verifier.verify(text, answer, **{name: every[name] for name in verifier.asks})

    def _of(self, row: Mapping[str, Any]) -> Verifier:
        return next(each.verifier for each in self.verifiers if each.task == row["task"])
