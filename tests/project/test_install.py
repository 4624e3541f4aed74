"""What is released works from nothing: the base install without torch, and the whole one.

Builds wheel and sdist as the release does and installs them from the package index, minutes on a
slow machine, so it runs only if asked for:
`RETAINBENCH_INSTALL_TESTS=1 pytest -s tests/project/test_install.py` prints what it measured.
`RETAINBENCH_INSTALL_PYTHON` names another interpreter than the one that runs the tests; where its
torch is a CUDA build, that is several gigabytes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

from fixtures import runs
from fixtures.certify import answers
from retainbench.harness.core import paths
from retainbench.harness.core.files.storage import write_jsonl

HEAVY = {"torch", "transformers", "trl", "peft", "datasets", "lm_eval", "accelerate"}
HEAVY |= {"scipy", "pandas", "pyarrow", "altair", "vl_convert"}
INSTALLER = {"pip", "setuptools", "pkg_resources", "_distutils_hack"}
"""What a new environment has before anything is installed in it."""
MOST_MEGABYTES = 150
"""Of what is installed; numpy is half of it. With the extra `all` it is several gigabytes."""
PYTHON = os.environ.get("RETAINBENCH_INSTALL_PYTHON", sys.executable)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        os.environ.get("RETAINBENCH_INSTALL_TESTS") != "1",
        reason="installs from the package index; set RETAINBENCH_INSTALL_TESTS=1",
    ),
]


def environment_of(folder: Path, *requirements: str) -> Path:
    """The folder of scripts of a fresh environment with these installed."""
    subprocess.run([PYTHON, "-m", "venv", str(folder)], check=True)
    pip = [str(folder / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check"]
    constraints = str(paths.PACKAGE / "constraints.txt")
    measured(f"install {requirements[0]}", [*pip, "-c", constraints, *requirements], folder)
    return folder / "bin"


def measured(what: str, command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder and print the seconds that it took."""
    started = time.monotonic()
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    sys.stdout.write(f"\n{what}: {time.monotonic() - started:.1f} s, exit {ended.returncode}\n")
    if ended.returncode not in (0, 1, 3):
        sys.stdout.write(ended.stdout + ended.stderr)
    return ended


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Wheel and sdist of the committed files, by kind."""
    folder = tmp_path_factory.mktemp("built")
    copy = folder / "source"
    subprocess.run(["git", "clone", "--quiet", str(paths.PACKAGE), str(copy)], check=True)
    builder = environment_of(folder / "builder", "build")
    command = [str(builder / "python"), "-m", "build", "--outdir", str(folder / "dist"), str(copy)]
    assert measured("build", command, folder).returncode == 0
    (wheel,) = (folder / "dist").glob("*.whl")
    (sdist,) = (folder / "dist").glob("*.tar.gz")
    return {"wheel": wheel, "sdist": sdist}


@pytest.fixture(scope="module")
def environment(built: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of scripts of a fresh environment with the base install."""
    return environment_of(tmp_path_factory.mktemp("slim") / "env", str(built["wheel"]))


def test_the_base_install_has_no_torch(environment: Path) -> None:
    (packages,) = (environment.parent / "lib").glob("python*/site-packages")
    installed = [path for path in packages.iterdir() if path.name not in INSTALLER]
    assert not HEAVY & {path.name for path in installed}
    files = [file for path in installed for file in (path, *path.rglob("*"))]
    size = sum(file.lstat().st_size for file in files) / 1e6
    sys.stdout.write(f"\nsite-packages: {size:.0f} MB\n")
    assert size < MOST_MEGABYTES


def test_it_gates_stored_records(environment: Path, tmp_path: Path) -> None:
    for name, lost in (("base", 0.0), ("same", 0.0), ("worse", 0.3)):
        write_jsonl(tmp_path / f"{name}.jsonl", answers("arithmetic", lost))
    (tmp_path / "policy.yaml").write_text("margin: 0.05\n")
    command = [str(environment / "retainbench"), "gate", "--policy", "policy.yaml"]
    for name, code in (("same", 0), ("worse", 1)):
        sides = ["--base-records", "base.jsonl", "--candidate-records", f"{name}.jsonl"]
        out = ["--out", name]
        assert measured("gate", [*command, *sides, *out], tmp_path).returncode == code
        assert (tmp_path / name / "flips.html").is_file()


@pytest.mark.parametrize(
    ("arguments", "library", "extra"),
    [
        (["evaluate", "fruitfly", "capitals"], "torch", "all"),
        (["run", "quick"], "torch", "all"),
        (["report", str(paths.PACKAGE / "results" / "quick")], "vl-convert-python", "report"),
    ],
)
def test_a_verb_that_needs_more_names_the_extra(
    environment: Path, tmp_path: Path, arguments: list[str], library: str, extra: str
) -> None:
    if arguments[0] == "report":
        arguments[1] = str(shutil.copytree(arguments[1], tmp_path / "run"))
    command = [str(environment / "retainbench"), *arguments]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert ended.stderr.splitlines() == [
        f"retainbench: {library} is not installed, and this needs it. "
        f"Run: pip install 'retainbench[{extra}]'"
    ]


@pytest.mark.parametrize("kind", ["wheel", "sdist"])
def test_a_release_trains_gates_certifies_and_verifies(
    built: dict[str, Path], kind: str, tmp_path: Path
) -> None:
    bin_folder = environment_of(tmp_path / "env", f"{built[kind]}[all]")
    home = tmp_path / "home"
    home.mkdir()
    stated = runs.suite(Path("fruitfly"), tasks=["capitals", "dates"], trajectory=[1.0])
    few = stated.model_copy(update={"divergence_prompts": 0})
    runs.write_suite(home / "few.yaml", few)

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        return measured(arguments[0], [str(bin_folder / "retainbench"), *arguments], home)

    assert call("--version").stdout.split() == ["retainbench", version()]
    assert call("run", "./few.yaml", "--out", "run").returncode == 0
    assert (home / "run/report.html").is_file()
    assert call("gate", "run", "--out", "gate").returncode in (0, 1, 3)
    (candidate,) = home.glob("run/cells/*/checkpoints/s0-1.0000")
    made = ["--candidate", str(candidate), "--suite", "./few.yaml"]
    certified = call("certify", "--base", "fruitfly", *made, "--out", "certificate")
    assert certified.returncode in (0, 1, 3)
    assert call("verify", "certificate", "--allow-unsigned", *made).returncode == 0


def version() -> str:
    """Of the source."""
    project = tomllib.loads((paths.PACKAGE / "pyproject.toml").read_text("utf-8"))["project"]
    return str(project["version"])
