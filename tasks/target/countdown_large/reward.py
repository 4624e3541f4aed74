"""Reward of countdown_large: that of target/countdown, which takes any number of numbers."""

import importlib.util
from pathlib import Path

_PATH = Path(__file__).resolve().parents[1] / "countdown" / "reward.py"
_SPEC = importlib.util.spec_from_file_location("retainbench_countdown_reward", _PATH)
assert _SPEC is not None
assert _SPEC.loader is not None
_COUNTDOWN = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_COUNTDOWN)

reward = _COUNTDOWN.reward
valid = _COUNTDOWN.valid
process_results = _COUNTDOWN.process_results
