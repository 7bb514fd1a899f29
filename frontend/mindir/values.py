"""Attributes of a MindIR file: values and inferred types of every version.

Since MindSpore 2.0 an attribute tells its type (`KIND`) and nests through `VALUES`. In 1.x a string tells it
(`REF_NAME`): "scalar:Tuple[value1,List[value2,],]" with the numbers in flat lists, "tensor:value0", "type:value0",
"none", "Monad:UMonad", and "shape:Tuple[shape1,shape2,]" for the inferred type of a node.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, cast

from ...ir.errors import ModelError
from ..protobuf import Message
from ..text import quote
from .proto import (
    Abstract,
    Attribute,
    Closure,
    DType,
    Functor,
    Monad,
    ScalarAbstract,
    ScalarGraph,
    SequenceAbstract,
    SparseTensor,
    Symbol,
    Tensor,
    UnknownAbstract,
    UnknownValue,
    Value,
)
from .schema import DTYPE_NAMES, FUNCTORS, KIND_DTYPES, KINDS, Attr, Sequence
from .tensors import TensorReader

_CLOSURES = ("PRIMITIVECLOSURE", "FUNCGRAPHCLOSURE", "PARTIALCLOSURE")
_MONADS = {"UMONAD": Monad("U"), "IOMONAD": Monad("IO")}
_OLD_MONADS = {"UMonad": Monad("U"), "IOMonad": Monad("IO")}
_FLOATS = ("FLOAT", "FLOAT16", "BFLOAT16")
_TOKEN = re.compile(r"[^\[\],]*\[|\]|,|[^\[\],]+")
_DEEPEST = 64  # sequences inside of one another, in the strings of 1.x


def attribute_of(message: Message, tensors: TensorReader) -> Attribute:
    """An attribute with its value."""
    return Attribute(message.text(Attr.NAME), _kind(message), value_of(message, tensors))


def is_abstract(message: Message) -> bool:
    """Whether an attribute of a node tells the node's inferred type: in 1.x it has no name."""
    return message.text(Attr.NAME) == "shape" or message.text(Attr.REF_NAME).startswith("shape:")


def _kind(message: Message) -> str:
    number = message.integer(Attr.KIND)
    return KINDS[number] if 0 < number < len(KINDS) else ""


# -- values -----------------------------------------------------------------------------------------------------------


def value_of(message: Message, tensors: TensorReader) -> Value:
    """The value of an attribute."""
    kind = _kind(message)
    if reference := message.text(Attr.REF_NAME):
        return _old_value(message, reference, tensors)
    if kind in KIND_DTYPES and kind not in ("TYPE_NULL", "COMPLEX64", "COMPLEX128"):
        return _scalar(message, kind)
    match kind:
        case "TENSORS":
            found = [_tensor_or_type(child, tensors) for child in message.messages(Attr.TENSORS)]
            return found[0] if len(found) == 1 else tuple(found)
        case "TUPLE":
            return tuple(value_of(child, tensors) for child in message.messages(Attr.VALUES))
        case "LIST":
            return [value_of(child, tensors) for child in message.messages(Attr.VALUES)]
        case "DICT":
            return dict(_dictionary(message, tensors))
        case "NONE":
            return None
        case _:
            return _rare_value(message, kind, tensors)


