"""From a checkpoint to the parameters of a model, by name: everything that does not fit is reported together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ...ir.constants import ConstantData
from ...ir.errors import ModelError
from ...ir.types import TensorType
from ..text import quote
from .proto import Checkpoint

_MOST_SHOWN = 8
_FLOATS = frozenset(("f16", "f32", "f64", "bf16"))
_INTEGERS = frozenset(("i8", "i16", "i32", "i64"))
# What training keeps beside the parameters.
_EXTRAS = ("learning_rate", "momentum", "global_step", "epoch_num", "step_num", "scale_sense", "append_info",
           "current_iterator_step", "last_overflow_iterator_step", "loss_scale", "random_op")  # fmt: skip
_EXTRA_PREFIXES = ("moments.", "moment1.", "moment2.", "adam_m.", "adam_v.", "accu_grads.", "accum.", "stat.",
                   "mean_square.", "vhat.", "beta1_power", "beta2_power", "learning_rate.")  # fmt: skip


@dataclass(frozen=True)
class Matched:
    """What a model's parameters become: new data by the parameter's name, `missing` and `unused` names, and `notes` for
    the user. `source` is the checkpoint's file name, `prefix` what stood in front of its names ("")."""

    source: str
    tensors: dict[str, ConstantData]
    missing: tuple[str, ...]
    unused: tuple[str, ...]
    prefix: str
    notes: tuple[str, ...]


def matched(
    wanted: Mapping[str, TensorType], checkpoint: Checkpoint, label: str, optional: Sequence[str] = ()
) -> Matched:
    """Find a tensor of the checkpoint for each parameter that is `wanted`; those that are `optional` may be missing.

    A prefix that the checkpoint's names have, and the model's have not, is left out. Element types are converted among
    floats, and among signed integers; a single element may have the shape [] or [1]. Raises one `ModelError` that
    lists what is missing, or has another shape or type.
    """
    names, prefix = _names(wanted, checkpoint)
    tensors: dict[str, ConstantData] = {}
    wrong: dict[str, str] = {}
    for name, stored in names.items():
        found = _fitted(checkpoint.tensors[stored], wanted[name])
        if isinstance(found, str):
            wrong[name] = found
        else:
            tensors[name] = found
    missing = [name for name in wanted if name not in names]
    used = set(names.values())
    unused = [name for name in checkpoint.tensors if name not in used]
    needed = [name for name in missing if name not in optional]
    if needed or wrong:
        shown = [f"{quote(name)} {wanted[name]}" for name in needed]
        raise ModelError(_mismatch(label, checkpoint, shown, wrong, unused))
    return Matched(
        checkpoint.path.name, tensors, tuple(missing), tuple(unused), prefix, tuple(_notes(checkpoint, unused, prefix))
    )


def _names(wanted: Mapping[str, TensorType], checkpoint: Checkpoint) -> tuple[dict[str, str], str]:
    """The checkpoint's name of each parameter that it has, and the prefix that its names have in front ("")."""
    names = {name: name for name in wanted if name in checkpoint.tensors}
    found, prefix = prefixed([name for name in wanted if name not in names], checkpoint.tensors)
    return names | found, prefix


def prefixed(missing: Sequence[str], stored: Iterable[str]) -> tuple[dict[str, str], str]:
    """Names in `stored` of what is missing, behind one prefix that ends with a dot, and that prefix ("": there is none,
    or two fit as many names, so that nobody can say which one is meant)."""
    ends, names = set(missing), set(stored)
    prefixes: Counter[str] = Counter()
    for name in names if ends else ():
        at = name.find(".")
        while at >= 0:
            if name[at + 1 :] in ends:
                prefixes[name[: at + 1]] += 1
            at = name.find(".", at + 1)
    best = prefixes.most_common(2)
    if not best or (len(best) == 2 and best[0][1] == best[1][1]):
        return {}, ""
    prefix = best[0][0]
    return {name: prefix + name for name in missing if prefix + name in names}, prefix


def _fitted(data: ConstantData, wanted: TensorType) -> ConstantData | str:
    """`data` with the element type and shape that are wanted; what is wrong if that cannot be."""
    shape = tuple(dim for dim in wanted.dims if isinstance(dim, int))
    single = {data.shape, shape} == {(), (1,)}
    if data.shape != shape and not single:
        return f"expected shape {list(shape)}, got {list(data.shape)}"
    if data.dtype == wanted.dtype and not single:
        return data
    if data.dtype != wanted.dtype and not any({data.dtype, wanted.dtype} <= g for g in (_FLOATS, _INTEGERS)):
        return f"expected {wanted.dtype}, got {data.dtype}"
    return ConstantData.of(data.array().reshape(shape), wanted.dtype)


def _notes(checkpoint: Checkpoint, unused: Sequence[str], prefix: str) -> list[str]:
    notes: list[str] = []
    if prefix:
        notes.append(f"{checkpoint.label}: names without {quote(prefix)} in front")
    if extra := [name for name in unused if not is_extra(name)]:
        what = "1 tensor is" if len(extra) == 1 else f"{len(extra)} tensors are"
        notes.append(f"{checkpoint.label}: {what} not used: {_listed([quote(name) for name in extra])}")
    return notes


def is_extra(name: str) -> bool:
    """Whether a tensor is what training keeps beside the parameters, and nothing else needs."""
    return name in _EXTRAS or name.startswith(_EXTRA_PREFIXES)


def _mismatch(
    label: str, checkpoint: Checkpoint, missing: Sequence[str], wrong: Mapping[str, str], unused: Sequence[str]
) -> str:
    lines = [f"{label}: the weights in {checkpoint.label} do not fit the model:"]
    if missing:
        lines.append(f"  missing ({len(missing)}): {_listed(missing)}")
    lines += [f"  {quote(name)}: {problem}" for name, problem in list(wrong.items())[:_MOST_SHOWN]]
    if len(wrong) > _MOST_SHOWN:
        lines.append(f"  and {len(wrong) - _MOST_SHOWN} more of another shape or type")
    if extra := [quote(name) for name in unused if not is_extra(name)]:
        lines.append(f"  not used ({len(extra)}): {_listed(extra)}")
    return "\n".join(lines)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_SHOWN} more" if len(names) > _MOST_SHOWN else ""
    return ", ".join(names[:_MOST_SHOWN]) + more
