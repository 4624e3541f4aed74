"""The one reader of YAML files, whoever wrote them: suites, policies, packs, tasks of lm-eval.

Reads a regular file of bounded size and returns plain values; nothing in it is imported or called.
Size, type, nesting, aliases and the length of numbers are checked before or while it is parsed, so
that every file is answered in seconds.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from retainbench.harness.core.errors import IntegrityError
from retainbench.harness.core.files.foreign_json import read_text

MOST_BYTES = 256 * 2**10  # the largest in suites/ has 6 kB; 256 kB take some 4 s on a slow core
DEEPEST = 40  # levels; a suite has 6
MOST_VALUES = 20_000  # with every alias written out; the largest suite has 300
TRUTH, TEXT = "tag:yaml.org,2002:bool", "tag:yaml.org,2002:str"
LONGEST_NUMBER = 40  # characters: no 64-bit integer or float needs more


class _Loader(yaml.SafeLoader):
    """SafeLoader with budgets; `!function module.name` stays text instead of being imported."""

    def __init__(self, text: str, unique: bool) -> None:
        super().__init__(text)
        self.unique = unique
        self.depth = 0
        self.values = 0
        self.sizes: dict[int, int] = {}

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """One value with all that it holds, counted."""
        self.depth += 1
        if self.depth > DEEPEST:
            raise yaml.YAMLError(f"values are nested more than {DEEPEST} levels deep")
        if self.check_event(yaml.AliasEvent) and self._open():
            raise yaml.YAMLError("an alias inside the value that it names")
        before = self.values
        node = super().compose_node(parent, index)
        self.depth -= 1
        if node is not None:
            self._count(node, before)
        return node

    def _count(self, node: yaml.Node, before: int) -> None:
        """Count a value; an alias counts like a copy of what it names."""
        if id(node) in self.sizes:
            self.values += self.sizes[id(node)]
        else:
            self.values += 1
            self.sizes[id(node)] = self.values - before
        if self.values > MOST_VALUES:
            raise yaml.YAMLError(f"more than {MOST_VALUES} values, aliases written out")

    def _open(self) -> bool:
        """Whether the alias ahead names a value that is still being read."""
        anchor = self.peek_event().anchor  # type: ignore[no-untyped-call]
        return anchor in self.anchors and id(self.anchors[anchor]) not in self.sizes

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """A mapping, in which every key is written once if that is asked for.

        `on:` is a key of anchors, so what YAML 1.1 takes for a truth value stays text as a key.
        """
        node = super().compose_mapping_node(anchor)
        for key, _ in node.value:
            if key.tag == TRUTH:
                key.tag = TEXT
        if not self.unique:
            return node
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen and key.value != "<<":
                    raise yaml.YAMLError(f"duplicate key {key.value!r} in line {_line(key)}")
                seen.add(key.value)
        return node


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _number(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> Any:
    if len(node.value) > LONGEST_NUMBER:
        raise yaml.YAMLError(f"a number of {len(node.value)} digits in line {_line(node)}")
    kind = node.tag.rsplit(":", 1)[-1]
    return loader.construct_yaml_int(node) if kind == "int" else loader.construct_yaml_float(node)


def _writable(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> str:
    text = str(loader.construct_scalar(node))
    text.encode("utf-8")  # half a surrogate pair is a ValueError here, not later when it is written
    return text


def _function_text(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> str:
    return f"!function {loader.construct_scalar(node)}"


# YAML 1.1, which PyYAML reads, takes `1e-4` and `6.0e11` for texts: no point, no sign.
_FLOAT = re.compile(r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)[eE][-+]?[0-9]+$")
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+.0123456789"))
_Loader.add_constructor("!function", _function_text)
_Loader.add_constructor("tag:yaml.org,2002:str", _writable)
_Loader.add_constructor("tag:yaml.org,2002:int", _number)
_Loader.add_constructor("tag:yaml.org,2002:float", _number)


def read_mapping(path: Path, *, unique: bool = True) -> dict[str, Any]:
    """A YAML file of keys and values, as plain values.

    Args:
        unique: refuse duplicate keys; tasks of lm-eval have some.

    Raises:
        IntegrityError: not a regular file, too large, not UTF-8, not YAML, over a budget, or not a
            mapping with texts as keys.
    """
    text = read_text(path, MOST_BYTES)
    try:
        value = _Loader(text.removeprefix("\ufeff"), unique).get_single_data()
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise IntegrityError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise IntegrityError(f"{path}: not a mapping. Write lines such as `margin: 0.02`")
    return value
