"""retainbench from Python: what post-training a language model costs it.

    evaluate      a model and tasks -> a DataFrame with a row per item
    load_records  the records of items in a file -> the same DataFrame
    gate          base and candidate -> PASS, REGRESSION or INCONCLUSIVE
    certify       base and candidate -> a certificate
    compare       base and candidate, or two runs -> a DataFrame of what changed
    drift         base and candidate -> how far and where the weights moved
    run           a suite -> every method trained, scored and tabulated
    RetentionCallback   retention while transformers' Trainer (or one of TRL's) trains

Importing this loads nothing but this file: each name is imported when it is first used, so that
reading results never loads torch. The names in `__all__`, their arguments and the columns of their
DataFrames follow semantic versioning; everything else may change in any release.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from retainbench.harness.api.callback import RetentionCallback
    from retainbench.harness.api.certify import certify, certify_chain
    from retainbench.harness.api.compare import compare
    from retainbench.harness.api.evaluate import drift, evaluate
    from retainbench.harness.api.gate import gate
    from retainbench.harness.api.records import load_records
    from retainbench.harness.api.run import Run, run

    __version__: str

__all__ = [
    "RetentionCallback",
    "Run",
    "__version__",
    "certify",
    "certify_chain",
    "compare",
    "drift",
    "evaluate",
    "gate",
    "load_records",
    "run",
]

PLACES = {
    "RetentionCallback": "callback",
    "Run": "run",
    "certify": "certify",
    "certify_chain": "certify",
    "compare": "compare",
    "drift": "evaluate",
    "evaluate": "evaluate",
    "gate": "gate",
    "load_records": "records",
    "run": "run",
}
"""Name -> module of harness/api."""


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("retainbench")
    if name not in PLACES:
        raise AttributeError(f"module 'retainbench' has no attribute {name!r}")
    try:
        module = importlib.import_module(f"retainbench.harness.api.{PLACES[name]}")
    except ModuleNotFoundError as error:
        from retainbench.harness.core import extras

        raise extras.not_installed(error) or error from None
    return getattr(module, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
