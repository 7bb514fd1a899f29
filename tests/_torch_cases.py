"""Expressions of PyTorch that tests compile: each is exported, and computed again by planish.

`EXPRESSIONS` are lines of "operands: expressions", separated by `|`; operands are the names of `operands()`.
`MODULES` are layers with their operands.
"""

from __future__ import annotations

from typing import Any

EXPRESSIONS = """
p: a.exp() | a.log() | a.sqrt() | a.rsqrt() | a.reciprocal() | a.log2() | a.log10() | a.log1p()
x: a.sin() | a.cos() | a.tan() | a.atan() | a.sinh() | a.cosh() | a.tanh() | a.asinh() | a.erf() | a.erfc()
x: a.sigmoid()
x: a.neg() | a.abs() | a.sign() | a.floor() | a.ceil() | a.round() | a.trunc() | a.frac() | a.square() | a.exp2()
x: a.expm1() | (a * 1e-5).expm1() | (a * 1e-5).log1p() | (a / 4).asin() | (a / 4).acos() | (a / 4).atanh() | a.isnan()
x: a.round(decimals=1) | torch.nan_to_num(a / 0) | a.isfinite() | a.isinf() | a.logical_not()
i: a.sqrt() | a.floor() | a.sigmoid() | a.abs() | ~a | a.bitwise_not() | a.float() / 2 | a / 3 | a // 3 | a % 3 | 3 - a
i: 1.5 * a | a ** 2 | a.abs() << 2 | a.abs() >> 1 | a.clamp(max=2) | a < 1.5 | a == 2 | a.sum(1) | a.cumsum(1)
i: a.bool()
x: F.gelu(a) | F.gelu(a, approximate="tanh") | F.relu(a) | F.relu6(a * 5) | F.silu(a) | F.mish(a) | F.hardswish(a * 3)
x: F.hardsigmoid(a * 3) | F.hardtanh(a) | F.leaky_relu(a) | F.elu(a, 0.5) | F.celu(a) | F.selu(a) | F.softplus(a, 2, 1)
x: F.softsign(a) | F.logsigmoid(a) | F.hardshrink(a) | F.softshrink(a) | F.tanhshrink(a) | F.glu(a, -1)
x: F.threshold(a, 0.1, 7.0) | a ** 3 | (a.abs() + 1) ** 0.5 | (a.abs() + 1) ** -1 | 2 ** a | a.clamp(-1, 1)
x: a.clamp(min=0)
x y: a + b | a - b | a * b | a / b | torch.maximum(a, b) | torch.minimum(a, b) | torch.atan2(a, b) | torch.fmod(a, b)
x y: torch.remainder(a, b) | torch.hypot(a, b) | torch.copysign(a, b) | torch.add(a, b, alpha=2) | torch.lerp(a, b, 0.3)
x y: torch.div(a, b, rounding_mode="floor") | torch.div(a, b, rounding_mode="trunc") | a.clamp(b, b + 1)
x y: torch.fmax(a, b)
x y: torch.addcmul(a, b, b, value=0.5) | torch.addcdiv(a, b, b + 10) | torch.logaddexp(a, b) | torch.isclose(a, b)
x y: torch.where(a > 0, a, b) | torch.where(a > 0, a, 0.0) | torch.heaviside(a, b) | torch.xlogy(a, b.abs() + 1)
i j: a // b | a % b | torch.fmod(a, b) | torch.div(a, b, rounding_mode="trunc") | a & b | a ^ b | a == b | a != b
i j: a <= b
t: a & a | a + 1 | a * 2.0 | a.sum(1) | ~a | a.any() | a.all(1) | a.cumsum(1) | a.nonzero() | a.int().max()
x i: a + b | a * b | a.type_as(b) | a.masked_fill(b > 0, -1e9) | a[b > 0] | torch.masked_select(a, b > 0)
x: a.to(torch.int32) | a.long().float() | a.half().float() | a.bfloat16().float() | a.double() | a.view(torch.int32)
x: a.view(6, 4) | a.reshape(-1, 2) | a.flatten() | a.flatten(1) | a.unflatten(2, (2, -1)) | a.permute(2, 0, 1)
x: a.transpose(-1, 0) | a.unsqueeze(1).squeeze(1) | a[None].squeeze() | a.mT | a.movedim(0, -1) | a.flip(0, 2)
x: a.roll(1, 1)
x: a.roll((1, -2), (0, 2)) | a.roll(3) | torch.rot90(a, 1, (1, 2)) | a[:, 1:] | a[..., ::2] | a[:, -1] | a[0, :, 1:-1]
x: a[:, [0, 2]] | a[:, :, -3:] | a.narrow(2, 1, 2) | a.split(2, 2) | a.split([1, 3], 2) | a.chunk(3, 2) | a.unbind(1)
x: torch.tensor_split(a, 3, 2) | torch.cat([a, a + 1], 1) | torch.stack([a, a + 1], -1) | torch.hstack([a, a])
x: torch.vstack([a, a]) | torch.dstack([a, a]) | a[:, :1].expand(2, 5, 4) | a.repeat(2, 1, 3) | a.tile(2, 2)
x: a.repeat_interleave(2, 1) | a.diagonal(0, 1, 2) | a.diagonal(1, 1, 2) | a.diagonal(-1, 1, 2) | torch.diag_embed(a)
x: a.unfold(2, 2, 1) | F.pad(a, (1, 2)) | F.pad(a, (1, 2, 0, 1), value=3.0) | F.pad(a, (1, 2), mode="reflect")
x: F.pad(a, (1, 2), mode="replicate") | F.pad(a, (1, 1), mode="circular") | F.pad(a, (-1, 1)) | a.tril() | a.triu(1)
x: torch.slice_scatter(a, a[:, :1], 1, 1, 2) | torch.select_scatter(a, a[:, 0], 1, 2) | torch.atleast_2d(a[0, 0])
x: torch.slice_scatter(a, a[:, :, :2], 2, 0, 4, 2) | torch.meshgrid(a[0, 0], a[0, :, 0], indexing="xy") | torch.diff(a)
x: torch.arange(a.shape[2]) + a | torch.arange(1, 9, 2) * a | torch.eye(3, 4) + a | torch.linspace(0, 1, 4) + a
x: a.new_zeros(3) | torch.full_like(a, 3) | torch.zeros_like(a) + 1 | torch.tensor([1.0, 2, 3, 4]) * a
x: a.new_full((2,), 3)
x: a.sum() | a.sum((0, 2), keepdim=True) | a.mean(-1) | a.prod(1) | a.amax(1) | a.max() | a.max(1)
x: a.min(2, keepdim=True)
x: a.argmax() | a.argmax(1) | a.argmin(-1, keepdim=True) | a.var(1) | a.var(1, unbiased=False) | a.std()
x: torch.var_mean(a, 1)
x: a.norm() | a.norm(dim=1) | torch.linalg.vector_norm(a, 3, 1) | a.norm(p=1, dim=1) | a.logsumexp(1) | a.softmax(-1)
x: torch.linalg.vector_norm(a, float("inf"), 1) | a.log_softmax(1) | F.softmin(a, 1) | F.normalize(a, dim=1)
x: a.cumsum(1)
x: a.cumprod(-1) | a.topk(2) | a.topk(2, 1, False) | a.sort() | a.sort(1, descending=True) | a.argsort() | a.median(1)
x: a.kthvalue(2, 2) | a.cummax(1) | torch.count_nonzero(a, 1) | torch.aminmax(a, dim=1) | a.nansum(1)
x: a.logcumsumexp(1)
x y: F.cosine_similarity(a, b, 1) | torch.cdist(a, b) | F.pairwise_distance(a, b) | F.mse_loss(a, b) | F.l1_loss(a, b)
x k: a[:, b] | torch.index_select(a, 1, b[0]) | a.index_fill(1, b[0], 5.0) | torch.take(a, b)
x k: a.unflatten(2, (2, 2))[:, b]
s k: torch.gather(a, 1, b) | torch.take_along_dim(a, b, 1) | a.scatter(1, b, 2.0) | a.scatter(1, b, a[:, :2] * 2)
s k: a.scatter_add(1, b, a[:, :2]) | a.scatter_reduce(1, b, a[:, :2], "amax") | a.scatter_reduce(1, b, a[:, :2], "mean")
s k: a.scatter_reduce(1, b, a[:, :2], "sum", include_self=False) | a.index_add(1, b[0], a[:, :2]) | F.embedding(b, a.T)
s k: a.index_copy(1, b[0], a[:, :2]) | a.index_put((b[:, 0] % 2,), a, accumulate=True)
s k: F.embedding_bag(b, a.T, mode="sum")
c k: a[b[:, 0], b[:, 1]] | a[:, b, b] | a[b, :, b] | changed(a, b)
k: F.one_hot(a, 5) | torch.isin(a, torch.tensor([1, 2]))
x: torch.bucketize(a, torch.tensor([-1.0, 0, 1])) | torch.searchsorted(torch.tensor([-1.0, 0, 1]), a, right=True)
i: torch.unique(a)
x y: a @ b.mT | torch.bmm(a, b.mT) | torch.einsum("bij,bkj->bik", a, b) | torch.einsum("bij,bkj->b", a, b)
x y: torch.baddbmm(a @ b.mT, a, b.mT) | torch.tensordot(a, b, ([1, 2], [1, 2]))
x y: torch.addmm(a[0].T, a[0].T, a[0] @ b[1].T)
s s: torch.outer(a[0], b[1]) | torch.kron(a, b) | torch.cross(a, b, 1) | torch.mv(a, b[0]) | torch.dot(a[0], b[1])
c: torch.linalg.inv(a + 9 * torch.eye(3)) | torch.linalg.det(a)
m: F.pixel_shuffle(a[:, :4], 2) | F.pixel_unshuffle(a, 2) | F.channel_shuffle(a, 3)
m: F.unfold(a, 3, padding=1, stride=2)
m: F.interpolate(a, (5, 20), mode="bilinear", antialias=True) | F.interpolate(a, scale_factor=2)
m: F.interpolate(a, (5, 7))
m: F.interpolate(a, scale_factor=1.7, mode="bilinear") | F.interpolate(a, (5, 17), mode="bilinear", align_corners=True)
m: F.interpolate(a, (5, 17), mode="bicubic") | F.interpolate(a, scale_factor=2, mode="nearest-exact")
m: F.grid_sample(a, a[:, 0, :5, :2, None].tanh().repeat(1, 1, 1, 2), align_corners=False) | F.avg_pool2d(a, 2)
q: F.scaled_dot_product_attention(a, a, a) | F.scaled_dot_product_attention(a, a, a, is_causal=True)
q: F.scaled_dot_product_attention(a, a, a, a[0, 0, :, :5])
q: F.scaled_dot_product_attention(a, a, a, a[0, 0, :, :5] > -0.5)
q: F.scaled_dot_product_attention(a, a[:, :2], a[:, :2], enable_gqa=True, is_causal=True)
q: F.scaled_dot_product_attention(a, a, a, torch.zeros(5, 5, dtype=torch.bool) & (a[0, 0, 0, 0] > 9))
x: torch.cond(a.sum() > 0, lambda v: v + 1, lambda v: v - 1, (a,)) | grown(a)
x: F.cross_entropy(a, torch.tensor([[0, 1, 2, 0]] * 2))
"""

