"""What every step of a run is given: the plan, the folder to write, and the base.

The base is checked and hashed once, by the command; each process loads it once (models/shared.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from retainbench.harness.core import paths
from retainbench.harness.models import bases, shared
from retainbench.harness.models.loading import Loaded
from retainbench.harness.scoring import stored
from retainbench.harness.suites.plan import Plan
from retainbench.harness.tasks.catalogue import OWN, Catalogue


@dataclass(frozen=True)
class Context:
    """One run, as each of its processes sees it."""

    plan: Plan
    root: Path
    """The run folder."""
    base: bases.Base
    device: str = "cpu"
    report_to: tuple[str, ...] = ()
    """Trackers that also get the metrics of the steps."""
    tasks: Catalogue = OWN

    @property
    def folder(self) -> paths.RunFolder:
        """Names inside the run folder."""
        return paths.RunFolder(self.root)

    @property
    def base_point(self) -> paths.PointFolder:
        """Measurements of the base."""
        return self.folder.base_point(self.plan.suite.base)

    @property
    def store(self) -> stored.Store:
        """The run's records by content."""
        settings = stored.scoring_settings(self.device)
        return stored.Store(self.folder.evaluations, settings, self.plan.suite.items_per_task)

    def reference(self) -> Loaded:
        """The base in evaluation mode, to read only."""
        return shared.resident(self.base.folder, self.device)
