"""What our processes do when they start: silence the libraries below, and end with their parent.

Called by the verbs that load models, and by the worker processes that they start.
"""

from __future__ import annotations

import logging
import os
import threading
import warnings
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