def _rare_value(message: Message, kind: str, tensors: TensorReader) -> Value:
    text = message.text(Attr.S)
    if kind in _MONADS:
        return _MONADS[kind]
    if kind in (*_CLOSURES, "UNIONFUNCCLOSURE"):
        return Closure(_closure_names(message))
    if kind in ("CLASS_TYPE", "NAME_SPACE", "SYMBOL"):
        return Symbol(kind, text)
    if kind == "TYPE_NULL":
        return DType("none")
    if kind == "FUNCTOR" and (functor := message.message(Attr.FUNCTOR)):
        number = functor.integer(1)
        name = FUNCTORS[number] if 0 < number < len(FUNCTORS) else str(number)
        return Functor(name, functor.text(2), tuple(value_of(child, tensors) for child in functor.messages(3)))
    if kind == "SCALAR_GRAPH_HOLDER" and (holder := message.message(Attr.SCALAR_GRAPH)):
        nodes = [(node.integer(1), tuple(node.integers(2)), tuple(node.integers(3))) for node in holder.messages(1)]
        return ScalarGraph(tuple(nodes), tuple(holder.integers(2)))
    if kind in ("CSR_TENSOR", "COO_TENSOR", "ROW_TENSOR", "MAP_TENSOR"):
        parts: list[Value] = [tensors.read(child) for child in message.messages(Attr.TENSORS)]
        parts += [value_of(child, tensors) for child in message.messages(Attr.VALUES)]
        return SparseTensor(kind, tuple(parts))
    return UnknownValue(kind or str(message.integer(Attr.KIND)))


def _scalar(message: Message, kind: str) -> Value:
    """A number, bool or text. Inside a sequence it is the one element of the repeated field."""
    if kind == "STRING":
        contents = message.contents(Attr.S) or message.contents(Attr.STRINGS)
        return _text(contents[-1]) if contents else ""
    if kind in _FLOATS:
        return (message.floats(Attr.F) or message.floats(Attr.FLOATS) or [0.0])[-1]
    if kind == "DOUBLE":
        return (message.doubles(Attr.D) or message.doubles(Attr.DOUBLES) or [0.0])[-1]
    number = message.integer(Attr.I) if Attr.I in message else (message.integers(Attr.INTS) or [0])[-1]
    return bool(number) if kind == "BOOL" else number


def _text(content: bytes) -> str | bytes:
    try:
        return content.decode()
    except UnicodeDecodeError:
        return content


def _tensor_or_type(message: Message, tensors: TensorReader) -> Tensor | DType:
    """A constant tensor; one without elements that should have some is an element type."""
    tensor = tensors.read(message)
    if tensor.data is not None or 0 in tensor.dims:
        return tensor
    return DType(tensor.dtype)


def _dictionary(message: Message, tensors: TensorReader) -> Iterator[tuple[str, Value]]:
    for item in message.messages(Attr.VALUES):
        value = item.message(Attr.VALUES)
        yield item.text(Attr.NAME), value_of(item if value is None else value, tensors)


def _closure_names(message: Message) -> tuple[str, ...]:
    own = message.text(Attr.S)
    inner = [name for child in message.messages(Attr.VALUES) for name in _closure_names(child)]
    return tuple([own, *inner] if own else inner)


# -- inferred types ---------------------------------------------------------------------------------------------------


def abstract_of(message: Message, tensors: TensorReader) -> Abstract:
    """The inferred type that an attribute tells."""
    kind = _kind(message)
    reference = message.text(Attr.REF_NAME)
    found = [tensors.read(child, "type").abstract for child in message.messages(Attr.TENSORS)]
    if reference:
        remaining = iter(found)
        return _as_abstract(_parsed(reference, lambda _, __: next(remaining, UnknownAbstract()), message))
    if kind in ("TUPLE", "LIST"):
        return _new_sequence_abstract(message, kind, tensors)
    if kind == "SCALAR":
        return ScalarAbstract(found[0].dtype if found else "none")
    if kind in (*_CLOSURES, "UNIONFUNCCLOSURE"):
        return Closure(_closure_names(message))
    if kind in _MONADS:
        return _MONADS[kind]
    if kind == "NONE":
        return None
    if found:  # also of kind TENSORS, and what versions before that had
        return found[0] if len(found) == 1 else SequenceAbstract("tuple", tuple(found))
    return ScalarAbstract(KIND_DTYPES[kind]) if kind in KIND_DTYPES else UnknownAbstract(kind)


