"""Loading bases: safe, or refused with the file's name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from fixtures import hub
from retainbench.harness.core.errors import IntegrityError, UsageError
from retainbench.harness.core.files import locks
from retainbench.harness.models import bases, fetch, identity, loading


@pytest.fixture
def copy(tiny_base: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_base, tmp_path / "copy"))


def test_a_folder_loads_in_evaluation_mode(tiny_base: Path) -> None:
    base = bases.resolve(str(tiny_base))
    loaded = loading.load(base.folder)
    assert not loaded.model.training
    assert loaded.tokenizer.decode(loaded.tokenizer.encode("Answer: 42")) == "Answer: 42"


def test_the_digest_is_of_contents(tiny_base: Path, copy: Path) -> None:
    assert identity.folder_digest(copy) == identity.folder_digest(tiny_base)
    (copy / "README.md").write_text("does not count")
    assert identity.folder_digest(copy) == identity.folder_digest(tiny_base)
    (copy / "generation_config.json").write_text('{"temperature": 2}')
    assert identity.folder_digest(copy) != identity.folder_digest(tiny_base)


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (lambda f: (f / "pytorch_model.bin").write_bytes(b"x"), "pytorch_model.bin"),
        (lambda f: shutil.copy(f / "model.safetensors", f / "other.safetensors"), "two sets"),
        (lambda f: (f / "model.q4.gguf").write_bytes(b"GGUF"), "two sets"),
        (lambda f: (f / "tokenizer.json").unlink(), "tokenizer is missing"),
        (lambda f: (f / "model.safetensors").unlink(), "no model.safetensors"),
        (lambda f: (f / "config.json").unlink(), "config.json is missing"),
        (
            lambda f: (f / "config.json").write_text(
                json.dumps(json.loads((f / "config.json").read_text()) | {"auto_map": {"A": "b.C"}})
            ),
            "auto_map",
        ),
    ],
)
def test_an_unsafe_or_incomplete_folder_is_refused(copy: Path, spoil: object, problem: str) -> None:
    spoil(copy)  # type: ignore[operator]
    with pytest.raises(IntegrityError, match=problem):
        bases.resolve(str(copy))


def test_weights_that_are_not_numbers_are_refused(copy: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(copy / "model.safetensors")
    weights["model.norm.weight"][3] = float("nan")
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(IntegrityError, match=r"model\.norm\.weight"):
        loading.load(copy)


def test_missing_weights_are_refused(copy: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(copy / "model.safetensors")
    del weights["model.norm.weight"]
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(IntegrityError, match="missing keys"):
        loading.load(copy)


def test_a_base_that_was_fetched_is_read_while_others_read_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RETAINBENCH_CACHE", str(tmp_path))
    folder = bases.named()["smollm2-135m"]
    folder.mkdir(parents=True)
    with locks.replaced(folder):
        assert fetch.fetch("smollm2-135m") == folder


def test_names_are_suggested_and_fetching_is_explained() -> None:
    with pytest.raises(UsageError, match="did you mean 'fruitfly'"):
        bases.resolve("fruitfl")
    with pytest.raises(UsageError, match="smollm2-135m"):
        fetch.fetch("gpt-5")


def test_a_base_that_is_not_fetched_says_how(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RETAINBENCH_CACHE", str(tmp_path))
    with pytest.raises(UsageError, match="retainbench bases fetch smollm2-135m"):
        bases.resolve("smollm2-135m")


def test_a_hub_id_without_network_is_one_line() -> None:
    with pytest.raises(UsageError, match="Hugging Face hub") as caught:
        bases.resolve("nobody/nothing-of-the-kind")
    assert "\n" not in str(caught.value)


def test_a_hub_id_names_a_revision(tiny_base: Path, tmp_path: Path) -> None:
    """A branch, a commit, what is not there, and the cache when the hub is gone."""
    files = {path.name: path.read_bytes() for path in tiny_base.iterdir()}
    old = {**files, "model.safetensors": b"not one"}
    server = hub.Hub()
    server.models["org/tiny"] = hub.Repository({"a" * 40: old, "b" * 40: files}, main="a" * 40)
    command = ["capitals", "--limit", "5"]
    with hub.serve(server) as address:
        shell = hub.Shell(address, tmp_path)
        try:
            assert shell("evaluate", f"org/tiny@{'b' * 40}", *command).code == 0
            spoiled = shell("evaluate", "org/tiny", *command)
            revision = shell("evaluate", "org/tiny@v9", *command)
            nobody = shell("evaluate", "org/nothing", *command)
        finally:
            shell.close()
    assert (spoiled.code, revision.code, nobody.code) == (4, 2, 2)
    assert "model.safetensors" in spoiled.err
    assert "no such revision" in revision.err
    assert "no such model" in nobody.err
    shell = hub.Shell(address, tmp_path)
    try:
        assert shell("evaluate", f"org/tiny@{'b' * 40}", *command).code == 0
        gone = shell("evaluate", "org/other", *command)
    finally:
        shell.close()
    assert gone.code == 2
    assert "cannot be reached" in gone.err
    assert "`hf download org/other`" in gone.err
    assert gone.err.count("\n") == 1


def test_what_is_not_a_hub_id_is_one_line() -> None:
    with pytest.raises(UsageError, match="is not a hub id"):
        bases.resolve("org/mo--del")
