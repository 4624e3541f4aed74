"""Documents on what the numeric tasks ask, for held-out perplexity.

`python tasks/numeric/numeric_text/build.py` writes items.jsonl. The questions are
the frozen ones of the tasks that are imported here, so a new version of one of them is a new
version of these documents.
"""

from pathlib import Path

from retainbench.tasks._text import freeze_texts
from retainbench.tasks.numeric.arithmetic import build as arithmetic
from retainbench.tasks.numeric.counting import build as counting
from retainbench.tasks.numeric.quantities import build as quantities
from retainbench.tasks.numeric.sequences import build as sequences
from retainbench.tasks.numeric.series_lookup import build as series_lookup
from retainbench.tasks.numeric.units import build as units


def write_to(folder: Path) -> None:
    """Write items.jsonl into `folder`."""
    sources = {
        "arithmetic": arithmetic.frozen(),
        "counting": counting.frozen(),
        "quantities": quantities.frozen(),
        "sequences": sequences.frozen(),
        "series_lookup": series_lookup.frozen(),
        "units": units.frozen(),
    }
    freeze_texts(folder, sources)


if __name__ == "__main__":
    write_to(Path(__file__).resolve().parent)
