"""Operations, values and regions, and how they are changed: the inner half of `ir.core`.

An operation is a class whose annotated fields are its schema: fields annotated `Value`, `Value | None` or
`tuple[Value, ...]` are operands, `Region` or `tuple[Region, ...]` are regions, everything else is an attribute.
Constructor, printing, parsing, cloning and generic verification follow from the fields.

Guarantees:
- A use is registered when its operation is inserted into a region, not when it is constructed; `return` and `yield`
  are operations, so results of a function are uses like any other.
- Insertion, erasure and replacement of one operation take time proportional to its own operands and uses.
- Iterating over a region while operations are inserted, erased or replaced visits every operation that was there at
  the start and still is when the iteration reaches it; an operation inserted after the current one is visited too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import InitVar
from inspect import get_annotations
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, TypeVar, cast, dataclass_transform

from .errors import PlanishError
from .types import TensorType, Type

if TYPE_CHECKING:
    from .core import Function

OpT = TypeVar("OpT", bound="Op")
_OPERAND = ("Value", "Value | None", "tuple[Value, ...]", "tuple[Value | None, ...]")
_REGION = ("Region", "Region | None", "tuple[Region, ...]")


class Use(NamedTuple):
    """Operand number `number` of operation `op`."""

    op: Op
    number: int


class Value:
    """A result of an operation or a parameter of a region. `name` is a hint for printing; `uses` are those of
    operations that stand in a region."""

    __slots__ = ("index", "name", "owner", "type", "uses")

    def __init__(self, type: Type, owner: Op | Region | None = None, index: int = 0, name: str = "") -> None:
        self.type = type
        self.owner = owner
        self.index = index
        self.name = name
        self.uses: dict[Use, None] = {}

    @property
    def tensor(self) -> TensorType:
        """Its type, asserted to be a tensor."""
        assert isinstance(self.type, TensorType), f"expected a tensor, got {self.type}"
        return self.type

    @property
    def op(self) -> Op | None:
        """The operation that defines it; None for parameters."""
        return self.owner if isinstance(self.owner, Op) else None

    @property
    def users(self) -> list[Op]:
        """Operations that use it, each once, in order of registration."""
        return list(dict.fromkeys(use.op for use in self.uses))

    def replace_by(self, other: Value) -> None:
        """Make every registered use of this value a use of `other`."""
        if other is self:
            return
        for use in list(self.uses):
            use.op.set_operand(use.number, other)

    def __repr__(self) -> str:
        return f"<%{self.name or '?'}: {self.type}>"


class Field(NamedTuple):
    """One field of an operation's schema. `kind` is `operand`, `region` or `attribute`; `many` marks a tuple."""

    name: str
    kind: str
    many: bool
    optional: bool
    annotation: str = ""


REGISTRY: dict[str, type[Op]] = {}  # text name -> class; filled by subclassing


def _option(*, default: Any, kw_only: bool = True) -> Any:
    """Declares an argument that every constructor takes by name; for type checkers only."""
    return default


@dataclass_transform(kw_only_default=False, eq_default=False, field_specifiers=(_option,))
class _OpMeta(type):
    """Only carries `dataclass_transform` to all operation classes."""


