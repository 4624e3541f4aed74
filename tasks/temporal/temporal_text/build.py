"""Documents on what the temporal tasks ask, for held-out perplexity.

`python tasks/temporal/temporal_text/build.py` writes items.jsonl. The questions are
the frozen ones of the tasks that are imported here, so a new version of one of them is a new
version of these documents.
"""

from pathlib import Path

from retainbench.tasks._text import freeze_texts
from retainbench.tasks.temporal.calendar import build as calendar
from retainbench.tasks.temporal.clock import build as clock
from retainbench.tasks.temporal.date_formats import build as date_formats
from retainbench.tasks.temporal.dates import build as dates
from retainbench.tasks.temporal.event_order import build as event_order
from retainbench.tasks.temporal.time_zones import build as time_zones


def write_to(folder: Path) -> None:
    """Write items.jsonl into `folder`."""
    sources = {
        "calendar": calendar.frozen(),
        "clock": clock.frozen(),
        "date_formats": date_formats.frozen(),
        "dates": dates.frozen(),
        "event_order": event_order.frozen(),
        "time_zones": time_zones.frozen(),
    }
    freeze_texts(folder, sources)


if __name__ == "__main__":
    write_to(Path(__file__).resolve().parent)
