"""The verbs around certificates: certify, verify, export."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NoReturn

import typer

from retainbench.harness.cli import screen, streams
from retainbench.harness.cli.options import (
    ENGINES,
    AllowCode,
    Device,
    EngineArguments,
    Overwrite,
    Packs,
    Precision,
    ScoringExecutor,
    Spread,
    TrainData,
    Workers,
    out_folder,
    refuse_unused,
)
from retainbench.harness.core.errors import UsageError

if TYPE_CHECKING:
    from retainbench.harness.api.certify import CertifyOptions
    from retainbench.harness.certificate.chain.records import ChainRecord
    from retainbench.harness.certificate.verify import VerifyResult
    from retainbench.harness.core.verdicts import GateOutcome, GateResult

Model = Annotated[
    str | None, typer.Option(help="A named base, a folder, an adapter, a GGUF file, or a hub id.")
]
Certificate = Annotated[Path, typer.Argument(help="Folder of the certificate.")]
PublicKey = Annotated[Path | None, typer.Option(help="Public key (PEM) that must have signed it.")]
Unsigned = Annotated[
    bool,
    typer.Option(
        "--allow-unsigned",
        help="Accept a certificate without a signature that was checked: anybody can make one.",
    ),
]
NOT_ESTIMATED = (
    *("links", "chain", "train_data", "key", "repeat_base", "workers", "executor", "overwrite"),
    *("base_engine", "candidate_engine", "engine_args", "base_engine_args"),
    *("engine_floor", "engine_floor_args"),
)


def certify(
    context: typer.Context,
    suite: Annotated[
        str, typer.Option(help="Suite that names the retention tasks and the policy.")
    ],
    out: Annotated[Path, typer.Option(callback=out_folder, help="Folder of the certificate.")],
    links: Annotated[
        list[str] | None,
        typer.Argument(help="With --chain: three models or more, from the base to the release."),
    ] = None,
    base: Model = None,
    candidate: Model = None,
    chain: Annotated[
        bool,
        typer.Option(
            "--chain", help="Certify each of the models against the one before it, and the whole."
        ),
    ] = False,
    pack: Packs = None,
    train_data: TrainData = None,
    allow_code: AllowCode = False,
    policy: Annotated[
        Path | None, typer.Option(help="Policy file (YAML); default: the suite's policy.")
    ] = None,
    key: Annotated[
        Path | None, typer.Option(help="Sign with this Ed25519 private key (PEM).")
    ] = None,
    tier: Annotated[
        Literal["smoke", "standard", "full"],
        typer.Option(help="First 100, first 200 or all items of each task; only full can pass."),
    ] = "full",
    repeat_base: Annotated[
        bool,
        typer.Option("--repeat-base", help="Score the base twice; stop if the answers differ."),
    ] = False,
    template: Annotated[
        Literal["none", "base", "candidate", "own"] | None,
        typer.Option(
            help="Whose chat template asks both models, or each its own; default: the base's if "
            "the suite has a format, else none."
        ),
    ] = None,
    device: Device = "cpu",
    dtype: Precision = "float32",
    device_map: Spread = None,
    base_engine: Annotated[
        str, typer.Option(help=f"What answers for the base: {ENGINES}.")
    ] = "transformers",
    candidate_engine: Annotated[
        str | None,
        typer.Option(help="What answers for the candidate; default: the same as for the base."),
    ] = None,
    engine_args: EngineArguments = "",
    base_engine_args: Annotated[
        str | None, typer.Option(help="The same for the base's engine alone.")
    ] = None,
    engine_floor: Annotated[
        str | None,
        typer.Option(
            help="The base as the candidate's engine reads it, such as a GGUF file of it: tells "
            "the change of engine from the change of weights."
        ),
    ] = None,
    engine_floor_args: Annotated[
        str | None,
        typer.Option(help="Instead of --engine-args for it, such as the server of the base."),
    ] = None,
    workers: Workers = 1,
    executor: ScoringExecutor = "local",
    overwrite: Overwrite = False,
    estimate: Annotated[
        bool,
        typer.Option(
            "--estimate",
            help="Print items, tokens, time and memory from a short probe, and write nothing.",
        ),
    ] = False,
) -> None:
    """Score a checkpoint trained anywhere against its base, decide, and write a certificate.

    Also scores the base again as the suite's noise_floor says and measures the KL to it on
    retention prompts; the smoke tier leaves both out. Tasks of a --pack are added to those of the
    suite and must pass too.

    Exit codes: 0 PASS, 1 REGRESSION, 2 usage, 3 INCONCLUSIVE, 4 integrity failure.
    """
    from retainbench.harness.api.certify import CertifyOptions, certificate_cost
    from retainbench.harness.models.placement import placed
    from retainbench.harness.tasks.catalogue import Catalogue

    if estimate:
        if base is None or candidate is None:
            raise UsageError("--estimate takes --base and --candidate")
        refuse_unused(context, "--estimate", *NOT_ESTIMATED)
        asked = (base, candidate, suite, policy, tier, template, placed(device, dtype, device_map))
        known = Catalogue.of(pack or (), allow_code=allow_code)
        screen.show(certificate_cost(*asked, known))
        return
    options = CertifyOptions(
        policy=policy,
        key=key,
        tier=tier,
        repeat_base=repeat_base,
        template=template,
        device=device,
        dtype=dtype,
        device_map=device_map,
        base_engine=base_engine,
        candidate_engine=candidate_engine,
        engine_args=engine_args,
        base_engine_args=base_engine_args,
        engine_floor=engine_floor,
        engine_floor_args=engine_floor_args,
        workers=workers,
        executor=executor,
        packs=pack or (),
        train_data=train_data or (),
        allow_code=allow_code,
        command=["retainbench", *sys.argv[1:]],
    )
    if chain:
        if base or candidate:
            raise UsageError("--chain names all models itself: leave out --base and --candidate")
        _certify_chain(links or [], suite, out, options, overwrite)
    if links:
        raise UsageError(f"unexpected {links[0]!r}: name models with --base and --candidate")
    if base is None or candidate is None:
        raise UsageError("name --base and --candidate, or --chain with three models or more")
    _certify_one(base, candidate, suite, out, options, overwrite)


def _certify_one(
    base: str, candidate: str, suite: str, out: Path, options: CertifyOptions, overwrite: bool
) -> NoReturn:
    from retainbench.harness.api.certify import certify as certify_checkpoint
    from retainbench.harness.certificate import judging
    from retainbench.harness.certificate import page as certify_report
    from retainbench.harness.core.files.storage import read_json
    from retainbench.harness.core.schema import Policy
    from retainbench.harness.core.text.escaping import shorten

    made = certify_checkpoint(base, candidate, suite, out, overwrite=overwrite, **vars(options))
    for line in certify_report.screen(made.evidence):
        screen.line(line)
    clean = [one for one in made.evidence.train_data if not one.overlap]
    for line in judging.overlap_lines(clean, read_json(made.bundle.policy, Policy)):
        screen.line(f"Training data: {shorten(line, 500)}")
    _end(made.signed, out, [made.gate], made.gate.verdict)


def _certify_chain(
    links: list[str], suite: str, out: Path, options: CertifyOptions, overwrite: bool
) -> NoReturn:
    from retainbench.harness.api.certify import certify_chain
    from retainbench.harness.certificate.chain import page

    made = certify_chain(links, suite, out, overwrite=overwrite, **vars(options))
    for line in page.screen(made.chain, made.parts):
        screen.line(line)
    _end(made.signed, out, made.gates, made.chain.verdict)


def _end(signed: bool, out: Path, gates: list[GateResult], verdict: GateOutcome) -> NoReturn:
    from retainbench.harness.core.verdicts import EXIT_CODES
    from retainbench.harness.gate import ci

    if not signed:
        screen.line("Unsigned: verify it with --allow-unsigned, or sign it with --key.")
    screen.line(f"Certificate, table and report: {out.resolve()}")
    if verdict != "PASS":
        page = shlex.join(["retainbench", "report", str(out), "--out", "lost.html"])
        screen.line(f"To read which items were lost: {page}")
    streams.workflow_commands(ci.github(gates, os.environ))
    raise typer.Exit(EXIT_CODES[verdict])


def verify(
    certificate: Certificate,
    candidate: Annotated[Path | None, typer.Option(help="Model folder that was certified.")] = None,
    base: Annotated[Path | None, typer.Option(help="Model folder it was compared with.")] = None,
    key: PublicKey = None,
    allow_unsigned: Unsigned = False,
    suite: Annotated[
        str | None, typer.Option(help="Suite that must have been asked: a name or a YAML file.")
    ] = None,
    pack: Packs = None,
) -> None:
    """Recompute all of a certificate: digests, records, statistics, verdict, report and CI files.

    Give the model folders to compare their files and the drift, and the key of who made it.

    Exit codes: 0 it holds, 2 usage, 4 anything differs, or no signature was checked.
    """
    from retainbench.harness.certificate import verify as certify_verify
    from retainbench.harness.certificate.chain.records import is_chain
    from retainbench.harness.certificate.chain.verify import verify_chain
    from retainbench.harness.suites import loading
    from retainbench.harness.tasks.catalogue import Catalogue

    given = Catalogue.of(pack or ())
    asked, known = loading.as_written(suite, given) if suite else (None, given)
    check = verify_chain if is_chain(certificate) else certify_verify.verify
    found = check(
        certificate,
        candidate=candidate,
        base=base,
        key=key,
        allow_unsigned=allow_unsigned,
        suite=asked,
        tasks=known,
    )
    if not isinstance(found, certify_verify.VerifyResult):
        _show_chain(*found)
        return
    screen.line(f"The certificate holds. Verdict: {found.gate.verdict}. Subject: {found.subject}")
    for note in found.notes:
        screen.line(f"Note: {note}")


def _show_chain(chain: ChainRecord, parts: list[VerifyResult]) -> None:
    from retainbench.harness.certificate.chain import page

    screen.line(
        f"The certificate of {len(chain.links)} links holds. Verdict: {chain.verdict}. "
        f"Subject: {chain.links[-1].sha256}"
    )
    for line in page.screen(chain, [part.contents.evidence for part in parts])[1:]:
        screen.line(line)
    for note in dict.fromkeys(note for part in parts for note in part.notes):
        screen.line(f"Note: {note}")


def export(
    certificate: Certificate,
    format: Annotated[
        str, typer.Option(help="cyclonedx, eval-results, every-eval-ever or model-index.")
    ],
    out: Annotated[Path, typer.Option(callback=out_folder, help="Folder to write to.")],
    key: PublicKey = None,
    allow_unsigned: Unsigned = False,
    pack: Packs = None,
    overwrite: Overwrite = False,
    push: Annotated[
        str | None,
        typer.Option(
            metavar="ORG/MODEL",
            help="Also send it to this model repository of the Hugging Face hub.",
        ),
    ] = None,
    pull_request: Annotated[
        bool, typer.Option("--pull-request", help="With --push: open a pull request.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="With --push: show what would be sent, send nothing.")
    ] = False,
) -> None:
    """Verify a certificate and write its scores in another format; of a chain, those of the whole.

    Exit codes: 0 written, 2 usage or the hub refuses, 4 `verify` refuses the certificate.
    """
    from retainbench.harness.certificate import export as exporting
    from retainbench.harness.certificate import push as pushing
    from retainbench.harness.certificate.chain.records import judged_alone
    from retainbench.harness.tasks.catalogue import Catalogue

    if push is None and (pull_request or dry_run):
        raise UsageError("--pull-request and --dry-run belong to --push")
    if push is not None:
        pushing.require(format, push)
    known = Catalogue.of(pack or ())
    files = exporting.export(
        judged_alone(certificate),
        format,
        out,
        overwrite=overwrite,
        key=key,
        allow_unsigned=allow_unsigned,
        tasks=known,
    )
    for file in files:
        screen.line(file)
    if push is not None and dry_run:
        how = "as a pull request" if pull_request else "as a commit"
        screen.line(f"would be sent to {push} {how}; nothing was sent")
    elif push is not None:
        screen.notice(f"sending to {push}")
        screen.line(pushing.push(files, out, format, push, pull_request))
