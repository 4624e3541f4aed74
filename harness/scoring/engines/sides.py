"""The engines of base and candidate, and how the change from one to the other is measured."""

from __future__ import annotations

from typing import NamedTuple

from retainbench.harness.core.errors import UsageError
from retainbench.harness.scoring.engines.opening import OURS, EngineChoice, chosen


class Engines(NamedTuple):
    """What answers on each side."""

    base: EngineChoice
    candidate: EngineChoice
    floor: str | None
    """The base as the candidate's engine reads it; None: not measured."""
    floor_engine: EngineChoice
    """The candidate's, with the arguments for the base."""

    @property
    def crosses(self) -> bool:
        """Whether a difference of answers may be the engine's, or that of its arguments."""
        return self.base != self.candidate

    @property
    def remarks(self) -> list[str]:
        """What a certificate says about servers."""
        sides = {"base": self.base, "candidate": self.candidate}
        return [
            f"a server answered for the {side}: that it serves these files was not verified"
            for side, engine in sides.items()
            if engine.serves
        ]


def engines_of(
    base_engine: str,
    candidate_engine: str | None,
    arguments: str,
    base_arguments: str | None,
    floor: str | None,
    floor_arguments: str | None,
    base: str,
) -> Engines:
    """The engines from what a user wrote.

    Without a `floor`, the base itself is taken where the candidate's engine can read it: not by
    llama.cpp unless it is a GGUF file, and not by the server that serves the candidate.

    Raises:
        UsageError: an unknown engine, arguments that no side takes, a floor where both sides have
            one engine, or on a server without the arguments of the server that serves the base.
    """
    names = base_engine, candidate_engine or base_engine
    shared = base_arguments is None
    given = arguments if base_arguments is None else base_arguments, arguments
    first, second = (
        chosen(name, "" if shared and name == OURS.name and set(names) != {name} else text)
        for name, text in zip(names, given, strict=True)
    )
    if first == second and (floor or floor_arguments is not None):
        raise UsageError(
            "--engine-floor and --engine-floor-args measure a change of engine, and both sides "
            "have the same. Leave them out, or name another --candidate-engine"
        )
    if floor and second.serves and floor_arguments is None:
        raise UsageError(
            "--engine-floor: add --engine-floor-args with the base_url and model of the server "
            "that serves the base"
        )
    there = floor_arguments is not None or not second.serves
    reads = second.name != "llama.cpp" or base.lower().endswith(".gguf")
    engine = second if floor_arguments is None else chosen(second.name, floor_arguments)
    return Engines(first, second, floor or (base if there and reads else None), engine)
