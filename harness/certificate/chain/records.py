"""The files of a chain's certificate, and the record of what its verdict rests on.

    OUT/certificate.json      the in-toto statement about the last link, or its signed envelope
    OUT/chain.json            `ChainRecord`: links, steps, verdicts, how margins and levels add up
    OUT/policy.json           the policy of the whole
    OUT/steps/1/ ...          the certificate of each link against the one before it
    OUT/whole/                the certificate of the last link against the first
    OUT/report.html, OUT/ci/  for people and for CI

Every folder in it is an ordinary certificate that can be verified alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from retainbench.harness.certificate.bundle import Bundle
from retainbench.harness.core.records import Record, Verdict
from retainbench.harness.models.identity import ModelIdentity


class ChainStep(Record):
    """One edge of the graph: a link against the one before it, or the last against the first."""

    folder: str
    base: str
    candidate: str
    verdict: Verdict
    regressed: list[str]
    """Tasks whose regression Holm's correction confirms."""


class ChainRecord(Record):
    """`chain.json`."""

    schema_version: Literal[1] = 1
    links: list[ModelIdentity]
    """From the base to what is released."""
    steps: list[ChainStep]
    whole: ChainStep
    verdict: Verdict
    because: str
    """What the verdict follows from."""
    damaged: list[str]
    """Folders of the steps that are a REGRESSION."""
    alpha: float
    """Of all claims together: each step and the whole are decided at this over their number."""
    bound: str
    """Why all of them hold together."""
    created: str
    command: list[str]


class ChainBundle(Bundle):
    """Names inside the folder of a chain's certificate; creates nothing."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.chain = root / "chain.json"
        self.whole = Bundle(root / "whole")

    def step(self, number: int) -> Bundle:
        """The certificate of a step; 1 is the first."""
        return Bundle(self.root / "steps" / str(number))


def is_chain(cert: Path) -> bool:
    """Whether a certificate's folder is that of a chain."""
    return ChainBundle(cert).chain.is_file()


def judged_alone(cert: Path) -> Path:
    """The certificate of one candidate in a folder: of a chain, that of the whole."""
    return ChainBundle(cert).whole.root if is_chain(cert) else cert
