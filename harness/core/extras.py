"""Which extra of the package holds a library that is not installed.

The base install judges results; figures, the HTML report and DataFrames are the extra `report`,
scoring and training the extra `all`. `import` fails where a library is needed, and the command line
turns that failure into one line here. A verb that writes before it imports asks `require` first.
"""

from __future__ import annotations

import re
from importlib.metadata import requires
from importlib.util import find_spec

from retainbench.harness.core.errors import UsageError

REQUIREMENT = re.compile(r"""([A-Za-z0-9._-]+)[^;]*;.*extra == ["']([a-z]+)["']""")


def require(module: str) -> None:
    """Raise `ModuleNotFoundError`, as `import` would, without the seconds that it takes."""
    if find_spec(module) is None:
        raise ModuleNotFoundError(f"No module named {module!r}", name=module)


def not_installed(error: ModuleNotFoundError) -> UsageError | None:
    """What to install; None if no extra holds the module, which is then a bug.

    >>> print(not_installed(ModuleNotFoundError("No module named 'torch'", name="torch")))
    torch is not installed, and this needs it. Run: pip install 'retainbench[all]'
    """
    missing = _module(str(error.name).partition(".")[0])
    for requirement in requires("retainbench") or ():
        found = REQUIREMENT.match(requirement)
        if found and _module(found[1]) == missing and found[2] != "dev":
            return UsageError(
                f"{found[1]} is not installed, and this needs it. "
                f"Run: pip install 'retainbench[{found[2]}]'"
            )
    return None


def _module(distribution: str) -> str:
    """The name under which a distribution is imported, as far as its own name says it."""
    return re.sub(r"[-.]", "_", distribution).lower().removesuffix("_python")
