"""Documents on what the general tasks ask, for held-out perplexity.

`python tasks/general/general_text/build.py` writes items.jsonl. The questions are
the frozen ones of the tasks that are imported here, so a new version of one of them is a new
version of these documents.
"""

from pathlib import Path

from retainbench.tasks._text import freeze_texts
from retainbench.tasks.general.agreement import build as agreement
from retainbench.tasks.general.capitals import build as capitals
from retainbench.tasks.general.elements import build as elements


def write_to(folder: Path) -> None:
    """Write items.jsonl into `folder`."""
    sources = {
        "agreement": agreement.frozen(),
        "capitals": capitals.frozen(),
        "elements": elements.frozen(),
    }
    freeze_texts(folder, sources)


if __name__ == "__main__":
    write_to(Path(__file__).resolve().parent)
