"""`planish.export`: a model of any supported format as an ONNX or a MindIR file."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from planish._atomic import written_beside
from planish._version import __version__
from planish.ir.core import Module
from planish.ir.errors import PlanishError
from planish.ir.types import TensorType
from planish.runtime.escape import log_text

if TYPE_CHECKING:
    import onnx

    from planish.frontend import Reading, Source
    from planish.shapes import Given

FORMATS = ("onnx", "mindir")


@dataclass
class ExportReport:
    """What was written: the format, the files with their sizes in bytes, how many nodes, the versions of ONNX's
    operator sets, and what is worth knowing."""

    format: str
    files: dict[str, int] = field(default_factory=dict[str, int])
    nodes: int = 0
    opsets: dict[str, int] = field(default_factory=dict[str, int])
    notes: list[str] = field(default_factory=list[str])


def export(
    model: str | Path | bytes | onnx.ModelProto | Source,
    out: str | Path,
    *,
    to: str = "",
    shapes: Mapping[str, Given] | None = None,
    ranks: Mapping[str, int] | None = None,
    reading: Reading | None = None,
    external: bool = False,
    encrypt: bytes | None = None,
) -> ExportReport:
    """Write `model` to the file `out` as `onnx` or `mindir` (default: by the suffix of `out`).

    `shapes` and `ranks` fix what the model leaves open, as for `compile`; `reading` says how it is opened. `external`
    puts weights into a file of their own, `OUT.data` for ONNX (by itself above 2 GB) and `NAME_variables/data_0` for
    MindIR (above 1 GB). `encrypt` is a key of 16, 24 or 32 bytes for MindIR (AES-GCM). Raises `PlanishError` for what
    cannot be read or written: one error lists all operations that the format cannot say.
    """
    out = Path(out)
    target = to or out.suffix.removeprefix(".")
    if target not in FORMATS:
        raise PlanishError(
            f"{log_text(str(out))}: expected a format of {' or '.join(FORMATS)}, got {log_text(target) or 'none'}: say "
            f"which, or give the file its suffix"
        )
    if encrypt is not None and target != "mindir":
        raise PlanishError("only MindIR files can be encrypted")
    if out.is_dir():
        raise PlanishError(f"{log_text(str(out))}: expected a file to write, got a folder")
    module = read(model, shapes, ranks, reading)
    try:
        if target == "onnx":
            return write_onnx(module, out, external)
        return write_mindir(module, out, encrypt, external)
    except OSError as e:
        raise PlanishError(f"{log_text(str(e.filename or out))}: {e.strerror or e}") from e


def read(
    model: str | Path | bytes | onnx.ModelProto | Source,
    shapes: Mapping[str, Given] | None,
    ranks: Mapping[str, int] | None,
    reading: Reading | None,
) -> Module:
    """The model in tensor form, with nothing in it that nobody needs."""
    from planish.frontend import open_model
    from planish.passes import PassManager
    from planish.shapes import read_general

    module, _ = read_general(open_model(model, reading), shapes, ranks)
    _fold(module)
    PassManager.parse("cse,dce").run(module)
    return module


def _fold(module: Module) -> None:
    """Compute what is constant, but for what makes floats or wider integers of bytes: quantized weights stay so."""
    from planish.ir.constants import Constant
    from planish.ir.ops import Cast, Dequantize, TensorOp
    from planish.passes.fold import fold

    for op in module.main.walk():
        if not isinstance(op, TensorOp) or isinstance(op, Dequantize) or op.parent is None:
            continue
        if isinstance(op, Cast) and op.x.tensor.dtype in ("i8", "u8", "i4", "u4"):
            continue
        folded = fold(op)
        if folded is not None:
            op.replace_by([op.parent.insert_before(op, Constant(data, loc=op.loc)).result for data in folded])


def write_onnx(module: Module, out: Path, external: bool = False) -> ExportReport:
    """A module in tensor form as an ONNX file; weights are streamed. Raises `UnsupportedError` and `OSError`."""
    from planish.writers.onnx import LIMIT, OnnxModel
    from planish.writers.outside import Outside

    written = OnnxModel(module, __version__)
    report = ExportReport("onnx", nodes=len(written.graph.nodes), opsets=dict(written.model.versions))
    report.notes += [
        f"input {log_text(p.name)}: its rank is open; onnx.checker wants one, ONNX Runtime does not: fix it with --rank"
        for p in module.main.params
        if isinstance(p.type, TensorType) and p.type.shape is None
    ]
    outside = Outside(f"{out.name}.data") if external or written.weights_size > LIMIT else None
    message = written.message(outside)
    with ExitStack() as stack:
        # The weights take their place first: there is never a new model beside old weights for long.
        target = stack.enter_context(written_beside(out))
        with target.open("wb") as file:
            message.write(file)
        report.files[str(out)] = message.size
        if outside is not None and not outside.is_empty:
            data = out.with_name(outside.location)
            with written_beside(data) as beside, beside.open("wb") as file:
                outside.write(file)
            report.files[str(data)] = outside.size
    return report


def write_mindir(module: Module, out: Path, key: bytes | None = None, external: bool = False) -> ExportReport:
    """A module in tensor form as a MindIR file, with parameters beside it where they are large. Raises `PlanishError`
    and `OSError`."""
    from planish.writers.mindir import LIMIT, MindirModel, encrypt

    written = MindirModel(module, __version__)
    report = ExportReport("mindir", nodes=written.count)
    outside = written.outside(out.stem) if external or written.weights_size > LIMIT else None
    if outside is not None and key is not None:
        raise PlanishError("MindIR with parameters in a file of their own cannot be encrypted here")
    message = written.message(outside)
    with written_beside(out) as target, target.open("wb") as file:
        if key is None:
            message.write(file)
        else:
            encrypt(message.pieces(), file, key)
        if outside is not None and not outside.is_empty:
            data = out.with_name(outside.location.partition("/")[0]) / "data_0"
            data.parent.mkdir(exist_ok=True)
            with written_beside(data) as beside, beside.open("wb") as weights:
                outside.write(weights)
            report.files[str(data)] = outside.size
    report.files = {str(out): out.stat().st_size, **report.files}
    return report


__all__ = ["FORMATS", "ExportReport", "export", "read", "write_mindir", "write_onnx"]
