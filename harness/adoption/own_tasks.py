"""Foreign results of the package's own tasks (`rb_` names): their axis, and the check of the lock.

Reads the locks of installed tasks and of packs that the command names. Knows no harness.
"""

from __future__ import annotations

from retainbench.harness.core.errors import IntegrityError
from retainbench.harness.core.records import ItemRecord
from retainbench.harness.tasks import catalogue
from retainbench.harness.tasks.catalogue import Catalogue, TaskInfo


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
    locked = {item.id: item for item in catalogue.lock(info).items}
    for record in records:
        item = locked.get(record.item_id)
        asked = (record.doc_hash, record.prompt_hash, record.target_hash)
        if item is None or (item.doc_hash, item.prompt_hash, item.target_hash) != asked:
            raise IntegrityError(
                f"{task}: item {record.item_id} is not what the installed task's lock says"
            )
    if not limited and len(records) != len(locked):
        raise IntegrityError(f"{task}: {len(records)} items, but its lock has {len(locked)}")
    return [record.model_copy(update={"task": info.name}) for record in records]
