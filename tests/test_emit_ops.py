"""Machine code of every operation's kernel, with plain loops and with the CPU's schedule, against the reference."""

from __future__ import annotations

import numpy as np
import pytest
from _jit import load
from _samples import assert_close, reference, sample_arrays, samples

from planish.codegen.llvm.target import target_for
from planish.ir.kernel.builder import KernelBuilder
from planish.ir.kernel.form import Kernel
from planish.ir.ops.base import TensorOp
from planish.passes.schedule.cpu import schedule_kernel

ALL = [(name, op) for name, op in samples() if all(v.tensor.dtype != "string" for v in [*op.inputs, *op.results])]
TARGETS = ["native", "x86-64-v3"]


def kernel(op: TensorOp) -> Kernel:
    k = KernelBuilder([v.tensor for v in op.inputs], [r.tensor for r in op.results])
    op.kernel(k)
    return k.outlined("test")


@pytest.mark.parametrize("op", [op for _, op in ALL], ids=[name for name, _ in ALL])
def test_code_agrees_with_reference_with_and_without_schedule(op: TensorOp) -> None:
    target = target_for()
    arrays = sample_arrays(op)
    want = reference(op, arrays)
    plain = kernel(op)
    scheduled = kernel(op)
    schedule_kernel(scheduled, target)
    for k in (plain, scheduled):
        got = load(k, target).run(*map(np.asarray, arrays))
        for a, b in zip(got, want, strict=True):
            assert_close(a, b, 4.0)
