"""Lowerings of the primitives that compute nothing: tuples, functions, the order of side effects, parameters."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..assembly import Item
from .data import Datum, Either, Function, Parameter, holds_function
from .primitive import Call, described, primitive
from .proto import Monad

# -- tuples ------------------------------------------------------------------------------------------------------------


@primitive("MakeTuple", "make_tuple", "MakeList", "make_list", "RealMakeTuple", "RealMakeList")
def make_tuple(call: Call) -> Datum:
    """A tuple (or list) of the inputs."""
    return call.given


def _sequence(call: Call, datum: Datum) -> tuple[Datum, ...]:
    if isinstance(datum, tuple):
        return datum
    raise call.error(f"expected a tuple, got {described(datum)}")


def _index(call: Call, position: int, length: int) -> int:
    (index,) = call.sizes(call[position], "index")
    if not isinstance(index, int):
        call.refuse("an index into a tuple that is computed from data", "stack the elements and take one")
    if not -length <= index < length:
        raise call.error(f"expected an index of a tuple of {length}, got {index}")
    return index


@primitive("TupleGetItem", "tuple_getitem", "ListGetItem", "list_getitem", "RealTupleGetItem", "RealListGetItem")
def get_item(call: Call) -> Datum:
    """One element of a tuple; also where the index is data and all elements are tensors of one type."""
    items = _sequence(call, call[0])
    index = call[1]
    if isinstance(index, Item) and call.a.array(index) is None and items:
        stacked = call.op("Concat", *(call.op("Unsqueeze", call.item(i), [0]) for i in items), axis=0)
        return call.op("Gather", stacked, index, axis=0)
    return items[_index(call, 1, len(items))]


@primitive("TupleSetItem", "tuple_setitem", "ListSetItem", "list_setitem")
def set_item(call: Call) -> Datum:
    """A tuple with one element replaced."""
    items = list(_sequence(call, call[0]))
    items[_index(call, 1, len(items))] = call[2]
    return tuple(items)


@primitive("sequence_len", "tuple_len", "list_len", "SequenceLen", "array_len")
def length(call: Call) -> Datum:
    """The number of elements of a tuple, or the first dimension of a tensor."""
    datum = call[0]
    return len(datum) if isinstance(datum, tuple) else call.shape(call.item(datum))[0]


@primitive("SequenceAdd", "sequence_add", "TupleAdd", "ListExtend")
def sequence_add(call: Call) -> Datum:
    """Two tuples as one."""
    return _sequence(call, call[0]) + _sequence(call, call[1])


@primitive("SequenceMul", "sequence_mul")
def sequence_mul(call: Call) -> Datum:
    """A tuple repeated."""
    (times,) = call.sizes(call[1], "times")
    if not isinstance(times, int):
        call.refuse("a tuple whose length depends on data")
    return _sequence(call, call[0]) * times


@primitive("SequenceSlice", "sequence_slice")
def sequence_slice(call: Call) -> Datum:
    """A part of a tuple."""
    bounds = [b for d in call.given[1:4] for b in call.sizes(d, "bound") if isinstance(b, int)]
    if len(bounds) != len(call.given[1:4]):
        call.refuse("a part of a tuple that depends on data")
    return _sequence(call, call[0])[slice(*bounds)]


@primitive("ListAppend", "list_append", "list_append_ext")
def list_append(call: Call) -> Datum:
    """A list with one element more."""
    return (*_sequence(call, call[0]), call[1])


@primitive("tuple_reversed", "list_reverse")
def reverse(call: Call) -> Datum:
    """A tuple backwards."""
    return _sequence(call, call[0])[::-1]


@primitive("make_dict", "MakeDict")
def make_dict(call: Call) -> Datum:
    """A dictionary of names and data."""
    return {str(k): v for k, v in zip(_sequence(call, call[0]), _sequence(call, call[1]), strict=True)}


@primitive("dict_getitem", "DictGetItem")
def dict_get_item(call: Call) -> Datum:
    """One element of a dictionary."""
    found, key = call[0], call[1]
    if not isinstance(found, dict) or not isinstance(key, str) or key not in found:
        raise call.error(f"expected a dictionary with {described(key)}, got {described(found)}")
    return found[key]


@primitive("DictLen", "dict_len")
def dict_length(call: Call) -> Datum:
    """The number of elements of a dictionary."""
    found = call[0]
    return len(found) if isinstance(found, dict) else 0


@primitive("MakeSlice", "make_slice")
def make_slice(call: Call) -> Datum:
    """A slice: start, stop and step."""
    return {"start": call[0], "stop": call[1], "step": call[2]}


@primitive("SliceGetItem", "slice_getitem")
def slice_get_item(call: Call) -> Datum:
    """A part of a slice by its name."""
    return dict_get_item(call)


@primitive("IsNone", "is_none")
def is_none(call: Call) -> Datum:
    """Whether the input is None."""
    return call[0] is None


# -- functions ---------------------------------------------------------------------------------------------------------


@primitive("Partial", "partial")
def partial(call: Call) -> Datum:
    """A function with its first arguments bound."""
    function, bound = call[0], call.given[1:]
    if isinstance(function, Either):
        then, otherwise = (_bound(call, side, bound) for side in (function.then, function.otherwise))
        return Either(function.condition, then, otherwise)
    return _bound(call, function, bound)


def _bound(call: Call, function: Datum, bound: Sequence[Datum]) -> Datum:
    if not isinstance(function, Function):
        raise call.error(f"expected a function, got {described(function)}")
    return Function(function.target, (*function.arguments, *bound))


@primitive("Switch", "switch")
def switch(call: Call) -> Datum:
    """One of two functions, or of two data."""
    condition, then, otherwise = call[0], call[1], call[2]
    if isinstance(condition, bool | int | float):
        return then if condition else otherwise
    test = call.item(condition)
    array = call.a.array(test)
    if array is not None and array.size == 1:
        return then if array.reshape(-1)[0] else otherwise
    test = call.cast(test, "bool")
    if holds_function(then) or holds_function(otherwise):
        return Either(test, then, otherwise)
    return call.machine.choose(test, then, otherwise)


@primitive("SwitchLayer", "switch_layer")
def switch_layer(call: Call) -> Datum:
    """One of several functions by an index, which may count from the end."""
    layers = _sequence(call, call[1])
    index = call[0]
    if not isinstance(index, int):
        item = call.item(index)
        array = call.a.array(item)
        if array is None:
            return _layers(call, item, layers)
        index = int(array.reshape(-1)[0])
    if not -len(layers) <= index < len(layers):
        raise call.error(f"expected an index of {len(layers)} layers, got {index}")
    return layers[index]


def _layers(call: Call, index: Item, layers: Sequence[Datum]) -> Datum:
    chosen = layers[-1]
    for i in reversed(range(len(layers) - 1)):
        hit = call.op("Equal", index, call.a.like(i, index))
        other = call.op("Equal", index, call.a.like(i - len(layers), index))
        chosen = Either(call.op("Or", hit, other), layers[i], chosen)
    return chosen


# -- the order of side effects -----------------------------------------------------------------------------------------


@primitive("Load")
def load(call: Call) -> Datum:
    """A parameter as it is now."""
    datum = call[0]
    return call.machine.current(datum) if isinstance(datum, Parameter) else datum


@primitive("TensorMove")
def tensor_move(call: Call) -> Datum:
    """A tensor as it is now, whatever becomes of the parameter that it is."""
    return call.tensor(0)


@primitive("UpdateState")
def update_state(call: Call) -> Datum:
    """The order of interpretation is that of the file, where what a state depends on comes before it."""
    return call[0] if isinstance(call[0], Monad) else Monad("U")


@primitive(
    "Depend", "depend", "Return", "return", "stop_gradient", "identity", "HookBackward", "CellBackwardHook", "MoveTo"
)  # fmt: skip
def depend(call: Call) -> Datum:
    """The first input."""
    return call[0]


@primitive("Print", "TensorSummary", "ScalarSummary", "ImageSummary", "HistogramSummary", "Assert", "TensorDump")
def nothing(call: Call) -> Datum:
    """What only speaks to the user while the model runs is left out."""
    call.machine.note(f"{call.name} is left out: compiled models print nothing")
    return Monad("IO")


# -- parameters --------------------------------------------------------------------------------------------------------


def _parameter(call: Call) -> Parameter:
    datum = call[0]
    if not isinstance(datum, Parameter):
        raise call.error(f"expected a parameter of the model, got {described(datum)}")
    return datum


def _assign(call: Call, value: Item) -> Datum:
    parameter = _parameter(call)
    call.machine.assign(parameter, value)
    return call.machine.current(parameter)


def _assigned(call: Call) -> tuple[Item, Item]:
    """What the parameter holds, and the other operand in its shape and element type."""
    before = call.machine.current(_parameter(call))
    value = call.cast(call.item(call[1], before), call.element_type(before))
    shape = call.shape(before)
    if call.shape(value) != shape:
        same = [d for d in call.shape(value) if d != 1] == [d for d in shape if d != 1]
        value = call.op("Reshape" if same else "Expand", value, np.array(shape, np.int64))
    return before, value


@primitive("Assign")
def assign(call: Call) -> Datum:
    """A parameter gets a new value."""
    return _assign(call, _assigned(call)[1])


@primitive("AssignAdd")
def assign_add(call: Call) -> Datum:
    """A parameter grows by a value."""
    return _assign(call, call.op("Add", *_assigned(call)))


@primitive("AssignSub")
def assign_sub(call: Call) -> Datum:
    """A parameter is diminished by a value."""
    return _assign(call, call.op("Sub", *_assigned(call)))
