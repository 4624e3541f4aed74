"""Foreign results of the package's own tasks (`rb_` names): their axis, and the check of the lock.

Reads the locks of installed tasks and of packs that the command names. Knows no harness.
"""

from __future__ import annotations

from retainbench.harness.core.records import ItemRecord
from retainbench.harness.tasks import catalogue
from retainbench.harness.tasks.catalogue import Catalogue, TaskInfo
from retainbench.harness.tasks.lock import check_locked


def packaged(task: str, known: Catalogue) -> TaskInfo | None:
    """The task of that lm-eval name, if there is one."""
    by_name = {info.lm_eval_name: info for info in known.tasks.values()}
    return by_name.get(task)


def own_records(
    task: str, records: list[ItemRecord], known: Catalogue, *, limited: bool
) -> list[ItemRecord]:
    """Records of one of the package's own tasks under its short name, checked against its lock.

    Raises:
        IntegrityError: an item that the lock does not have or that has other hashes there; or an
            item is missing though the run had no limit.
    """
    info = packaged(task, known)
    if info is None:
        return records
    ours = [record.model_copy(update={"task": info.name}) for record in records]
    check_locked(ours, {info.name: catalogue.lock(info)}, "results", partial=limited)
    return ours