class Op(metaclass=_OpMeta):
    """Base of all operations. Subclass with `class Relu(Op, name="nn.relu")` and annotated fields."""

    op_name: ClassVar[str] = ""
    fields: ClassVar[tuple[Field, ...]] = ()
    _operands: ClassVar[tuple[tuple[str, bool], ...]] = ()  # name and `many` of those of `fields` that are operands
    _regions: ClassVar[tuple[tuple[str, bool], ...]] = ()  # and of those that are regions
    names: ClassVar[dict[str, str]] = {}  # foreign names: {"onnx": "Relu"}
    side_effects: ClassVar[bool] = False  # True: never removed for lack of uses
    terminator: ClassVar[bool] = False
    isolated: ClassVar[bool] = False  # True: its regions see no value from outside
    family: ClassVar[str] = ""  # the attribute that completes the text name: `scalar.add` has fn="add"

    types: InitVar[Sequence[Type] | None] = _option(default=None)
    loc: str = _option(default="")

    def __init_subclass__(cls, name: str = "", **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        own: list[Field] = []
        for field, annotation in get_annotations(cls).items():
            if not isinstance(annotation, str):
                raise TypeError(f"{cls.__name__}: its file must start with `from __future__ import annotations`")
            text = annotation
            if text.startswith(("ClassVar", "typing.ClassVar")) or field.startswith("_"):
                continue
            kind = "operand" if text in _OPERAND else "region" if text in _REGION else "attribute"
            many = text.startswith("tuple[") and kind != "attribute"
            own.append(Field(field, kind, many, text.endswith("None") or (field in cls.__dict__), text))
        cls.fields = tuple(f for f in cls.fields if f.name not in {o.name for o in own}) + tuple(own)
        cls._operands = tuple((f.name, f.many) for f in cls.fields if f.kind == "operand")
        cls._regions = tuple((f.name, f.many) for f in cls.fields if f.kind == "region")
        if name:
            cls.op_name = name
            if name in REGISTRY:
                raise RuntimeError(f"two operations are called {name}")
            REGISTRY[name] = cls

    def __init__(self, *args: Any, types: Sequence[Type] | None = None, loc: str = "", **kwargs: Any) -> None:
        """Fields by position or by name; `types` are the result types where `infer` cannot know them; `loc` is the
        name of the node in the user's model."""
        if len(args) > len(self.fields):
            raise TypeError(f"{self.op_name}: {len(args)} arguments for {len(self.fields)} fields")
        given = dict(zip((f.name for f in self.fields), args, strict=False))
        given.update(kwargs)
        for field in self.fields:
            if field.name in given:
                value = given.pop(field.name)
            elif hasattr(type(self), field.name):
                value = getattr(type(self), field.name)
            elif field.optional:
                value = None
            else:
                raise TypeError(f"{self.op_name}: missing field {field.name}")
            if isinstance(value, list):
                value = tuple(cast("list[Any]", value))
            setattr(self, field.name, value)
        if given:
            raise TypeError(f"{self.op_name}: unknown fields {sorted(given)}")
        self.loc = loc
        self.position = ""  # `file:line` of an operation that was read from text
        self.parent: Region | None = None
        self._prev: Op | None = None
        self._next: Op | None = None
        for region in self.regions:
            region.parent = self
        self.results: tuple[Value, ...] = ()
        self.results = tuple(Value(t, self, i) for i, t in enumerate(self.infer() if types is None else types))

    # -- what subclasses say ------------------------------------------------------------------------------------

    def infer(self) -> Sequence[Type]:
        """Types of the results, from operands and attributes; raises `VerifyError` (through `expect`) when they do
        not fit. The inferred type is the verification: an op without it is built with explicit `types`."""
        return tuple(r.type for r in self.results)

    def verify(self) -> None:
        """Further checks, beyond `infer`. Raises `VerifyError`."""

    # -- access -------------------------------------------------------------------------------------------------

    @property
    def text_name(self) -> str:
        """The name in the text form."""
        return f"{self.op_name}.{getattr(self, self.family)}" if self.family else self.op_name

    @property
    def result(self) -> Value:
        """The only result."""
        assert len(self.results) == 1, f"{self.op_name} has {len(self.results)} results"
        return self.results[0]

    @property
    def operands(self) -> list[Value | None]:
        """All operands in field order, tuples flattened; None where an optional one is absent."""
        flat: list[Value | None] = []
        for name, many in self._operands:
            value = getattr(self, name)
            flat.extend(value) if many else flat.append(value)
        return flat

    @property
    def inputs(self) -> list[Value]:
        """The operands that are present."""
        return [v for v in self.operands if v is not None]

    @property
    def regions(self) -> list[Region]:
        """All regions, in field order."""
        found: list[Region] = []
        for name, many in self._regions:
            value = getattr(self, name)
            found.extend(value if many else [value] if value is not None else [])
        return found

    @property
    def attributes(self) -> dict[str, Any]:
        """All attributes by name, in field order."""
        return {f.name: getattr(self, f.name) for f in self.fields if f.kind == "attribute"}

    def set_operand(self, index: int, value: Value | None) -> None:
        """Change operand `index` (numbered as in `operands`), keeping uses true."""
        at = index
        for field in self.fields:
            if field.kind != "operand":
                continue
            old = getattr(self, field.name)
            count = len(old) if field.many else 1
            if at >= count:
                at -= count
                continue
            previous: Value | None = old[at] if field.many else old
            setattr(self, field.name, (*old[:at], value, *old[at + 1 :]) if field.many else value)
            if self.parent is not None:
                if previous is not None:
                    previous.uses.pop(Use(self, index), None)
                if value is not None:
                    value.uses[Use(self, index)] = None
            return
        raise IndexError(f"{self.op_name} has no operand {index}")

    def set_attribute(self, name: str, value: Any) -> None:
        """Change an attribute (operands go through `set_operand`)."""
        assert any(f.name == name and f.kind == "attribute" for f in self.fields), f"{self.op_name}.{name}"
        setattr(self, name, value)

    # -- place --------------------------------------------------------------------------------------------------

    @property
    def next(self) -> Op | None:
        """The following operation of its region."""
        return self._next if self.parent is not None else None

    @property
    def prev(self) -> Op | None:
        """The preceding operation of its region."""
        return self._prev if self.parent is not None else None

    def walk(self) -> Iterator[Op]:
        """This operation and all in its regions, outermost first."""
        yield self
        for region in self.regions:
            yield from region.walk()

    def erase(self) -> None:
        """Take it out of its region and drop its uses. Its results must be unused."""
        used = [r for r in self.results if r.uses]
        if used:
            raise PlanishError(f"{self.op_name}: erased while {used[0]!r} is still used")
        self.detach()

    def detach(self) -> None:
        """Take it out of its region and unregister its uses and those inside its regions; it may be inserted again."""
        assert self.parent is not None
        self.parent._unlink(self)
        for op in self.walk() if self._regions else (self,):
            for i, v in enumerate(op.operands):
                if v is not None:
                    v.uses.pop(Use(op, i), None)

    def replace_by(self, values: Sequence[Value]) -> None:
        """Make all uses of the results uses of `values`, then erase it. Names of the results move along."""
        assert len(values) == len(self.results), f"{self.op_name}: {len(values)} values for {len(self.results)} results"
        for old, new in zip(self.results, values, strict=True):
            old.replace_by(new)
            if old.name and not new.name:
                new.name = old.name
        self.erase()

    def clone(self, mapping: dict[Value, Value]) -> Op:
        """A copy whose operands go through `mapping` (absent: the same value); results and the regions' parameters are
        added to `mapping`. Result types are copied, not inferred."""
        fields: dict[str, Any] = {}
        for f in self.fields:
            value = getattr(self, f.name)
            if f.kind == "operand":
                value = tuple(mapping.get(v, v) for v in value) if f.many else mapping.get(value, value)
            elif f.kind == "region" and value is not None:
                value = tuple(r.clone(mapping) for r in value) if f.many else value.clone(mapping)
            fields[f.name] = value
        copy = type(self)(types=[r.type for r in self.results], loc=self.loc, **fields)
        copy.position = self.position
        for old, new in zip(self.results, copy.results, strict=True):
            new.name = old.name
            mapping[old] = new
        return copy

    def __repr__(self) -> str:
        return f"<{self.text_name} {', '.join(map(repr, self.operands))}>"


class Region:
    """A list of operations with parameters. `parent` is the operation or function that owns it. The list is linked;
    see the module's docstring for what iteration guarantees."""

    def __init__(self, types: Sequence[Type] = (), names: Sequence[str] = ()) -> None:
        self.params: list[Value] = []
        for i, t in enumerate(types):
            self.add_param(t, names[i] if i < len(names) else "")
        self.parent: Op | Function | None = None
        self._first: Op | None = None
        self._last: Op | None = None

    def add_param(self, type: Type, name: str = "") -> Value:
        """Append a parameter."""
        value = Value(type, self, len(self.params), name)
        self.params.append(value)
        return value

    @property
    def first(self) -> Op | None:
        return self._first

    @property
    def last(self) -> Op | None:
        return self._last

    @property
    def terminator(self) -> Op:
        """Its last operation, asserted to be a terminator (`return`, `yield`)."""
        assert self._last is not None and self._last.terminator, "region has no terminator"
        return self._last

    def __iter__(self) -> Iterator[Op]:
        op = self._first
        while op is not None:
            if op.parent is self:
                yield op
            op = op._next

    def __reversed__(self) -> Iterator[Op]:
        op = self._last
        while op is not None:
            if op.parent is self:
                yield op
            op = op._prev

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def walk(self) -> Iterator[Op]:
        """All operations, those in nested regions after the one that owns them."""
        for op in self:
            if op._regions:
                yield from op.walk()
            else:
                yield op

    def append(self, op: OpT) -> OpT:
        """Insert at the end."""
        return self._insert(op, self._last, None)

    def insert_before(self, anchor: Op, op: OpT) -> OpT:
        """Insert directly before `anchor`."""
        assert anchor.parent is self
        return self._insert(op, anchor._prev, anchor)

    def insert_after(self, anchor: Op, op: OpT) -> OpT:
        """Insert directly after `anchor`."""
        assert anchor.parent is self
        return self._insert(op, anchor, anchor._next)

    def _insert(self, op: OpT, prev: Op | None, next: Op | None) -> OpT:
        assert op.parent is None, f"{op.op_name} already stands in a region"
        op.parent, op._prev, op._next = self, prev, next
        if prev is None:
            self._first = op
        else:
            prev._next = op
        if next is None:
            self._last = op
        else:
            next._prev = op
        for inner in op.walk() if op._regions else (op,):
            if inner.parent is None:
                continue
            for i, v in enumerate(inner.operands):
                if v is not None:
                    v.uses[Use(inner, i)] = None
        return op

    def _unlink(self, op: Op) -> None:
        # The removed op keeps its own links, so that an iteration standing on it finds its way back to the list.
        prev, next = op._prev, op._next
        if prev is None:
            self._first = next
        else:
            prev._next = next
        if next is None:
            self._last = prev
        else:
            next._prev = prev
        op.parent = None

    def clone(self, mapping: dict[Value, Value]) -> Region:
        """A copy; parameters and results are added to `mapping`."""
        copy = Region([p.type for p in self.params], [p.name for p in self.params])
        for old, new in zip(self.params, copy.params, strict=True):
            mapping[old] = new
        for op in self:
            copy.append(op.clone(mapping))
        return copy
