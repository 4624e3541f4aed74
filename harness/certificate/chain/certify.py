"""Certify a chain of checkpoints, from base over any number of steps to what is released.

Reads the links in their order; each may be whatever `certify` takes: a folder, an adapter, a GGUF
file. Every link is scored once, and task by task, so that a second start after a kill scores the
rest. Writes the folder described in chain/records.py, whole or not at all.

The first link's repeat scorings are the noise floor of the first step and of the whole. Drift is
measured for every step whose weights can be compared, KL for the whole only.

Command: `retainbench certify --chain BASE LINK... RELEASE --suite S --out DIR`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from retainbench.harness.certificate import certify as single
from retainbench.harness.certificate import measure, preparing
from retainbench.harness.certificate.bundle import Evidence
from retainbench.harness.certificate.certify import ScoredRecords
from retainbench.harness.certificate.chain import page
from retainbench.harness.certificate.chain.composing import bound, compose, decide
from retainbench.harness.certificate.chain.records import ChainBundle, ChainRecord, ChainStep
from retainbench.harness.certificate.judging import ENGINE
from retainbench.harness.certificate.preparing import CertificateRequest, PreparedCertificate
from retainbench.harness.core.errors import UsageError
from retainbench.harness.core.files import locks
from retainbench.harness.core.files.atomic import replacing
from retainbench.harness.core.files.storage import write_json, write_text
from retainbench.harness.core.records import ItemRecord
from retainbench.harness.core.schema import Policy, Suite
from retainbench.harness.core.verdicts import GateResult
from retainbench.harness.scoring.stored import Scoring, score_base, score_candidate, score_repeats
from retainbench.harness.suites.plan import retention_tasks


class CertifiedChain(NamedTuple):
    """A finished certificate of a chain."""

    bundle: ChainBundle
    chain: ChainRecord
    parts: list[Evidence]
    """Of each step, then of the whole."""
    signed: bool

    @property
    def gates(self) -> list[GateResult]:
        """Of the whole, then of each step."""
        return [part.gate for part in (self.parts[-1], *self.parts[:-1])]


def certify_chain(
    links: Sequence[str],
    suite: Suite,
    policy: Policy,
    out: Path,
    request: CertificateRequest,
    *,
    overwrite: bool = False,
) -> CertifiedChain:
    """Certify each link against the one before it, and the last against the first.

    Args:
        links: references in order, at least three.
        policy: of the whole.
        request: as for one certificate; the candidate's engine answers for the last link only.

    Raises:
        UsageError, IntegrityError: as `certify.certify`, or the links' chat templates differ.
    """
    if len(links) < 3:
        raise UsageError("--chain takes three models or more; for two, use --base and --candidate")
    with locks.replaced(out):
        preparing.check_place(out, overwrite)
        parts = _parts(links, suite, policy, request)
        for part in parts:
            preparing.require_outside(out, part.prepared)
        _require_one_way_of_asking([part.prepared for part in parts])
        with single.unfinished(out) as store:
            records = _score([part.prepared for part in parts], suite, request, store)
            with replacing(out) as folder:
                found = []
                for part, rows in zip(parts, records, strict=True):
                    place = folder / part.folder
                    found.append(
                        single.write(place, part.prepared, rows, suite, part.policy, part.request)
                    )
                chain = _write(ChainBundle(folder), found, policy, request, parts[0].prepared.key)
    signed = parts[0].prepared.key is not None
    return CertifiedChain(ChainBundle(out), chain, found, signed)


class ChainPart(NamedTuple):
    """A step or the whole, before it is scored."""

    folder: str
    policy: Policy
    request: CertificateRequest
    prepared: PreparedCertificate


def _parts(
    links: Sequence[str], suite: Suite, policy: Policy, request: CertificateRequest
) -> list[ChainPart]:
    """The steps in order, then the whole; only that measures KL."""
    composed = compose(policy, len(links) - 1)
    cheap = request if request.measure is None else request._replace(measure=measure.drift_only)
    inner = cheap._replace(candidate_scoring=None, floor=None)
    last = len(links) - 1
    parts = []
    for number, pair in enumerate(pairwise(links), 1):
        asked = cheap if number == last else inner
        prepared = preparing.prepare(*pair, suite, composed.step, asked)
        parts.append(ChainPart(f"steps/{number}", composed.step, asked, prepared))
    prepared = preparing.prepare(links[0], links[-1], suite, composed.whole, request)
    return [*parts, ChainPart("whole", composed.whole, request, prepared)]


def _require_one_way_of_asking(prepared: Sequence[PreparedCertificate]) -> None:
    """A link is scored once, so it is asked in one way whatever it is compared with."""
    *steps, whole = (one.speaking for one in prepared)
    asked = [steps[0].base.digest, *(step.candidate.digest for step in steps)]
    again = [*(step.base.digest for step in steps), whole.candidate.digest]
    if asked != again or whole.base.digest != asked[0]:
        raise UsageError(
            "the links have different chat templates, so steps would ask them in different ways: "
            "add --template own or --template none"
        )


def _score(
    prepared: Sequence[PreparedCertificate], suite: Suite, request: CertificateRequest, store: Path
) -> list[ScoredRecords]:
    """The records of every step and of the whole; each link is scored once."""
    *steps, whole = prepared
    most, tasks = preparing.scored_items(suite, request.tier), request.tasks
    expected = retention_tasks(suite)
    last = request.candidate_scoring or request.scoring
    sides = [request.scoring] * (len(steps) - 1) + [last]

    def of(step: PreparedCertificate, scoring: Scoring) -> list[ItemRecord]:
        asked = scoring.through(step.speaking.candidate)
        return score_candidate(step.candidate, whole.names, asked, most, store, tasks)

    later = [of(step, scoring) for step, scoring in zip(steps, sides, strict=True)]
    first = request.scoring.through(whole.speaking.base)
    base, churn = score_base(whole.base, whole.names, first, most, tasks)
    repeats = score_repeats(whole.base, expected, first, most, tasks)
    scored = [base, *later]
    found = [
        ScoredRecords(before, after, repeats if number == 0 else {}, churn if number == 0 else None)
        for number, (before, after) in enumerate(pairwise(scored))
    ]
    found.append(ScoredRecords(base, later[-1], repeats, churn))
    if request.floor:
        floor = request.floor.scoring
        for number in (len(steps) - 1, len(steps)):
            twin = prepared[number].twin
            if twin is not None:
                again, _ = score_base(twin, expected, floor, most, tasks)
                rest = found[number].repeats
                found[number] = found[number]._replace(repeats={**rest, ENGINE: again})
    return found


def _write(
    bundle: ChainBundle,
    found: Sequence[Evidence],
    policy: Policy,
    request: CertificateRequest,
    key: Any,
) -> ChainRecord:
    """What says how the parts belong together; the statement last."""
    *steps, whole = found
    chain = chain_of(steps, whole, policy, request.command)
    write_json(bundle.chain, chain)
    write_json(bundle.policy, policy)
    for name, text in page.files(chain, found, policy).items():
        write_text(bundle.root / name, text)
    single.write_statement(bundle.certificate, page.statement_of(bundle, chain), key)
    return chain


def chain_of(
    steps: Sequence[Evidence], whole: Evidence, policy: Policy, command: Sequence[str]
) -> ChainRecord:
    """The record of a chain from the evidence of its parts; `verify` makes it again."""
    edges = [_edge(f"steps/{number}", step) for number, step in enumerate(steps, 1)]
    ends = _edge("whole", whole)
    verdict, because = decide([edge.verdict for edge in edges], ends.verdict)
    return ChainRecord(
        links=[steps[0].base, *(step.candidate for step in steps)],
        steps=edges,
        whole=ends,
        verdict=verdict,
        because=because,
        damaged=[edge.folder for edge in edges if edge.verdict == "REGRESSION"],
        alpha=policy.alpha,
        bound=bound(policy, len(steps)),
        created=whole.created,
        command=list(command),
    )


def _edge(folder: str, evidence: Evidence) -> ChainStep:
    gate = evidence.gate
    if gate.verdict == "ERROR":
        raise AssertionError(f"{folder}: a certificate has a verdict, not {gate.verdict}")
    return ChainStep(
        folder=folder,
        base=evidence.base.name,
        candidate=evidence.candidate.name,
        verdict=gate.verdict,
        regressed=[task.change.task for task in gate.tasks if task.verdict == "REGRESSION"],
    )
