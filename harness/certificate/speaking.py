"""Through which chat template base and candidate are asked, and what that makes of the prompts.

Records have the hashes of the tasks' own prompts, so that they can be compared with the locks; what
each model really read follows from its template and is recorded here as a digest per task. `verify`
renders again where it is given the model folders.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal, NamedTuple

from retainbench.harness.core.errors import IntegrityError
from retainbench.harness.core.records import Record
from retainbench.harness.core.schema import Format
from retainbench.harness.models import bases
from retainbench.harness.models.checked import Base
from retainbench.harness.tasks import catalogue
from retainbench.harness.tasks.catalogue import Catalogue, TaskInfo
from retainbench.harness.tasks.rendering import chat
from retainbench.harness.tasks.rendering.chat import PLAIN, Rendering

TemplateChoice = Literal["none", "base", "candidate", "own"]
"""Whose chat template both are asked through; `own`: each through its own."""
SAYS = {
    "base": "both models were asked through the base's chat template",
    "candidate": "both models were asked through the candidate's chat template",
    "own": "each model was asked through its own chat template; KL compares them on the base's",
}


class PromptFormat(Record):
    """How both models were asked."""

    template: TemplateChoice = "none"
    format: Format = Format()
    prompts: dict[Literal["base", "candidate"], dict[str, str]] = {}
    """By task, of its prompts (`catalogue.prompt_digests`); none where they are the locks'."""


class PromptRenderings(NamedTuple):
    """The rendering of each side, and its record."""

    base: Rendering
    candidate: Rendering
    spoken: PromptFormat


def speaking(
    base: Base,
    candidate: Base,
    format: Format,
    choice: TemplateChoice | None,
    infos: Iterable[TaskInfo],
) -> PromptRenderings:
    """The renderings of a certificate.

    Args:
        format: the suite's; without one, a chosen template is used with its own defaults.
        choice: None takes the base's template where the suite has a format, and none otherwise.

    Raises:
        UsageError, IntegrityError: a model has no template, or it cannot be used.
    """
    wanted = choice or ("none" if format.template == "none" else "base")
    if wanted == "none":
        return PromptRenderings(PLAIN, PLAIN, PromptFormat())
    used = Format(template="chat") if format.template == "none" else format
    sides = {
        "base": (base, base),
        "candidate": (candidate, candidate),
        "own": (base, candidate),
    }[wanted]
    first, second = (chat.of_folder(side.reader, used) for side in sides)
    listed = list(infos)
    spoken = PromptFormat(
        template=wanted,
        format=used,
        prompts={
            "base": catalogue.prompt_digests(listed, first),
            "candidate": catalogue.prompt_digests(listed, second),
        },
    )
    return PromptRenderings(first, second, spoken)


def check(
    spoken: PromptFormat,
    base: Path | None,
    candidate: Path | None,
    names: Iterable[str],
    tasks: Catalogue,
) -> None:
    """Compare what a certificate records with its tasks and, where both are given, the models.

    Raises:
        IntegrityError: a task's prompts are not recorded, or are other ones.
    """
    wanted = set() if spoken.template == "none" else set(names)
    sides = spoken.prompts.values()
    if len(spoken.prompts) != (2 if wanted else 0) or any(set(side) != wanted for side in sides):
        raise IntegrityError("scorecard: spoken.prompts does not name the tasks that were scored")
    if not wanted or base is None or candidate is None:
        return
    reference = bases.resolve(str(base))
    infos = [tasks.tasks[name] for name in sorted(wanted) if name in tasks.tasks]
    again = speaking(
        reference, bases.resolve(str(candidate), reference), spoken.format, spoken.template, infos
    ).spoken
    for side, digests in again.prompts.items():
        for task, digest in digests.items():
            if spoken.prompts[side][task] != digest:
                raise IntegrityError(
                    f"{side}: its chat template asks {task} otherwise than the certificate records"
                )
