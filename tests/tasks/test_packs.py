"""Hostile packs: each is refused with one line that names the file, and the item if there is one.

Every case spoils a good pack and asks for it by `--pack`, which is what every verb does first. A
canary file shows that nothing of the pack was run.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import py_compile
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from fixtures.packs import answer_rows, make_pack
from retainbench.harness.core import paths
from retainbench.harness.core.errors import IntegrityError, UsageError
from retainbench.harness.tasks import catalogue
from retainbench.harness.tasks import pack as tasks_pack
from retainbench.harness.tasks.catalogue import Catalogue
from retainbench.harness.tasks.items import LONGEST_LINE

CANARY = "canary"


@pytest.fixture(autouse=True)
def _empty_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A canary would be written to an empty folder."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    """A good pack of two tasks, `sums` (choices) and `words` (answers)."""
    make_pack(tmp_path / "pack")
    make_pack(tmp_path / "pack", name="words", rows=answer_rows(), match="numeric")
    return tmp_path / "pack"


def _refused(pack: Path, *said: str) -> str:
    """The one line with which a pack is refused."""
    with pytest.raises(IntegrityError) as caught:
        Catalogue.of([pack])
    message = str(caught.value)
    assert "\n" not in message
    for word in said:
        assert word in message, message
    assert not list(pack.parent.rglob(CANARY))
    return message


def _relock(pack: Path) -> None:
    """The attacker freezes anew, so that the lock holds."""
    for folder in tasks_pack.folders_of(pack):
        catalogue.write_lock(catalogue.read_task(folder))


def test_a_good_pack_is_used(pack: Path) -> None:
    known = Catalogue.of([pack])
    assert set(known.packed) == {"sums", "words"}
    assert pickle.loads(pickle.dumps(known)) == known  # noqa: S301 - as workers get it
    assert set(Catalogue().tasks) == set(known.tasks) - set(known.packed)
    assert known.find(["sums", "rb_words"])[1].folder == pack / "words"


def test_one_task_folder_is_a_pack_too(pack: Path) -> None:
    """Each folder is complete in itself."""
    shutil.copytree(pack / "words", pack.parent / "elsewhere" / "words")
    assert set(Catalogue.of([pack.parent / "elsewhere" / "words"]).packed) == {"words"}


def test_what_is_no_pack_is_a_usage_error(pack: Path) -> None:
    for folder in (pack / "nothing", pack / "sums" / "items.jsonl"):
        with pytest.raises(UsageError, match="not a folder"):
            Catalogue.of([folder])
    (pack.parent / "empty").mkdir()
    with pytest.raises(UsageError, match="holds no task"):
        Catalogue.of([pack.parent / "empty"])


YAML_ATTACKS = {
    "function": ("doc_to_text: !function evil.run", "doc_to_text"),
    "function of an importable module": ("doc_to_text: !function os.getcwd", "os.getcwd"),
    "function elsewhere": ("process_results: !function /tmp/evil.run", "process_results"),
    "function above": ("process_results: !function ../evil.run", "process_results"),
    "own loader": ("custom_dataset: !function _dataset.load", "custom_dataset"),
    "other code key": ("process_docs: !function evil.run", "process_docs"),
    "class": ("class: !function evil.Task", "class"),
    "dataset": ("dataset_path: json", "dataset_path"),
    "absolute include": ("include: /etc/passwd", "include"),
    "include above": ("include: ../other/_multiple_choice.yaml", "include"),
    "second include": ("include: [_multiple_choice.yaml, /etc/passwd]", "include"),
    "folder above": ("dataset_kwargs: {folder: ../../other}", "dataset_kwargs.folder"),
    "absolute folder": ("dataset_kwargs: {folder: /etc}", "dataset_kwargs.folder"),
    "uses": (
        "metadata: {version: 1, licence: x, axis: numeric, uses: [../../secret]}",
        "metadata.uses",
    ),
    "attribute": ('doc_to_text: "{{query.__class__.__mro__}}"', "doc_to_text"),
    "attribute beside the query": ('doc_to_text: "{{query}} {{ query.x }}"', "doc_to_text"),
    "call": ('doc_to_text: "{{query}}{{ cycler.__init__() }}"', "doc_to_text"),
    "statement": ('doc_to_text: "{% set x = 1 %}{{query}}"', "doc_to_text"),
    "comment": ('doc_to_text: "{{query}}{# hidden #}"', "doc_to_text"),
    "template as target": ('doc_to_target: "{{ [1][0].real }}"', "doc_to_target"),
    "template as choice": ('doc_to_choice: "{{ choices.__len__() }}"', "doc_to_choice"),
    "description": ('description: "{{ 7 * 7 }}"', "description"),
    "sampling": (
        "generation_kwargs: {until: [x], do_sample: true, max_gen_toks: 1}",
        "generation_kwargs.do_sample",
    ),
    "metric of the hub": (
        "metric_list: [{metric: bleu, hf_evaluate: true}]",
        "metric_list.0",
    ),
    "metric function": ("metric_list: [{metric: !function evil.run}]", "metric_list.0.metric"),
    "filter function": (
        "filter_list: [{name: x, filter: [{function: custom, filter_fn: !function evil.run}]}]",
        "filter_list.0",
    ),
    "name of another task": ("task: rb_capitals", "task"),
    "axis": ("metadata: {version: 1, licence: x, axis: target}", "metadata.axis"),
    "NaN": ("metadata: {version: 1, licence: x, axis: numeric, chance: .nan}", "metadata.chance"),
    "no YAML": ("[", "YAML"),
    "python object": ("extra: !!python/object/apply:os.system [touch canary]", "YAML"),
    "impossible date": ("extra: 2001-99-99", "YAML"),
    "depth": ("extra: " + "[" * 50_000, "YAML"),
    "size": ("extra: " + "x" * 1_100_000, "bytes"),
}


@pytest.mark.parametrize("attack", list(YAML_ATTACKS))
def test_hostile_yaml_is_refused_by_file_and_key(pack: Path, attack: str) -> None:
    """The attacker changes one key and freezes anew where that is possible."""
    line, said = YAML_ATTACKS[attack]
    path = pack / "sums" / "sums.yaml"
    key = line.partition(":")[0]
    text = path.read_text(encoding="utf-8")
    blocks = [b for b in ("\n" + text).split("\n") if b]
    kept, inside = [], False
    for one in blocks:
        inside = one.startswith(f"{key}:") or (inside and one.startswith((" ", "-")))
        if not inside:
            kept.append(one)
    path.write_text("\n".join([*kept, line]) + "\n", encoding="utf-8")
    (pack.parent / "evil.py").write_text(_evil(), encoding="utf-8")
    _refused(pack, "sums.yaml", said)


def _evil() -> str:
    return f"from pathlib import Path\nPath({CANARY!r}).write_text('')\n"


def _changed_code(pack: Path) -> str:
    path = pack / "sums" / "_dataset.py"
    path.write_text(_evil() + path.read_text(encoding="utf-8"), encoding="utf-8")
    return "_dataset.py"


def _changed_base(pack: Path) -> str:
    path = pack / "sums" / "_multiple_choice.yaml"
    path.write_text(path.read_text(encoding="utf-8") + "tag: mine\n", encoding="utf-8")
    return "_multiple_choice.yaml"


def _extra_code(pack: Path) -> str:
    (pack / "sums" / "evil.py").write_text(_evil(), encoding="utf-8")
    return "evil.py"


def _code_beside(pack: Path) -> str:
    (pack / "evil.py").write_text(_evil(), encoding="utf-8")
    return "evil.py"


def _task_below(pack: Path) -> str:
    shutil.copytree(pack / "sums", pack / "deep" / "er" / "sums")
    return "deep"


def _compiled(pack: Path) -> str:
    """A poisoned cache that Python would prefer to the source: unchecked, hash-based."""
    source = pack.parent / "evil.py"
    source.write_text(_evil(), encoding="utf-8")
    target = pack / "sums" / "__pycache__" / "_dataset.cpython-311.pyc"
    mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
    py_compile.compile(str(source), cfile=str(target), invalidation_mode=mode)
    return "__pycache__"


def _linked_items(pack: Path) -> str:
    path = pack / "sums" / "items.jsonl"
    path.rename(pack.parent / "items.jsonl")
    path.symlink_to(pack.parent / "items.jsonl")
    return "items.jsonl"


def _linked_base(pack: Path) -> str:
    path = pack / "sums" / "_multiple_choice.yaml"
    path.unlink()
    path.symlink_to(paths.TASKS / path.name)
    return "_multiple_choice.yaml"


def _linked_lock(pack: Path) -> str:
    path = pack / "sums" / "task.lock"
    path.unlink()
    path.symlink_to("/etc/passwd")
    return "task.lock"


def _pipe(pack: Path) -> str:
    os.mkfifo(pack / "sums" / "README.md")
    return "README.md"


FOLDER_ATTACKS: list[Callable[[Path], str]] = [
    _changed_code,
    _changed_base,
    _extra_code,
    _code_beside,
    _task_below,
    _compiled,
    _linked_items,
    _linked_base,
    _linked_lock,
    _pipe,
]


@pytest.mark.parametrize("attack", FOLDER_ATTACKS, ids=lambda attack: attack.__name__.strip("_"))
def test_hostile_files_are_refused_by_name(pack: Path, attack: Callable[[Path], str]) -> None:
    _refused(pack, attack(pack))


def test_a_linked_task_folder_is_refused(pack: Path) -> None:
    """Also where the link leads to a good pack elsewhere."""
    (pack / "sums").rename(pack.parent / "sums")
    (pack / "sums").symlink_to(pack.parent / "sums")
    _refused(pack, "sums", "link")


GOOD = '{"id": "a", "query": "q", "choices": ["x", "y"], "gold": 0, "cluster": "a"}\n'
ITEM_ATTACKS = {
    "long line": (GOOD + '{"id": "' + "x" * (LONGEST_LINE + 1), "items.jsonl:2", "bytes"),
    "UTF-8": (GOOD.encode() + b'{"id": "\xff"}\n', "items.jsonl:2", "UTF-8"),
    "duplicate": (GOOD + GOOD, "items.jsonl:2: item a", "duplicate"),
    "gold": (GOOD.replace('"gold": 0', '"gold": 2'), "items.jsonl:1: item a", "gold 2"),
    "negative gold": (GOOD.replace('"gold": 0', '"gold": -1'), "item a", "gold -1"),
    "NaN": (GOOD.replace('"gold": 0', '"gold": NaN'), "items.jsonl:1", "NaN"),
    "infinity": (GOOD.replace('"gold": 0', '"gold": -Infinity'), "items.jsonl:1", "Infinity"),
    "no choices": ('{"id": "a", "query": "q", "gold": 0, "cluster": "a"}\n', "item a", "choices"),
    "answers instead": (
        '{"id": "a", "query": "q", "answer": "x", "aliases": [], "cluster": "a"}\n',
        "item a",
        "lacks choices",
    ),
    "one choice": (GOOD.replace(', "y"', ""), "items.jsonl:1: item a", "choices"),
    "equal choices": (GOOD.replace('"y"', '"x"'), "items.jsonl:1: item a", "duplicate"),
    "surrogate": (GOOD.replace('"q"', '"\\ud800"'), "items.jsonl:1", "surrogate"),
    "two keys": (GOOD.replace('"gold": 0', '"gold": 0, "gold": 1'), "items.jsonl:1", "duplicate"),
    "huge number": (GOOD.replace('"gold": 0', '"gold": ' + "9" * 5_000), "items.jsonl:1", "JSON"),
    "terminal codes": (GOOD.replace('"id": "a"', '"id": "a\\u001b[2J"'), "items.jsonl:1", "id"),
    "depth": ("[" * 100_000, "items.jsonl:1", "JSON"),
    "nothing": ("", "items.jsonl", "no items"),
}


@pytest.mark.parametrize("attack", list(ITEM_ATTACKS))
def test_hostile_items_are_refused_by_line_and_item(pack: Path, attack: str) -> None:
    """The digest in the lock is the attacker's own, so only the items' form can give them away."""
    data, *said = ITEM_ATTACKS[attack]
    items = data if isinstance(data, bytes) else data.encode()
    (pack / "sums" / "items.jsonl").write_bytes(items)
    path = pack / "sums" / "task.lock"
    lock = json.loads(path.read_text(encoding="utf-8"))
    lock["files"]["items.jsonl"] = hashlib.sha256(items).hexdigest()
    path.write_text(json.dumps(lock), encoding="utf-8")
    message = _refused(pack, *said)
    assert "\x1b" not in message


def test_a_line_of_100_mb_is_never_held(pack: Path) -> None:
    """It is refused after reading a little more than the limit, whatever follows."""
    import tracemalloc

    with (pack / "sums" / "items.jsonl").open("wb") as stream:
        stream.write(b'{"id": "')
        stream.seek(100_000_000)
        stream.write(b"x")
    tracemalloc.start()
    _refused(pack, "items.jsonl:1", "bytes")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20_000_000


def test_two_packs_with_one_name_are_refused(pack: Path) -> None:
    other = pack.parent / "other" / "sums"
    shutil.copytree(pack / "sums", other)
    with pytest.raises(IntegrityError, match=r"other/sums: a task named sums exists already"):
        Catalogue.of([pack, other])


def test_a_pack_cannot_take_the_name_of_a_task(pack: Path) -> None:
    """`capitals` stays the package's."""
    folder = (pack / "sums").rename(pack / "capitals")
    text = (folder / "sums.yaml").read_text(encoding="utf-8").replace("rb_sums", "rb_capitals")
    (folder / "sums.yaml").unlink()
    (folder / "capitals.yaml").write_text(text, encoding="utf-8")
    _relock(pack)
    _refused(pack, "capitals", "exists already")


def test_what_we_ship_is_what_a_pack_may_hold() -> None:
    """A changed companion needs its new digest in `SHIPPED`, where the old ones stay."""
    for name, digests in tasks_pack.SHIPPED.items():
        data = (paths.TASKS / name).read_bytes()
        assert hashlib.sha256(data).hexdigest() == digests[-1], name
