"""Settings of MindSpore that programs make first. Here there is one way to run a network: compiled, on the CPU."""

from __future__ import annotations

from typing import Any

from planish.mindspore.errors import LoadValueError

GRAPH_MODE, PYNATIVE_MODE = 0, 1


def set_context(**options: Any) -> None:
    """Check `device_target`; all else says nothing here. Raises `ValueError` for another device than the CPU."""
    set_device(options.get("device_target") or "CPU")


def set_device(device_target: str, device_id: int | None = None) -> None:
    """Check the device. Raises `ValueError` for another one than the CPU."""
    if device_target != "CPU":
        raise LoadValueError(f"device_target: expected CPU, got {device_target!r}: planish.mindspore runs on the CPU")
