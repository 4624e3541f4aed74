"""Silence for the libraries below: our progress lines, results and errors are the ones to watch.

Called by the verbs that load models, and by the worker processes that they start.
"""

from __future__ import annotations

import logging
import os
import warnings


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
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    warnings.filterwarnings("ignore", category=FutureWarning)
    for name in ("lm_eval", "datasets", "trl", "peft"):
        logging.getLogger(name).setLevel(logging.ERROR)
