"""Modules of PyTorch, compiled and run: networks of several kinds, sizes, states, torch.compile."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import planish
from planish.frontend.checkpoints import read_checkpoint
from planish.ir.errors import ModelError, PlanishError, UnsupportedError
from planish.runtime import InputError
from planish.torch_backend import backend

torch: Any = pytest.importorskip("torch", reason="needs PyTorch: make test-models")
pytestmark = pytest.mark.models
nn, F = torch.nn, torch.nn.functional


class Residual(nn.Module):
    """A block of ResNet: convolutions, normalizations, ReLU in place, a shortcut."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inside, outside, 3, stride, 1, bias=False)
        self.norm = nn.BatchNorm2d(outside)
        self.second = nn.Conv2d(outside, outside, 3, 1, 1, groups=outside)
        self.short = nn.Conv2d(inside, outside, 1, stride)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Any) -> Any:
        y = self.second(self.relu(self.norm(self.first(x))))
        y += self.short(x)
        return self.relu(y)


class UNet(nn.Module):
    """Down, up by interpolation and by a transposed convolution, joined."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.deep = Residual(3, 8, 2), Residual(8, 16, 2)
        self.up, self.last = nn.ConvTranspose2d(16, 8, 2, 2), nn.Conv2d(19, 2, 1)

    def forward(self, image: Any) -> Any:
        a = self.down(image)
        b = torch.cat([a, self.up(self.deep(a))], 1)
        return self.last(torch.cat([image, F.interpolate(b, scale_factor=2, mode="bilinear")], 1)).softmax(1)


class Transformer(nn.Module):
    """Embeddings, a causal layer of attention, a head; the length is a symbol."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(30, 16), nn.Embedding(40, 16)
        self.layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, activation="gelu", norm_first=True)
        self.qkv, self.head = nn.Linear(16, 48), nn.Linear(16, 30)

    def forward(self, ids: Any) -> Any:
        batch, length = ids.shape
        x = self.words(ids) + self.places(torch.arange(length))
        q, k, v = self.qkv(x).view(batch, length, 3, 2, 8).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(batch, length, 16)
        return {"logits": self.head(self.layer(x + y)), "length": length}


