"""What a task's card (README.md of its folder) says of base models: the table under "Base scores".

Read for `retainbench tasks`; nothing is decided by it. Packs have no card, hence no base scores.
"""

from __future__ import annotations

import re

from retainbench.harness.tasks_read import TaskInfo

SECTION = re.compile(r"^## Base scores\n(.*?)(?=^## |\Z)", re.DOTALL | re.MULTILINE)
ROW = re.compile(r"^\| ([^|]+) \| (\d\.\d+) ", re.MULTILINE)


def base_scores(info: TaskInfo) -> dict[str, float]:
    """Model -> mean score on the items that its line names."""
    card = info.folder / "README.md"
    if not card.is_file():
        return {}
    section = SECTION.search(card.read_text(encoding="utf-8"))
    rows = ROW.findall(section.group(1)) if section else []
    return {name.strip(): float(score) for name, score in rows}
