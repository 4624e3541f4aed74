"""`retainbench drift` prints all that it measured: what took minutes must not stay unseen."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fixtures.drift import example, moved, write
from retainbench.harness.cli import main as cli
from retainbench.harness.drift import measure as drift
from retainbench.harness.drift.records import DriftReport


def printed(capsys: pytest.CaptureFixture[str], base: Path, candidate: Path, *levels: str) -> str:
    cli.app(["drift", str(base), str(candidate), *levels], standalone_mode=False)
    return capsys.readouterr().out


def cells(text: str, name: str) -> list[list[str]]:
    """Words behind a name at the start of a line, line by line."""
    return [line.split()[1:] for line in text.splitlines() if line.split()[:1] == [name]]


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """A candidate with its own head over a base whose head is tied and stored twice."""
    base = example() | {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)}
    base["lm_head.weight"] = base["model.embed_tokens.weight"].clone()
    config = {"model_type": "llama", "tie_word_embeddings": True}
    return (
        write(tmp_path / "a", base, config),
        write(tmp_path / "b", moved(example()), config | {"tie_word_embeddings": False}),
    )


def test_every_asked_level_is_printed(
    pair: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    report = drift.measure(*pair, spectral=True, subspace=True)
    text = printed(capsys, *pair, "--spectral", "--subspace")
    measured = [tensor for tensor in report.tensors if tensor.spectrum and tensor.subspace]
    assert len(measured) >= 4
    for tensor in measured:
        assert tensor.spectrum is not None
        assert tensor.subspace is not None
        spectrum, subspace = cells(text, tensor.name)
        shape = " x ".join(map(str, tensor.shape)).split()
        assert spectrum[: len(shape)] == shape
        assert spectrum[len(shape)] == f"{tensor.spectrum.norm:.4g}"
        assert spectrum[-1] == f"{tensor.spectrum.energy_rank}"
        assert subspace[:3] == [
            str(tensor.subspace.rank),
            f"{tensor.subspace.left:.3f}",
            f"({tensor.subspace.left_random:.3f})",
        ]
    for group in report.kinds:
        assert cells(text, group.group)[0][1] == f"{group.relative:.4g}"


def test_matrices_are_printed_only_if_asked_for(
    pair: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    text = printed(capsys, *pair)
    assert "model.layers.1.mlp.down_proj.weight" not in text
    (line,) = [line for line in text.splitlines() if line.startswith("Frobenius")]
    assert f"{drift.measure(*pair).overall.frobenius:.6g}" in line


def test_what_is_not_counted_is_named(
    pair: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    report: DriftReport = drift.measure(*pair)
    assert report.notes
    assert report.buffers
    text = " ".join(printed(capsys, *pair).split())
    for note in report.notes:
        assert f"Note: {note}" in text
    assert f"Buffers, not counted: {', '.join(report.buffers)}" in text
    base = pair[0]
    text = " ".join(printed(capsys, base, base).split())
    assert "Tied, counted once: lm_head.weight" in text