class Counter(nn.Module):
    """A buffer that changes with every call."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(2))

    def forward(self, x: Any) -> Any:
        self.count.add_(x)
        return self.count * 2


def test_a_network_of_convolutions_compiles() -> None:
    torch.manual_seed(0)
    net, x = UNet().eval(), torch.randn(1, 3, 16, 16)
    model = planish.compile(net, (x,))
    np.testing.assert_allclose(model.run({"image": x})["output"], net(x).detach().numpy(), rtol=1e-4, atol=1e-4)


def test_a_transformer_takes_any_length_and_names_what_it_gives() -> None:
    torch.manual_seed(0)
    net = Transformer().eval()
    batch, length = torch.export.Dim("batch", max=8), torch.export.Dim("length", max=40)
    model = planish.compile(net, (torch.ones(2, 5, dtype=torch.long),), dynamic_shapes=({0: batch, 1: length},))
    assert model.inputs[0].shape == ("batch", "length")
    for shape in ((1, 1), (2, 7), (3, 40)):
        ids = torch.randint(0, 30, shape)
        found = model.run({"ids": ids})
        np.testing.assert_allclose(found["logits"], net(ids)["logits"].detach().numpy(), rtol=1e-4, atol=1e-4)
        assert found["length"] == shape[1]
    with pytest.raises(InputError, match="expected 0 to 40"):
        model.run({"ids": np.ones((1, 41), np.int64)})


def test_a_file_and_a_module_compile_to_the_same(tmp_path: Path) -> None:
    net, x = nn.Sequential(nn.Linear(4, 3), nn.Tanh()).eval(), torch.randn(2, 4)
    path = tmp_path / "net.pt2"
    torch.export.save(torch.export.export(net, (x,)), path)
    wanted = net(x).detach().numpy()
    (name,) = (p.name for p in planish.compile(path).inputs)
    np.testing.assert_allclose(planish.compile(path).run({name: x.numpy()})["output"], wanted, rtol=1e-5, atol=1e-6)
    exported = torch.export.export(net, (x,))
    np.testing.assert_allclose(planish.compile(exported)(x.numpy()), wanted, rtol=1e-5, atol=1e-6)


def test_a_module_in_training_is_compiled_for_inference_and_left_as_it_was() -> None:
    net, x = nn.Sequential(nn.Linear(4, 4), nn.Dropout(), nn.BatchNorm1d(4)), torch.randn(3, 4)
    found = planish.compile(net, x)(x)
    assert net.training and net[1].training
    np.testing.assert_allclose(found, net.eval()(x).detach().numpy(), rtol=1e-5, atol=1e-6)


def test_what_cannot_be_compiled_gives_one_error() -> None:
    with pytest.raises(UnsupportedError, match=r"2 nodes cannot be compiled: aten.lgamma.default \(2\)"):

        class Net(nn.Module):
            def forward(self, x: Any) -> Any:
                return torch.lgamma(x) + torch.lgamma(x + 1)

        planish.compile(Net(), (torch.ones(2),))
    with pytest.raises(PlanishError, match="expected example_inputs"):
        planish.compile(nn.Linear(2, 2))
    with pytest.raises(ModelError, match=r"torch.export cannot take it apart"):
        planish.compile(nn.Linear(2, 2), (torch.ones(3, 3),))


def test_operators_without_a_lowering_are_taken_apart_by_pytorch() -> None:
    class Net(nn.Module):
        def forward(self, x: Any) -> Any:
            return torch.special.entr(x)

    x = torch.rand(4)
    np.testing.assert_allclose(planish.compile(Net(), (x,))(x), torch.special.entr(x).numpy(), rtol=1e-5, atol=1e-6)


def test_what_a_module_checks_is_checked_when_it_runs() -> None:
    class Net(nn.Module):
        def forward(self, x: Any, count: Any) -> Any:
            n = count.item()
            torch._check(n >= 0)
            torch._check(n <= 4)
            return x.narrow(1, 0, n)

    x = torch.randn(3, 4)
    model = planish.compile(Net(), (x, torch.tensor(2)))
    np.testing.assert_array_equal(model.run({"x": x, "count": torch.tensor(3)})["output"], x[:, :3])
    with pytest.raises(InputError, match="expected 0 or more"):
        model.run({"x": x, "count": torch.tensor(5)})


@pytest.mark.parametrize("new", [True, False], ids=["archive", "before torch 1.6"])
def test_state_dicts_that_torch_saves_are_read(tmp_path: Path, new: bool) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).to(memory_format=torch.channels_last)
    wanted = {**net.state_dict(), "narrow": torch.randn(3, 5).bfloat16().T, "flags": torch.tensor([True, False]),
              "part": torch.arange(20.0).reshape(4, 5)[1:3, ::2], "none": torch.zeros(0, 3)}  # fmt: skip
    torch.save(wanted, tmp_path / "net.pt", _use_new_zipfile_serialization=new)
    found = read_checkpoint(tmp_path / "net.pt").tensors
    assert found.keys() == wanted.keys()
    for name, tensor in wanted.items():
        np.testing.assert_array_equal(found[name].array().astype(np.float32), tensor.float().numpy())


def test_importing_planish_does_not_import_torch() -> None:
    code = "import sys, planish.compile, planish.cli; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


# -- torch.compile ----------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _fresh() -> None:  # pyright: ignore[reportUnusedFunction]
    torch._dynamo.reset()
    warnings.simplefilter("ignore")


def test_torch_compile_follows_sizes_and_numbers() -> None:
    net = Transformer().eval()
    compiled = torch.compile(net, backend=backend, dynamic=True)
    with torch.no_grad():
        for shape in ((2, 5), (2, 9), (3, 4)):
            ids = torch.randint(0, 30, shape)
            found, wanted = compiled(ids), net(ids)
            assert found["length"] == wanted["length"]
            torch.testing.assert_close(found["logits"], wanted["logits"], rtol=1e-4, atol=1e-4)


def test_torch_compile_keeps_buffers_inputs_and_changed_weights() -> None:
    net, ours = Counter(), Counter()
    compiled = torch.compile(ours, backend=backend)
    for _ in range(3):
        x = torch.randn(2)
        torch.testing.assert_close(compiled(x), net(x))
    torch.testing.assert_close(ours.count, net.count)
    layer = nn.Linear(3, 3)
    compiled = torch.compile(layer, backend=backend)
    x = torch.randn(2, 3)
    with torch.no_grad():
        torch.testing.assert_close(compiled(x), layer(x))
        layer.weight.mul_(2)
        torch.testing.assert_close(compiled(x), layer(x))


def test_torch_compile_refuses_or_warns() -> None:
    x = torch.ones(3)
    with pytest.raises(UnsupportedError, match="aten.lgamma"):
        torch.compile(lambda a: torch.lgamma(a), backend=backend)(x)
    compiled = torch.compile(lambda a: torch.lgamma(a) + 1, backend=backend, options={"fallback": True})
    with pytest.warns(UserWarning, match=r"planish: this graph runs in PyTorch: .*aten.lgamma"):
        torch.testing.assert_close(compiled(x), torch.ones(3))


def test_the_backend_is_registered_under_its_name() -> None:
    assert "planish" in torch.compiler.list_backends()
