"""Schedulers: how kernels run on a kind of target."""

from __future__ import annotations

from .cpu import ScheduleCpu, schedule_kernel

__all__ = ["ScheduleCpu", "schedule_kernel"]