def _new_sequence_abstract(message: Message, kind: str, tensors: TensorReader) -> SequenceAbstract:
    items = tuple(abstract_of(child, tensors) for child in message.messages(Attr.VALUES))
    info = message.message(Attr.SEQUENCE)
    if info is None:
        return SequenceAbstract(kind.lower(), items)
    dynamic = bool(info.integer(Sequence.DYNAMIC) or info.integer(Sequence.OLD_DYNAMIC))
    element = info.message(Sequence.ELEMENT) or info.message(Sequence.OLD_ELEMENT)
    return SequenceAbstract(kind.lower(), items, dynamic, element and abstract_of(element, tensors))


# -- strings of 1.x ---------------------------------------------------------------------------------------------------


def _old_value(message: Message, reference: str, tensors: TensorReader) -> Value:
    found = message.messages(Attr.TENSORS)
    scalars = iter(_old_scalars(message))

    def leaf(form: str, name: str) -> Value:
        if name == "none" or form == "none":
            return None
        if form == "Monad":
            return _OLD_MONADS.get(name, UnknownValue(name))
        try:
            if form == "tensor":
                return tensors.read(next(found))
            return _old_type(message, next(found, None), tensors) if form == "type" else next(scalars)
        except StopIteration:
            label = message.buffer.label
            raise ModelError(f"{label}: attribute {quote(message.text(Attr.NAME))}: fewer values than its type"
                             f" {quote(reference)} needs; the file is damaged") from None  # fmt: skip

    return _parsed(reference, leaf, message)


def _old_scalars(message: Message) -> list[Value]:
    """The numbers or texts of an attribute of 1.x, in order. All are of one kind."""
    kind = _kind(message)
    if kind == "STRING":
        return [_text(content) for content in (*message.contents(Attr.S), *message.contents(Attr.STRINGS))]
    if kind in _FLOATS:
        return [*message.floats(Attr.F), *message.floats(Attr.FLOATS)]
    if kind == "DOUBLE":
        return [*message.doubles(Attr.D), *message.doubles(Attr.DOUBLES)]
    numbers = [*message.integers(Attr.I), *message.integers(Attr.INTS)]
    return [bool(n) for n in numbers] if kind == "BOOL" else [*numbers]


def _old_type(message: Message, tensor: Message | None, tensors: TensorReader) -> DType:
    if tensor is not None:
        return DType(tensors.read(tensor).dtype)
    # A number in the field that later became a message, else the type of the attribute itself.
    number = message.integer(Attr.SEQUENCE)
    return DType(DTYPE_NAMES[number] if 0 < number < len(DTYPE_NAMES) else KIND_DTYPES.get(_kind(message), "none"))


def _parsed(reference: str, leaf: Callable[[str, str], Any], message: Message) -> Any:
    """The structure that a string of 1.x describes: tuples and lists of what `leaf` makes of the form ("scalar",
    "tensor" ...) and the name of each value. Text without a form in front has that of what was before it."""
    damaged = ModelError(f"{message.buffer.label}: {quote(reference)} describes no value; the file is damaged")
    stack: list[tuple[str, list[Any]]] = [("", [])]
    form = ""
    for token in _TOKEN.findall(reference):
        if token == ",":
            continue
        if token == "]":
            if len(stack) == 1:
                raise damaged
            kind, items = stack.pop()
            stack[-1][1].append(items if kind == "List" else tuple(items))
            continue
        found, _, name = token.rpartition(":")
        form = found or form
        if token.endswith("["):
            stack.append((name[:-1], []))
        else:
            stack[-1][1].append(leaf(form, name))
        if len(stack) > _DEEPEST:
            raise damaged
    items = stack[-1][1]
    if len(stack) > 1 or not items:
        raise damaged
    return items[0] if len(items) == 1 else tuple(items)


def _as_abstract(parsed: Any) -> Abstract:
    if isinstance(parsed, tuple | list):
        kind = "list" if isinstance(parsed, list) else "tuple"
        return SequenceAbstract(kind, tuple(_as_abstract(item) for item in cast("Iterable[Any]", parsed)))
    return parsed
