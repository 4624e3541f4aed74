"""The models that recipes learn from: each found by its name and compared with the base.

Reads the files of the teachers; loads no weights. A teacher that makes other tokens of a text than
the base would give probabilities of other tokens, so it is refused before anything is trained.
"""

from __future__ import annotations

from retainbench.harness.core.errors import UsageError
from retainbench.harness.core.schema import Suite
from retainbench.harness.models import bases, compatibility
from retainbench.harness.models.checked import Base
from retainbench.harness.tasks import catalogue
from retainbench.harness.tasks.catalogue import Catalogue


def find(name: str, base: Base, tasks: Catalogue) -> Base:
    """The model that a stage calls its teacher; an adapter is loaded on the cell's base."""
    paths = {path.name: str(path) for path in tasks.teachers}
    return bases.resolve(paths.get(name, name), base)


def digests(suite: Suite, base: Base, tasks: Catalogue) -> dict[str, str]:
    """Content digest of every teacher of a suite, by name.

    Raises:
        UsageError: a teacher is not there, or reads text in another way than the base.
        IntegrityError: a teacher cannot be loaded safely.
    """
    named = {
        stage.teacher: f"{suite.name}: recipes.{recipe}.teacher"
        for recipe, stages in suite.recipes.items()
        for stage in stages.stages
        if stage.teacher
    }
    return {name: _checked(name, where, suite, base, tasks) for name, where in named.items()}


def _checked(name: str, where: str, suite: Suite, base: Base, tasks: Catalogue) -> str:
    asked = catalogue.texts([tasks.tasks[target] for target in suite.targets])
    try:
        teacher = find(name, base, tasks)
        compatibility.compare_reading(base, teacher, asked)
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from error
    except compatibility.DifferenceError as difference:
        raise UsageError(
            f"{where}: {name} does not read text as {base.name} does: its {difference} differs. "
            "Name a teacher with the base's tokenizer"
        ) from None
    return teacher.digest
