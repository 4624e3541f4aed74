"""Recompute a chain's certificate from its own files, without any model.

Every part is verified as the certificate that it is (certificate/verify.py). What is left is that
the parts belong together: the same links, the same records of a link on both of its sides, the
policies that follow from that of the whole, and a verdict that follows from theirs.

Command: `retainbench verify CERT`, as for any certificate.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

from retainbench.harness.certificate import dsse, statement
from retainbench.harness.certificate import verify as single
from retainbench.harness.certificate.bundle import differences, refuse
from retainbench.harness.certificate.chain import page
from retainbench.harness.certificate.chain.certify import chain_of
from retainbench.harness.certificate.chain.composing import compose
from retainbench.harness.certificate.chain.records import ChainBundle, ChainRecord
from retainbench.harness.certificate.checks import contents
from retainbench.harness.certificate.verify import VerifyResult
from retainbench.harness.core.errors import IntegrityError
from retainbench.harness.core.files.storage import canonical
from retainbench.harness.core.schema import Policy, Suite
from retainbench.harness.tasks.catalogue import OWN, Catalogue


def verify_chain(
    cert: Path,
    *,
    candidate: Path | None = None,
    base: Path | None = None,
    key: Path | None = None,
    allow_unsigned: bool = False,
    suite: Suite | None = None,
    tasks: Catalogue = OWN,
) -> tuple[ChainRecord, list[VerifyResult]]:
    """Verify a chain's certificate; the parts' results are those of the steps, then of the whole.

    Args:
        candidate: model that must be the last link; so is `base` the first. Others: as `verify`.

    Raises:
        UsageError, IntegrityError: as `verify`.
    """
    bundle = ChainBundle(cert)
    trusted = dsse.public_key(key) if key else None
    made, opened = single.open_statement(bundle.certificate, statement.TEST_RESULT, trusted)
    single.check_files(bundle, statement.listed(made, str(bundle.certificate)))
    chain = contents.record(bundle.chain, ChainRecord)
    policy = contents.record(bundle.policy, Policy)
    places = [*(bundle.step(n) for n in range(1, len(chain.steps) + 1)), bundle.whole]
    found = []
    for place in places:
        ends = {"candidate": candidate, "base": base} if place is places[-1] else {}
        found.append(
            single.verify(
                place.root,
                **ends,
                key=key,
                allow_unsigned=allow_unsigned,
                suite=suite,
                tasks=tasks,
            )
        )
    _check_together(bundle, chain, policy, found)
    wanted = page.statement_of(bundle, chain)
    refuse(differences(made, wanted), f"{bundle.certificate}: does not follow from its parts")
    if opened.keyid is None and not allow_unsigned:
        raise IntegrityError(f"{bundle.certificate}: {single.unsigned(opened)}")
    return chain, found


def _check_together(
    bundle: ChainBundle, chain: ChainRecord, policy: Policy, found: list[VerifyResult]
) -> None:
    *steps, whole = (one.contents.evidence for one in found)
    if len(steps) < 2:
        raise IntegrityError(f"{bundle.chain}: a chain has two steps or more")
    expected = chain_of(steps, whole, policy, chain.command)
    wrong = differences(chain.model_dump(mode="json"), expected.model_dump(mode="json"))
    refuse(wrong, f"{bundle.chain}: does not follow from its parts")
    _check_links(bundle, found)
    composed = compose(policy, len(steps))
    for number, one in enumerate(found, 1):
        rule = composed.whole if one is found[-1] else composed.step
        stated = one.contents.policy
        if canonical(stated.model_dump(mode="json")) != canonical(rule.model_dump(mode="json")):
            raise IntegrityError(f"{bundle.policy}: part {number} was decided by another policy")
    evidence = [one.contents.evidence for one in found]
    texts = page.files(chain, evidence, policy)
    parts = ("steps/", "whole/")
    known = {*texts, bundle.chain.name, bundle.policy.name}
    for name, path in bundle.files().items():
        if name not in known and not name.startswith(parts):
            raise IntegrityError(f"{path}: not a file of a chain's certificate")
        if name in texts and path.read_bytes() != texts[name].encode():
            raise IntegrityError(f"{path}: does not say what the chain says")


def _check_links(bundle: ChainBundle, found: list[VerifyResult]) -> None:
    """A link is the same model with the same records, whatever it is compared with."""
    *steps, whole = found
    sides = [
        (before.contents, after.contents, "candidate", "base") for before, after in pairwise(steps)
    ]
    sides.append((steps[0].contents, whole.contents, "base", "base"))
    sides.append((steps[-1].contents, whole.contents, "candidate", "candidate"))
    for one, other, side, again in sides:
        model = getattr(one.evidence, side)
        if model != getattr(other.evidence, again):
            raise IntegrityError(f"{bundle.chain}: {model.name} is another model in two parts")
        if getattr(one, side) != getattr(other, again):
            raise IntegrityError(f"{bundle.chain}: {model.name} has other records in two parts")
        if one.evidence.expected != other.evidence.expected:
            raise IntegrityError(f"{bundle.chain}: two parts compare other tasks")
