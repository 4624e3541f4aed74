"""What every step of a run is given: the plan, the folder to write, and the base.

The base is checked and hashed once, by the command; each process loads it once (models/shared.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from retainbench.harness.core import paths
from retainbench.harness.core.errors import UsageError
from retainbench.harness.core.files.storage import read_json, write_json
from retainbench.harness.core.records import DeviceRecord
from retainbench.harness.models import shared
from retainbench.harness.models.checked import Base
from retainbench.harness.models.loading import Loaded
from retainbench.harness.models.placement import Placement
from retainbench.harness.scoring import stored
from retainbench.harness.suites.plan import Plan
from retainbench.harness.tasks.catalogue import OWN, Catalogue
from retainbench.harness.tasks.rendering import chat
from retainbench.harness.tasks.rendering.chat import Rendering


def require_device(root: Path, device: str) -> None:
    """Record the kind of device that a run is begun on; refuse to go on with another one.

    Scores of different devices differ in their last bits.

    Raises:
        UsageError: the run was begun on another kind of device.
    """
    file = paths.RunFolder(root).device
    kind = DeviceRecord(device=device.partition(":")[0])
    if file.exists() and (begun := read_json(file, DeviceRecord)) != kind:
        raise UsageError(
            f"{root} was begun with --device {begun.device}: continue with that device, or choose "
            "another folder with --out"
        )
    write_json(file, kind)


@dataclass(frozen=True)
class Context:
    """One run, as each of its processes sees it."""

    plan: Plan
    root: Path
    """The run folder."""
    base: Base
    device: str = "cpu"
    report_to: tuple[str, ...] = ()
    """Trackers that also get the metrics of the steps."""
    tasks: Catalogue = OWN
    evaluations: Path | None = None
    """Where records are kept by content; None for the run's own folder."""

    def __post_init__(self) -> None:
        """A catalogue that was made for another suite would answer targets in another way."""
        asked, given = self.plan.suite.scoring, self.tasks.sampling
        assert asked == given, f"the suite asks for {asked}, the catalogue for {given}"

    @cached_property
    def rendering(self) -> Rendering:
        """The suite's format with the base's chat template, for the base and its checkpoints."""
        return chat.of_folder(self.base.reader, self.plan.suite.format)

    @property
    def folder(self) -> paths.RunFolder:
        """Names inside the run folder."""
        return paths.RunFolder(self.root)

    @property
    def base_point(self) -> paths.PointFolder:
        """Measurements of the base."""
        return self.folder.base_point(self.plan.suite.base)

    @property
    def placement(self) -> Placement:
        """Where the base and its checkpoints are measured, and in which precision."""
        return Placement(self.device, self.plan.suite.scoring_dtype)

    @property
    def store(self) -> stored.Store:
        """The run's records by content."""
        settings = stored.scoring_settings(*self.placement)
        items = self.plan.suite.items_per_task
        folder = self.evaluations or self.folder.evaluations
        return stored.Store(folder, settings, items, self.rendering)

    def reference(self) -> Loaded:
        """The base in evaluation mode, to read only."""
        return shared.resident(self.base.folder, self.placement)
