"""From a file, or bytes, to a `ModelFile`: decryption, graphs, and the checks that any reader of MindIR must make."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

from ...ir.errors import ModelError
from ..encryption import cipher_of, decrypt, wrong_key
from ..mapped import read_mapped
from ..protobuf import Buffer, Message, WireError
from ..text import quote
from .checks import check
from .proto import (
    PRIMITIVE,
    Abstract,
    Attribute,
    GraphProto,
    ModelFile,
    Monad,
    NodeProto,
    PreprocessStep,
    Primitive,
    UnknownAbstract,
    ValueInfo,
)
from .schema import Attr, Graph, Info, Model, Node, Prim, Tensors
from .tensors import TensorReader
from .values import abstract_of, attribute_of, is_abstract

_NEWEST = 3  # mind_ir_version
_VERSION = re.compile(rb"\x0a([\x01-\x10])(\d+(\.\d+)*)\x12")
_MONADS = {"UMonadType": Monad("U"), "IOMonadType": Monad("IO")}


def is_mindir(head: bytes) -> bool:
    """Whether a file that starts with `head` (64 bytes) is MindIR, plain. One that is encrypted is told by
    `cipher_of`."""
    found = _VERSION.match(head)
    return found is not None and found[1][0] == len(found[2])


def load(source: Path | str | bytes, key: bytes | None = None) -> ModelFile:
    """Read a MindIR file of any version, plain or encrypted; `key` decrypts it and its data files. Raises
    `ModelError` for what is no MindIR, `UnsupportedError` for what only MindSpore can read, `PlanishError` without
    the package to decrypt."""
    if isinstance(source, bytes):
        return _decoded(memoryview(source), "model", None, key)
    path = Path(source)
    return read_mapped(path, "a MindIR model", lambda view, place: _decoded(view, str(path), place, key))


def _decoded(view: memoryview, label: str, path: Path | None, key: bytes | None) -> ModelFile:
    digest = hashlib.sha256(view).hexdigest()
    cipher = cipher_of(view)
    plain = memoryview(decrypt(view, key, label)) if cipher else view
    if not is_mindir(bytes(plain[:64])):
        if cipher:
            raise wrong_key(label, cipher)
        raise ModelError(
            f"{label}: expected a MindIR model, got something else; if it was encrypted by a function of your own,"
            " decrypt it first: planish knows AES-GCM, AES-CBC and SM4-CBC"
        )
    buffer = Buffer(plain, label, None if cipher else path)
    reader = _Reader(buffer, None if path is None else path.parent, key)
    try:
        model = reader.model(path, digest, cipher)
    except WireError as e:
        if cipher:
            raise wrong_key(label, cipher) from e
        what = f"cut short after {len(plain)} bytes" if e.truncated else "damaged"
        raise ModelError(f"{label}: the MindIR file is {what} ({e}); fetch or export it again") from e
    check(model)
    return model


class _Reader:
    """Decodes the messages of one file."""

    def __init__(self, buffer: Buffer, folder: Path | None, key: bytes | None) -> None:
        self.buffer = buffer
        self.tensors = TensorReader(buffer, folder, key)

    def model(self, path: Path | None, digest: str, cipher: str) -> ModelFile:
        """The whole file."""
        top, label = self.buffer.message(), self.buffer.label
        graph = top.message(Model.GRAPH)
        if graph is None:
            raise ModelError(f"{label}: expected a MindIR model, got one without a graph; is it another kind of file?")
        version = top.integer(Model.MIND_IR_VERSION)
        if not 0 <= version <= _NEWEST:
            raise ModelError(
                f"{label}: expected MindIR of version 0 to {_NEWEST}, got {version}; export it with another MindSpore"
            )
        if not top.integer(Model.LITTLE_ENDIAN, 1):
            raise ModelError(f"{label}: written on a big-endian machine; export it on a little-endian one")
        primitives = [self.primitive(child) for child in top.messages(Model.PRIMITIVES)]
        return ModelFile(
            label=label,
            path=path,
            ir_version=top.text(Model.IR_VERSION),
            mind_ir_version=version,
            model_version=top.text(Model.MODEL_VERSION),
            producer=top.text(Model.PRODUCER),
            graph=self.graph(graph),
            functions=tuple(self.graph(child) for child in top.messages(Model.FUNCTIONS)),
            primitives={primitive.name: primitive for primitive in primitives},
            preprocessor=tuple(_steps(top)),
            user_info={entry.text(1): entry.text(2) for entry in top.messages(Model.USER_INFO)},
            sha256=digest,
            cipher=cipher,
        )

    def graph(self, message: Message) -> GraphProto:
        """A graph with everything in it."""
        return GraphProto(
            name=message.text(Graph.NAME),
            nodes=tuple(self.node(child) for child in message.messages(Graph.NODES)),
            parameters=tuple(self.tensors.read(child, "parameter") for child in message.messages(Graph.PARAMETERS)),
            inputs=tuple(self.info(child) for child in message.messages(Graph.INPUTS)),
            outputs=tuple(self.info(child) for child in message.messages(Graph.OUTPUTS)),
            attributes=self.attributes(message.messages(Graph.ATTRIBUTES)),
            map_parameters=tuple(child.text(1) for child in message.messages(Graph.MAP_PARAMETERS)),
        )

    def node(self, message: Message) -> NodeProto:
        """A node. Which of its attributes is its inferred type is told by the attribute."""
        outputs = message.texts(Node.OUTPUTS)
        name = message.text(Node.NAME)
        if len(outputs) != 1:
            raise ModelError(f"{self.buffer.label}: node {quote(name)}: expected one output, got {len(outputs)}")
        attributes: list[Message] = []
        abstract: Abstract = UnknownAbstract()
        for child in message.messages(Node.ATTRIBUTES):
            if is_abstract(child):
                abstract = abstract_of(child, self.tensors)
            else:
                attributes.append(child)
        return NodeProto(
            inputs=tuple(message.texts(Node.INPUTS)),
            output=outputs[0],
            name=name,
            op_type=message.text(Node.OP_TYPE),
            attributes=self.attributes(attributes),
            scope=message.text(Node.DOMAIN),
            abstract=abstract,
            node_attributes=self.attributes(message.messages(Node.NODE_ATTRIBUTES)),
        )

    def info(self, message: Message) -> ValueInfo:
        """An input or output of a graph."""
        found = [self.tensors.read(child, "value") for child in message.messages(Info.TENSORS)]
        attribute = message.message(Info.ATTRIBUTE)
        denotation = message.text(Info.DENOTATION)
        abstract: Abstract = _MONADS.get(denotation, UnknownAbstract(denotation))
        if attribute is not None and (Attr.KIND in attribute or Attr.REF_NAME in attribute):
            abstract = abstract_of(attribute, self.tensors)
        elif found and (Tensors.DTYPE in next(message.messages(Info.TENSORS))):
            abstract = found[0].abstract
        return ValueInfo(message.text(Info.NAME), abstract, denotation, found[0].ref_key if found else "")

    def primitive(self, message: Message) -> Primitive:
        """A primitive of the table."""
        return Primitive(
            name=message.text(Prim.NAME),
            op_type=message.text(Prim.OP_TYPE),
            attributes=self.attributes(message.messages(Prim.ATTRIBUTES)),
            prim_type=message.integer(Prim.KIND, PRIMITIVE),
            instance_name=message.text(Prim.INSTANCE_NAME),
        )

    def attributes(self, messages: Iterator[Message] | list[Message]) -> dict[str, Attribute]:
        """Attributes by name."""
        found = [attribute_of(message, self.tensors) for message in messages]
        return {attribute.name: attribute for attribute in found}


def _steps(top: Message) -> Iterator[PreprocessStep]:
    """How the data set was prepared. In 1.x the field is a text that nothing reads."""
    for message in top.messages(Model.PREPROCESSOR) if top.integer(Model.MIND_IR_VERSION) else ():
        for step in message.messages(1):
            texts = [step.text(number) for number in range(1, 6)]
            yield PreprocessStep(*texts, offload=bool(step.integer(6)))
