"""Where a model is put and in which precision it computes; imports no torch.

What a user writes as `--device`, `--dtype` and `--device-map`. Base and candidate of a certificate
share it, so that precision is never the difference between them.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

from retainbench.harness.core.errors import UsageError

Dtype = Literal["float32", "bfloat16", "float16", "auto"]
DeviceMap = Literal["auto"]


class Placement(NamedTuple):
    """The keyword arguments of `loading.load` that do not name a model."""

    device: str = "cpu"
    """A torch device; does not apply with a device map."""
    dtype: str = "float32"
    """A torch dtype by name, or `auto`: the one that the checkpoint's config names."""
    device_map: DeviceMap | None = None
    """`auto` spreads the layers over all GPUs of this machine; None keeps them on `device`."""


ON_CPU = Placement()
"""In float32 on the CPU: the default everywhere."""


def placed(device: str, dtype: str, device_map: str | None) -> Placement:
    """A placement from what a user wrote.

    Raises:
        UsageError: an unknown dtype or device map, or a device next to a device map.
    """
    if dtype not in get_args(Dtype):
        raise UsageError(f"--dtype {dtype}: write one of {', '.join(get_args(Dtype))}")
    if device_map not in (None, *get_args(DeviceMap)):
        raise UsageError(f"--device-map {device_map}: write auto, or leave it out")
    if device_map and device != "cpu":
        raise UsageError(
            f"--device {device} and --device-map {device_map} contradict each other: give one"
        )
    return Placement(device, dtype, "auto" if device_map else None)
