"""What our processes do when they start: silence the libraries below, and end with their parent.

Called by the verbs that load models, and by the worker processes that they start. A program of
somebody else's ends with us too (`guarded`).
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import warnings
from collections.abc import Sequence
from multiprocessing import parent_process
from multiprocessing.connection import wait


def quieten() -> None:
    """Silence the progress bars and notices of the libraries below; ours are the ones to watch.

    Warnings of theirs are about their own next versions; errors still propagate.
    """
    for name in (
        "TQDM_DISABLE",
        "HF_DATASETS_DISABLE_PROGRESS_BARS",
        "HF_HUB_DISABLE_PROGRESS_BARS",
    ):
        os.environ.setdefault(name, "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    for name in ("TRANSFORMERS_VERBOSITY", "HF_HUB_VERBOSITY"):
        os.environ.setdefault(name, "error")
    warnings.filterwarnings("ignore", category=FutureWarning)
    for name in ("lm_eval", "datasets", "trl", "peft"):
        logging.getLogger(name).setLevel(logging.ERROR)


def end_with_parent() -> None:
    """In a worker process: end it when its parent has ended, even by SIGKILL.

    The system closes the parent's end of a pipe then. Linux's PR_SET_PDEATHSIG would also fire when
    only the thread ends that started the worker.
    """
    threading.Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    parent = parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


_GUARD = """
import os, signal, subprocess, sys, threading

def end():
    os.read(0, 1)
    os.killpg(0, signal.SIGKILL)

threading.Thread(target=end, daemon=True).start()
locks = tuple(map(int, filter(None, sys.argv[1].split(","))))
try:
    code = subprocess.call(sys.argv[2:], stdin=subprocess.DEVNULL, pass_fds=locks)
except OSError as error:
    sys.exit(f"cannot start {sys.argv[2]!r}: {error.strerror}")
sys.exit(code if code >= 0 else 128 - code)
"""


def guarded(words: Sequence[str], locks: Sequence[int]) -> list[str]:
    """A command line that runs another one, and kills it with all that it left in its group.

    It does so when its standard input ends, which a pipe of ours does when we end, even by SIGKILL.
    A signal that ends the program becomes an exit code as a shell has it, 128 and its number.

    Args:
        locks: descriptors that it and the program hold; start it with `pass_fds=locks`.
    """
    return [sys.executable, "-I", "-S", "-c", _GUARD, ",".join(map(str, locks)), *words]
