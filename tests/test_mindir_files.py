"""MindIR files of all versions as plain data: values, types, split and encrypted files, keys; what is broken."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from _mindir import (
    KEY,
    MONAD,
    SAMPLES,
    constant,
    dense,
    double,
    encrypted,
    field,
    fields,
    graph,
    info,
    model,
    named,
    needs_samples,
    node,
    primitive,
    split,
    tensor,
    typed,
    value,
    varint,
)

from planish.frontend.encryption import find_key
from planish.frontend.mindir.files import is_mindir, load
from planish.frontend.mindir.proto import (
    Closure,
    DType,
    Functor,
    ModelFile,
    Monad,
    ScalarAbstract,
    ScalarGraph,
    SequenceAbstract,
    Symbol,
    Tensor,
    TensorAbstract,
    UnknownValue,
)
from planish.ir.constants import FileSource
from planish.ir.errors import ModelError, PlanishError, UnsupportedError

WEIGHTS = {"fc.weight": np.random.default_rng(0).standard_normal((40, 30), np.float32), "fc.bias": np.ones(40, "f4")}


def with_values(*values: bytes) -> ModelFile:
    """A model whose constants hold these attributes."""
    nodes = [constant(f"c{i}", body) for i, body in enumerate(values)]
    return load(model(graph("main", nodes, [], [f"c{len(values) - 1}"])))


def values_of(*values: bytes) -> list[object]:
    return [n.attributes["value"].value for n in with_values(*values).graph.nodes]


def old_value(reference: str, kind: int, body: bytes = b"") -> object:
    """What an attribute of 1.x says."""
    attribute = field(1, "a") + body + field(15, reference) + (field(16, kind) if kind else b"")
    main = graph("main", [node("Op", ["x"], "y", attribute)], [info("x")], ["y"])
    return load(model(main, version=0)).graph.nodes[0].attributes["a"].value


def test_a_file_says_where_it_comes_from_and_what_is_in_it() -> None:
    step = field(1, '["image"]') + field(4, '"Map"') + field(5, "[]") + field(6, 1)
    extra = field(9, field(1, step)) + field(14, field(1, "version") + field(2, "7"))
    file = load(dense() + extra)
    assert (file.ir_version, file.mind_ir_version, file.model_version, file.producer) == (
        "1.1",
        3,
        "2.10.0",
        "MindSpore",
    )
    assert file.user_info == {"version": "7"} and file.cipher == ""
    assert file.preprocessor[0].input_columns == '["image"]' and file.preprocessor[0].offload
    assert [p.parameter for p in file.graph.parameters] == ["fc.weight", "fc.bias"]
    assert file.graph.inputs[0].abstract == TensorAbstract("f32", (2, 3))
    assert file.primitives["MatMul:1"].op_type == "MatMul" and file.primitives["Load:3"].prim_type == 1
    assert file.graph.nodes[-1].inputs == ("main:m", "main:fc.bias", "format")
    assert file.graph.nodes[-1].abstract == TensorAbstract("f32", (2, 4)) and not file.graph.nodes[-1].attributes


def test_values_of_every_kind() -> None:
    nested = (1, 2.5, "s", True, [(-3,), None])
    assert values_of(value(nested), value(-7), value(False), value("é"), value(None)) == [nested, -7, False, "é", None]
    assert values_of(double(4, 0.1) + field(16, 11), field(5, b"\xff") + field(16, 8)) == [0.1, b"\xff"]
    assert values_of(MONAD, field(16, 24), field(16, 36)) == [Monad("U"), Monad("IO"), DType("none")]
    assert values_of(field(12, tensor(dtype="f16", dims=[])) + field(16, 19)) == [DType("f16")]
    assert values_of(field(5, "f") + field(16, 27)) == [Closure(("f",))]
    both = field(16, 29) + field(17, field(5, "f") + field(16, 27)) + field(17, field(5, "g") + field(16, 27))
    assert values_of(both) == [Closure(("f", "g"))]
    assert values_of(field(5, "nn.Cell") + field(16, 33)) == [Symbol("CLASS_TYPE", "nn.Cell")]
    functor = field(1, 1) + field(2, "shape") + field(3, value(2, inside=True))
    assert values_of(field(19, functor) + field(16, 38)) == [Functor("SHAPE_CALC_FUNCTOR", "shape", (2,))]
    scalars = field(1, field(1, 5) + fields(2, [0, 1]) + fields(3, [9])) + fields(2, [3])
    assert values_of(field(20, scalars) + field(16, 40)) == [ScalarGraph(((5, (0, 1), (9,)),), (3,))]
    entry = field(1, "k") + field(17, value(4))
    assert values_of(field(17, entry) + field(16, 22)) == [{"k": 4}]
    assert values_of(field(16, 99)) == [UnknownValue("99")]


def test_constant_tensors_have_all_element_types() -> None:
    for dtype in ("float32", "float16", "float64", "int8", "uint8", "int16", "int64", "uint64", "bool", "complex64"):
        array = np.array([[0, 1, 2], [3, 1, 0]]).astype(dtype)
        (found,) = values_of(value(array))
        assert isinstance(found, Tensor)
        assert found.array().dtype == array.dtype and (found.array() == array).all()


def test_elements_may_stand_in_typed_lists() -> None:
    f16 = np.array([1.5, -2], np.float16)
    for dtype, body, expected in (
        ("f32", fields(3, [1.5, -2.0]), [1.5, -2]),
        ("f64", double(10, 0.1) + double(10, 2), [0.1, 2]),
        ("i64", field(6, varints(-1, 1 << 40)), [-1, 1 << 40]),  # packed
        ("u8", fields(4, [255, 0]), [255, 0]),
        ("f16", fields(4, f16.view(np.uint16).tolist()), [1.5, -2]),
        ("bool", fields(4, [1, 0]), [True, False]),
    ):
        (found,) = values_of(field(12, tensor("t", dtype=dtype, dims=[2], extra=body)) + field(16, 19))
        assert isinstance(found, Tensor) and found.array().tolist() == expected


def varints(*numbers: int) -> bytes:
    return b"".join(map(varint, numbers))


def test_types_of_inputs() -> None:
    sequence = field(16, 20) + field(17, typed("f32", 2, name="")) + field(17, typed("i32", -1, name=""))
    dynamic = field(16, 21) + field(18, field(1, 1) + field(2, typed("f32", 3, name="")))
    old_dynamic = field(16, 21) + field(18, field(18, 1) + field(19, typed("f32", 3, name="")))
    inputs = [
        info("a", "f32", -1, 3),
        info("b", "f32", -2),
        info("c", attribute=sequence, denotation="Tuple"),
        info("d", attribute=dynamic),
        info("e", attribute=old_dynamic),
        info("f", attribute=field(12, tensor(dtype="f32", dims=[0])) + field(16, 39), denotation="Float"),
        info("g", denotation="UMonadType"),
        info("h", attribute=field(3, 0) + field(16, 9)),
    ]
    found = [i.abstract for i in load(model(graph("main", [], inputs, ["a"]))).graph.inputs]
    one = TensorAbstract("f32", (3,))
    assert found == [
        TensorAbstract("f32", (-1, 3)),
        TensorAbstract("f32", None),
        SequenceAbstract("tuple", (TensorAbstract("f32", (2,)), TensorAbstract("i32", (-1,)))),
        SequenceAbstract("list", (), True, one),
        SequenceAbstract("list", (), True, one),
        ScalarAbstract("f32"),
        Monad("U"),
        ScalarAbstract("bool"),
    ]


def test_values_of_mindspore_1() -> None:
    assert old_value("scalar:value0", 7, field(3, -4)) == -4
    assert old_value("scalar:value0", 9, field(3, 1)) is True
    assert old_value("scalar:value0", 1, field(2, 0.5)) == 0.5
    assert old_value("scalar:value0", 8, field(5, "NCHW")) == "NCHW"
    assert old_value("scalar:Tuple[value1,Tuple[value2,value3,],],", 7, fields(10, [1, 2, 3])) == (1, (2, 3))
    assert old_value("scalar:List[value1,value2,],", 8, fields(11, ["x", "y"])) == ["x", "y"]
    assert old_value("none", 0) is None
    assert old_value("Monad:UMonad", 0) == Monad("U")
    assert old_value("type:tensor0", 17, field(12, tensor(dtype="f16"))) == DType("f16")
    assert old_value("type:value0", 6) == DType("i32")
    assert old_value("type:value0", 0, field(18, 7)) == DType("i64")  # a number, where later a message stands
    array = np.arange(3, dtype=np.int32)
    found = old_value("tensor:value0", 17, field(12, tensor("value0", array)))
    assert isinstance(found, Tensor) and found.array().tolist() == [0, 1, 2]
    with pytest.raises(ModelError, match="fewer values than its type"):
        old_value("scalar:Tuple[value1,value2,]", 7, fields(10, [1]))
    with pytest.raises(ModelError, match="describes no value"):
        old_value("scalar:Tuple[value1", 7, fields(10, [1]))


def test_inferred_types_of_mindspore_1() -> None:
    shapes = field(12, tensor("shape1", dtype="f32", dims=[2])) + field(12, tensor("shape2", dtype="i32", dims=[]))
    nodes = [
        node("S-Prim-TopK", ["x"], "y", shapes + field(15, "shape:Tuple[shape1,shape2,],")),
        node("ReLU", ["y"], "z", field(12, tensor("shape1", dtype="f32", dims=[2])) + field(15, "shape:shape1,")),
    ]
    found = load(model(graph("main", nodes, [info("x")], ["z"]), version=0)).graph.nodes
    assert found[0].abstract == SequenceAbstract("tuple", (TensorAbstract("f32", (2,)), TensorAbstract("i32", ())))
    assert found[1].abstract == TensorAbstract("f32", (2,))


def test_names_are_global_and_nested_functions_keep_theirs() -> None:
    called = graph("inner", [node("REF::Neg:1", ["main:x"], "inner:y")], [], ["inner:y"])
    main = graph("main", [node("REF::inner", [], "main:y")], [info("main:x", "f32", 2)], ["main:y"])
    assert [f.name for f in load(model(main, [called], [primitive("Neg:1", "Neg")])).functions] == ["inner"]


def test_weights_stay_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "net.mindir"
    path.write_bytes(dense(WEIGHTS))
    data = load(path).graph.parameters[0].data
    assert data is not None and isinstance(data.source, FileSource) and data.source.path == str(path)
    assert (data.array() == WEIGHTS["fc.weight"]).all()


@pytest.mark.parametrize("key", [None, KEY])
def test_split_files(tmp_path: Path, key: bytes | None) -> None:
    file = load(split(tmp_path, WEIGHTS, key), key)
    for held in file.graph.parameters:
        assert (held.array() == WEIGHTS[held.parameter]).all()
    data = file.graph.parameters[1].data
    assert data is not None and isinstance(data.source, FileSource) == (key is None)


def test_data_files_lie_beside_the_model(tmp_path: Path) -> None:
    path = split(tmp_path, WEIGHTS)
    content = path.read_bytes()
    (tmp_path / "net_variables" / "data_0").write_bytes(bytes(70))
    with pytest.raises(ModelError, match="cut short or belongs to another model"):
        load(path)
    (tmp_path / "net_variables" / "data_0").unlink()
    with pytest.raises(ModelError, match="its data is missing"):
        load(path)
    with pytest.raises(ModelError, match="give the path of the model"):
        load(content)


@pytest.mark.parametrize("cipher", ["AES-GCM", "AES-CBC", "SM4-CBC"])
def test_encrypted_files(cipher: str) -> None:
    content = encrypted(dense(WEIGHTS), KEY, cipher)
    assert load(content, KEY).cipher == cipher
    with pytest.raises(ModelError, match=f"encrypted with {cipher}: expected a key, got none; .*PLANISH_KEY"):
        load(content)
    for _ in range(8):  # a wrong key may well give a right padding
        with pytest.raises(ModelError, match="the key does not fit, or the file is damaged"):
            load(encrypted(dense(), KEY, cipher), b"another key, 16b")
    with pytest.raises(ModelError, match="expected a key of 16"):
        load(content, b"short")


def test_records_of_mindspore_1_and_files_of_several() -> None:
    content = dense()
    assert load(encrypted(content, KEY, old=True), KEY).graph.name == "main"
    assert load(encrypted(content[:100], KEY) + encrypted(content[100:], KEY), KEY).graph.name == "main"
    long_key = b"24 bytes are for AES-192"
    assert load(encrypted(content, long_key, "AES-CBC"), long_key).cipher == "AES-CBC"
    with pytest.raises(ModelError, match="the key does not fit"):
        load(encrypted(content, KEY, old=True), b"another key, 16b")


def test_what_a_function_of_the_user_encrypted_is_refused() -> None:
    with pytest.raises(ModelError, match="encrypted by a function of your own.* decrypt it first"):
        load(bytes(b ^ 0x5A for b in dense()), KEY)


def test_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PLANISH_KEY", raising=False)
    assert find_key(None) is None
    file = tmp_path / "key"
    for content, expected in (
        (KEY, KEY),
        (KEY + b"\n", KEY),
        (b"hex:" + KEY.hex().encode() + b"\n", KEY),
        (b"\n" * 16, b"\n" * 16),
        (bytes(range(32)), bytes(range(32))),
        (bytes(range(32)).hex().encode(), bytes(range(32))),
        (KEY.hex().encode(), KEY.hex().encode()),  # 32 bytes as they are
    ):
        file.write_bytes(content)
        assert find_key(file) == expected
    for content in (b"", b"short", b"hex:zz" + b"0" * 30, b"x" * 5000):
        file.write_bytes(content)
        with pytest.raises(PlanishError, match="expected a key of 16, 24 or 32 bytes"):
            find_key(file)
    with pytest.raises(PlanishError, match="cannot read the key"):
        find_key(tmp_path / "absent")
    monkeypatch.setenv("PLANISH_KEY", "hex:" + KEY.hex())
    assert find_key(None) == KEY


def test_what_is_refused() -> None:
    one = np.ones(3, np.float32)
    compressed = tensor("main:fc.weight", one, ref_key="fc.weight", extra=field(16, 2))
    with pytest.raises(UnsupportedError, match=r"compressed weights \(SPARSE\)"):
        load(model(graph("main", [], [info("x", "f32", 2)], ["x"], [compressed])))
    with pytest.raises(ModelError, match="expected MindIR of version 0 to 3, got 9"):
        load(model(graph("main", [], [info("x", "f32", 2)], ["x"]), version=9))
    with pytest.raises(ModelError, match="big-endian"):
        load(model(graph("main", [], [info("x", "f32", 2)], ["x"]), extra=field(10, 0)))


def test_formats_are_told_by_their_first_bytes() -> None:
    assert is_mindir(dense()[:64]) and is_mindir(model(b"", version=0)[:64])
    assert not is_mindir(b"") and not is_mindir(b"\x08\x08\x12\x07pytorch") and not is_mindir(named("w", b"")[:64])


@needs_samples
def test_all_of_mindspores_own_files_are_read() -> None:
    files = sorted(SAMPLES.rglob("*.mindir"))
    assert len(files) > 100
    for path in files:
        if path.name != "enc_custom_xor.mindir":
            assert load(path, KEY).graph.outputs


@needs_samples
def test_encrypted_and_split_samples_hold_the_same_weights() -> None:
    plain = {t.parameter: t.array() for t in load(SAMPLES / "encrypted" / "encrypted.mindir").graph.parameters}
    others = [SAMPLES / "encrypted" / f"enc_{cipher}.mindir" for cipher in ("AES-GCM", "AES-CBC", "SM4-CBC")]
    others += [SAMPLES / "external_data" / f"{name}_graph.mindir" for name in ("split1", "splitE")]
    for path in others:
        found = {t.parameter: t.array() for t in load(path, KEY).graph.parameters}
        assert found.keys() == plain.keys() and all((found[name] == plain[name]).all() for name in plain)
