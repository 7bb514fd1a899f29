"""Mixtures of experts of ONNX Runtime's domain (MoE, QMoE) against ONNX Runtime, or a spelled-out mixture."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from _contrib import Array, agree_on, ints, node_model
from onnx_models import agree, rand

import planish
from planish.frontend.onnx import read_onnx
from planish.ir.errors import PlanishError
from planish.ir.interp import run_graph

H, I, E = 16, 32, 6  # hidden and inner size, experts


def layers(fused: int = 1, rows: int = 9) -> dict[str, Array]:
    """Inputs of MoE: `rows` rows, weights scaled such that results stay about 1."""
    return {
        "x": rand(rows, H), "r": rand(rows, E, seed=1), "w1": rand(E, fused * I, H, seed=2) / 4,
        "b1": rand(E, fused * I, seed=3), "w2": rand(E, H, I, seed=4) / 6, "b2": rand(E, H, seed=5),
    }  # fmt: skip


WEIGHTS = ("w1", "b1", "w2", "b2")


@pytest.mark.parametrize("activation", ["relu", "gelu", "silu", "identity"])
@pytest.mark.parametrize("rows", [1, 9])
def test_experts_with_activations(activation: str, rows: int) -> None:
    normalized = int(activation == "silu")
    more: dict[str, Any] = {"k": 2, "normalize_routing_weights": normalized, "activation_type": activation}
    agree_on("MoE", layers(rows=rows), constants=WEIGHTS, **more)


@pytest.mark.parametrize("rows", [1, 9])
def test_gated_experts(rows: int) -> None:
    more: dict[str, Any] = {"activation_type": "swiglu", "swiglu_fusion": 1, "swiglu_limit": 0.75}
    agree_on("MoE", layers(2, rows), constants=WEIGHTS, k=3, activation_alpha=1.7, activation_beta=1.0, **more)


def test_experts_of_batches_without_biases() -> None:
    given = {**layers(), "x": rand(3, 3, H), "b1": None, "b2": None}
    agree_on("MoE", given, constants=("w1", "w2"), k=1)


@pytest.mark.parametrize("fusion", [0, 2])
def test_gates_in_other_orders(fusion: int) -> None:
    """Layouts that only ONNX Runtime's GPU kernels have, against the one that its CPU kernel has."""
    given = layers(2)
    both, biases = given["w1"].reshape(E, I, 2, H), given["b1"].reshape(E, I, 2)
    base: dict[str, Any] = {"k": 2, "activation_type": "swiglu"}
    model, feed = node_model("MoE", given, constants=WEIGHTS, swiglu_fusion=1, **base)
    want = run_graph(read_onnx(model.SerializeToString()), feed)["y0"]
    if fusion == 2:
        turned = {
            "w1": np.concatenate([both[:, :, 0], both[:, :, 1]], 1),
            "b1": biases.transpose(0, 2, 1).reshape(E, -1),
        }
        given = {**given, **turned}
    else:
        parts = [np.ascontiguousarray(both[:, :, i]) for i in range(2)]
        given = {**given, "w1": parts[0], "b1": biases[:, :, 0].copy(), "w3": parts[1], "b3": biases[:, :, 1].copy()}
    names = tuple(n for n in given if n not in ("x", "r"))
    model, feed = node_model("MoE", given, constants=names, swiglu_fusion=fusion, **base)
    got = run_graph(read_onnx(model.SerializeToString()), feed)["y0"]
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("bits", "block"), [(4, 0), (8, 0), (4, 16)])
@pytest.mark.parametrize("rows", [1, 9])
def test_quantized_experts(bits: int, block: int, rows: int) -> None:
    size = {"h": (H // block,), "i": (I // block,)} if block else {"h": (), "i": ()}

    def scales(*shape: int, seed: int) -> Array:
        return (np.abs(rand(*shape, seed=seed)) + 0.2).astype(np.float32) / (8 * (1 << bits - 3))

    plain = layers(2, rows)
    given: dict[str, Array | None] = {
        "x": plain["x"], "r": plain["r"],
        "w1": ints(E, 2 * I, H * bits // 8, high=256, dtype=np.uint8), "s1": scales(E, 2 * I, *size["h"], seed=3),
        "b1": plain["b1"], "w2": ints(E, H, I * bits // 8, high=256, seed=1, dtype=np.uint8),
        "s2": scales(E, H, *size["i"], seed=4), "b2": plain["b2"],
    }  # fmt: skip
    more: dict[str, Any] = {"k": 2, "activation_type": "swiglu", "swiglu_fusion": 1, "normalize_routing_weights": 1}
    more |= {"expert_weight_bits": bits} | ({"block_size": block} if block else {})
    model, feed = node_model("QMoE", given, constants=("w1", "s1", "b1", "w2", "s2", "b2"), **more)
    agree(model, feed, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("rows", [1, 9])
def test_compiled_experts(rows: int) -> None:
    model, feed = node_model("MoE", layers(rows=rows), constants=WEIGHTS, k=2)
    want = run_graph(read_onnx(model.SerializeToString()), feed)["y0"]
    np.testing.assert_allclose(planish.compile(model).run(feed)["y0"], want, rtol=1e-4, atol=1e-5)


def test_experts_that_cannot_be_are_refused() -> None:
    model, _ = node_model("MoE", layers(), constants=WEIGHTS, use_sparse_mixer=1, k=2)
    with pytest.raises(PlanishError, match="use_sparse_mixer.*top-k"):
        read_onnx(model.SerializeToString())
