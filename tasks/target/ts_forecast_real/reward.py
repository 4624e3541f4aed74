"""Reward of ts_forecast_real: that of target/ts_forecast."""

import importlib.util
from pathlib import Path

_PATH = Path(__file__).resolve().parents[1] / "ts_forecast" / "reward.py"
_SPEC = importlib.util.spec_from_file_location("retainbench_ts_forecast_reward", _PATH)
assert _SPEC is not None
assert _SPEC.loader is not None
_FORECAST = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_FORECAST)

reward = _FORECAST.reward
valid = _FORECAST.valid
process_results = _FORECAST.process_results
