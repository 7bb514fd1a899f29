"""Plans of host calls written as C, and their values in .npz files: to test the runtime without the compiler."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np

Array = np.ndarray[Any, Any]
_NAMES = {
    "complex64": "c64",
    "complex128": "c128",
    "float32": "f32",
    "float64": "f64",
    "float16": "f16",
    "bool": "bool",
} | {f"{word}{bits}": f"{word[0]}{bits}" for word in ("int", "uint") for bits in (8, 16, 32, 64)}
_C_TYPES = {"f32": "float", "f64": "double", "i64": "int64_t"}
_PICK = """\
__attribute__((constructor)) static void pick(void) { /* only the call whose number is in the environment */
  const char *number = getenv("CALL");
  if (!number) return;
  plan.steps += atoi(number);
  plan.n_steps = 1;
}
"""


@dataclass
class Case:
    """A call of `planish_host_<function>`: operands (None: absent), attributes, and the expected results."""

    function: str
    operands: list[Any]
    results: list[Any]
    attributes: dict[str, Any] = field(default_factory=dict[str, Any])


def strings(*texts: str, shape: tuple[int, ...] | None = None) -> Array:
    """A tensor of strings."""
    array = np.array(texts, object)
    return array if shape is None else array.reshape(shape)


def type_text(value: Any) -> str:
    """The type of a value as planish_io_spec has it."""
    if value is None:
        return "optional<f32>"
    if isinstance(value, list):
        items = cast(list[Any], value)
        return f"seq<{type_text(items[0]) if items else 'f32'}[*]>"
    if isinstance(value, dict):
        keys, values = columns(cast(dict[Any, Any], value))
        return f"map<{type_text(keys)},{type_text(values)}>"
    array = np.asarray(value)
    return "string" if array.dtype.kind in "OU" else _NAMES[array.dtype.name]


def columns(value: dict[Any, Any]) -> tuple[Array, Array]:
    """Keys and values of a map as arrays."""
    parts: list[list[Any]] = [list(value.keys()), list(value.values())]
    keys, values = (np.array(part, object) if isinstance(part[0], str) else np.array(part) for part in parts)
    return keys, values


def encode(name: str, value: Any) -> dict[str, Array]:
    """The arrays of a value in a .npz file."""
    if value is None:
        return {}
    if isinstance(value, list):
        items = cast(list[Any], value)
        parts = {f"{name}.len": np.array(0)} if not items else dict[str, Array]()
        for index, item in enumerate(items):
            parts |= encode(f"{name}.{index}", item)
        return parts
    if isinstance(value, dict):
        keys, values = columns(cast(dict[Any, Any], value))
        return encode(f"{name}.keys", keys) | encode(f"{name}.values", values)
    array = np.asarray(value)
    return {name: array.astype(str) if array.dtype.kind == "O" else array}


def _table(name: str, kind: str, rows: list[str]) -> str:
    return f"static const {kind} {name}[] = {{{', '.join(rows) or '0'}}};\n"


def _text(value: str) -> str:
    return '"' + "".join(f"\\{byte:03o}" for byte in value.encode()) + '"'


def _attribute(name: str, value: Any, at: str) -> tuple[str, str]:
    """Definitions, and the planish_attribute."""
    if isinstance(value, np.ndarray):
        array, dtype = cast(Array, value), type_text(value)
        body = _table(f"{at}_d", _C_TYPES[dtype], [repr(item) for item in array.ravel().tolist()])
        body += _table(f"{at}_n", "int64_t", [str(dim) for dim in array.shape])
        row = f'"{dtype}", {array.ndim}, 0, {at}_n, {at}_d, 0, NULL'
        return body + f"static const planish_constant {at}_c = {{{row}}};\n", f'{{"{name}", 3, 1, &{at}_c, NULL}}'
    values: list[Any] = cast(list[Any], value) if isinstance(value, list) else [value]
    if values and isinstance(values[0], str):
        body = _table(f"{at}_d", "char *const", [_text(item) for item in values])
        body += _table(f"{at}_l", "uint64_t", [str(len(item.encode())) for item in values])
        return body, f'{{"{name}", 2, {len(values)}, {at}_d, {at}_l}}'
    real = bool(values) and isinstance(values[0], float)
    body = _table(f"{at}_d", "double" if real else "int64_t", [str(item) for item in values])
    return body, f'{{"{name}", {int(real)}, {len(values)}, {at}_d, NULL}}'


class _Module:
    """The tables of the module under construction."""

    def __init__(self) -> None:
        self.text = ""
        self.slots = 0
        self.ports: dict[str, list[str]] = {"inputs": [], "outputs": [], "params": [], "results": []}
        self.steps: list[str] = []

    def slot(self, value: Any, name: str, ports: str, ends: str) -> str:
        self.ports[ports].append(f'{{"{name}", "{type_text(value)}", -1, NULL}}')
        self.ports[ends].append(str(self.slots))
        self.slots += 1
        return str(self.slots - 1)

    def call(self, number: int, case: Case) -> None:
        ins = [
            "-1" if value is None else self.slot(value, f"i{number}_{k}", "inputs", "params")
            for k, value in enumerate(case.operands)
        ]
        outs = [self.slot(value, f"o{number}_{k}", "outputs", "results") for k, value in enumerate(case.results)]
        rows: list[str] = []
        for k, (name, value) in enumerate(case.attributes.items()):
            body, row = _attribute(name, value, f"a{number}_{k}")
            self.text += body
            rows.append(row)
        self.text += _table(f"in{number}", "int32_t", ins) + _table(f"out{number}", "int32_t", outs)
        self.text += _table(f"at{number}", "planish_attribute", rows or ["{0}"])
        self.steps.append(
            f"{{PLANISH_STEP_CALL, {number}, {len(ins)}, {len(outs)}, in{number}, out{number}, "
            f"planish_host_{case.function}, {len(rows)}, 0, at{number}, 0, 0, NULL}}"
        )


def source(cases: list[Case]) -> str:
    """A module whose plan makes all the calls, or that of number $CALL. Operand k of call n is the input `in_k`, result
    k the output `on_k`."""
    module = _Module()
    for number, case in enumerate(cases):
        module.call(number, case)
    ports = module.ports
    head = '#include <stddef.h>\n#include <stdlib.h>\n#include "planish_abi.h"\n'
    head += "".join(f"planish_host_function planish_host_{name};\n" for name in sorted({c.function for c in cases}))
    tables = _table("params", "int32_t", ports["params"]) + _table("results", "int32_t", ports["results"])
    tables += _table("inputs", "planish_io_spec", ports["inputs"])
    tables += _table("outputs", "planish_io_spec", ports["outputs"])
    tables += _table("steps", "planish_step", module.steps)
    tables += _table("nodes", "char *const", [f'"{case.function}_{n}"' for n, case in enumerate(cases)])
    counts = f"{module.slots}, {len(ports['params'])}, {len(ports['results'])}, {len(cases)}"
    tables += f"static planish_plan plan = {{{counts}, params, results, steps}};\n"
    tables += (
        f"const planish_module planish_module_data = {{PLANISH_ABI_VERSION, {len(ports['inputs'])}, "
        f"{len(ports['outputs'])}, 0, inputs, outputs, NULL, NULL, NULL, {len(cases)}, nodes, "
        '.manifest = "{}", .manifest_bytes = 2, .plan = &plan};\n'
    )
    return head + module.text + tables + _PICK