MODULES = """
m: nn.Conv2d(6, 4, 3) | nn.Conv2d(6, 6, 3, 2, 1, groups=3) | nn.Conv2d(6, 4, 3, padding="same", dilation=2)
m: nn.ConvTranspose2d(6, 4, 3, 2, 1, 1) | nn.MaxPool2d(3, 2, 1, ceil_mode=True) | nn.MaxPool2d(2, return_indices=True)
m: nn.AvgPool2d(3, 2, 1, ceil_mode=True, count_include_pad=False) | nn.AvgPool2d(2, divisor_override=3)
m: nn.LPPool2d(2, 2)
m: nn.AdaptiveAvgPool2d(1) | nn.AdaptiveAvgPool2d((4, 5)) | nn.AdaptiveAvgPool2d((3, 7)) | nn.BatchNorm2d(6)
m: nn.PReLU(6)
m: nn.BatchNorm2d(6, affine=False) | nn.BatchNorm2d(6, track_running_stats=False) | nn.GroupNorm(3, 6) | nn.ZeroPad2d(1)
m: nn.GroupNorm(2, 6, affine=False) | nn.InstanceNorm2d(6, affine=True) | nn.LocalResponseNorm(3)
m: nn.ReflectionPad2d(1)
x: nn.Conv1d(3, 4, 2) | nn.ConvTranspose1d(3, 4, 3, 2) | nn.BatchNorm1d(3) | nn.LayerNorm(4) | nn.LayerNorm((3, 4))
x: nn.LayerNorm(4, elementwise_affine=False) | nn.LayerNorm(4, bias=False) | nn.RMSNorm(4) | nn.Linear(4, 5)
x: nn.Dropout()
x: nn.Linear(4, 5, bias=False) | nn.LSTM(4, 5, 2, batch_first=True, bidirectional=True)
x: nn.GRU(4, 5, 2, bidirectional=True)
x: nn.GRU(4, 5, batch_first=True, bias=False) | nn.RNN(4, 5, nonlinearity="relu")
x: nn.Upsample(scale_factor=2, mode="linear")
s: nn.LSTM(3, 5) | nn.LSTMCell(3, 5) | nn.GRUCell(3, 5) | nn.RNNCell(3, 5)
k: nn.Embedding(10, 4)
w: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True) | weight_norm(nn.Linear(8, 3))
w w: nn.TransformerDecoderLayer(8, 2, 16, batch_first=True)
w w w: nn.MultiheadAttention(8, 2, batch_first=True)
"""


def operands(torch: Any) -> dict[str, Any]:
    """The operands by name: x, y and p (positive) f32[2,3,4], i and j i64, t bool, k places, s f32[2,3], c f32[3,3,3],
    m pictures, q heads, w sequences."""
    torch.manual_seed(0)
    x, y = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    return {
        "x": x, "y": y, "p": x.abs() * 0.5 + 0.1, "i": torch.randint(-5, 6, (2, 3, 4)), "t": x > 0,
        "j": torch.randint(1, 6, (2, 3, 4)), "k": torch.tensor([[0, 2], [1, 0]]), "s": torch.randn(2, 3),
        "c": torch.randn(3, 3, 3), "m": torch.randn(2, 6, 8, 10), "q": torch.randn(2, 4, 5, 8),
        "w": torch.randn(2, 5, 8),
    }  # fmt: skip


def cases(lines: str) -> list[tuple[str, tuple[str, ...]]]:
    """Expressions with the names of their operands."""
    found: list[tuple[str, tuple[str, ...]]] = []
    for line in lines.strip().splitlines():
        names, _, expressions = line.partition(": ")
        found += [(e.strip(), tuple(names.split())) for e in expressions.split(" | ")]
    return found
