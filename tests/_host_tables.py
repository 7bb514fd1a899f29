"""What each host function must give, and what it must refuse."""

from __future__ import annotations

from typing import Any

import numpy as np
from _host_cases import Case, strings

I64, F32 = np.int64, np.float32


def i64(*values: int) -> np.ndarray[Any, Any]:
    return np.array(values, I64)


X = np.arange(24, dtype=F32).reshape(2, 3, 4)
S = strings("a", "bc", "", "déf", "g\nh", "中文", shape=(2, 3))
NIBBLE = np.array([3, 1, 2, 3, 1, 3], np.int32)
BOXES = np.array(
    [[[0, 0, 1, 1], [0, 0.1, 1, 1.1], [0, -0.1, 1, 0.9], [0, 10, 1, 11], [0, 10.1, 1, 11.1], [0, 100, 1, 101]]], F32
)
CENTERS = np.array(
    [[[0.5, 0.5, 1, 1], [0.5, 0.6, 1, 1], [0.5, 0.4, 1, 1], [0.5, 10.5, 1, 1], [0.5, 10.6, 1, 1], [0.5, 100.5, 1, 1]]],
    F32,
)
SCORES = np.array([[[0.9, 0.75, 0.6, 0.95, 0.5, 0.3]]], F32)
TOKENS = np.array([[1, 1, 3, 3, 3, 7], [8, 6, 7, 5, 6, 8]], I64)
TFIDF = {
    "max_gram_length": 2,
    "ngram_counts": [0, 4],
    "ngram_indexes": [0, 1, 2, 3, 4, 5, 6],
    "pool": [2, 3, 5, 4, 5, 6, 7, 8, 6, 7],
}

MOVES = [
    Case("identity", [S], [S]),
    Case("shape", [X], [i64(2, 3, 4)]),
    Case("shape", [X], [i64(3, 4)], {"start": -2}),
    Case("shape", [S], [i64(2)], {"end": -1}),
    Case("size", [S], [np.array(6, I64)]),
    Case("take", [i64(5, -1, 0, 6), S, strings("z")], [strings("中文", "", "a", "z")]),
    Case("take", [i64(3, -1).reshape(2, 1), X], [np.array([[3], [0]], F32)]),
    Case("reshape", [S, i64(3, -1)], [S.reshape(3, 2)]),
    Case("reshape", [X, i64(0, 0, 2, 2)], [X.reshape(2, 3, 2, 2)]),
    Case("reshape", [X[:0], i64(0, 5)], [np.zeros((0, 5), F32)], {"allowzero": 1}),
    Case("concat", [S, S], [np.concatenate([S, S], 1)], {"axis": -1}),
    Case("concat", [X, X[:, :1]], [np.concatenate([X, X[:, :1]], 1)], {"axis": 1}),
    Case("split", [X], [X[:, :2], X[:, 2:]], {"axis": 1}),
    Case("split", [S, i64(1, 2)], [S[:, :1], S[:, 1:]], {"axis": 1}),
    Case("gather", [S, np.array([[-1, 0]], np.int32)], [S[np.array([[1, 0]])]]),
    Case("gather", [X, i64(2, 2)], [X[:, [2, 2]]], {"axis": 1}),
    Case(
        "gather_elements",
        [X, i64(*[0, 1, 2, 0]).reshape(1, 1, 4)],
        [np.take_along_axis(X[:1], i64(0, 1, 2, 0).reshape(1, 1, 4), 1)],
        {"axis": 1},
    ),
    Case("gather_nd", [S, i64(1, 2, 0, -1).reshape(2, 2)], [strings("中文", "")]),
    Case("gather_nd", [X, i64(2, 0).reshape(2, 1)], [X[[0, 1], [2, 0]]], {"batch_dims": 1}),
    Case("slice", [X, i64(-1, 0), i64(-100, 3), i64(2, 1), i64(-2, 2)], [X[:, 0:3:2, ::-2]]),
    Case("slice", [S, i64(1), i64(2**63 - 1)], [S[1:]]),
    Case("slice", [X, i64(5), i64(9), None, None], [X[:0]]),
    Case(
        "expand",
        [strings("p", "q", shape=(2, 1)), i64(3, 1, 2)],
        [np.broadcast_to(strings("p", "q", shape=(2, 1)), (3, 2, 2))],
    ),
    Case("expand", [X, i64(1)], [X]),
    Case("tile", [S, i64(2, 1)], [np.tile(S, (2, 1))]),
    Case("tile", [X, i64(1, 2, 0)], [np.zeros((2, 6, 0), F32)]),
    Case("transpose", [S], [S.T]),
    Case("transpose", [X], [X.transpose(1, 0, 2)], {"perm": [1, 0, 2]}),
    Case("squeeze", [X[:1, :, :1]], [X[0, :, 0]]),
    Case("squeeze", [X[:1, :, :1], i64(-1)], [X[:1, :, 0]]),
    Case("unsqueeze", [S, i64(0, -1)], [S[None, :, :, None]]),
    Case("where", [np.array([[True], [False]]), S, strings("-")], [np.where([[True], [False]], S, "-")]),
    Case("array_feature_extractor", [X, i64(3, 0)], [X[..., [3, 0]]]),
    Case("array_feature_extractor", [strings("a", "b"), i64(1)], [strings("b", shape=(1, 1))]),
]

SELECTS = [
    Case("nonzero", [np.array([[1, 0], [-0.0, np.nan]], F32)], [np.array([[0, 1], [0, 1]], I64)]),
    Case("nonzero", [np.array([0, 1j, complex(-0.0, -0.0)], np.complex128)], [np.array([[1]], I64)]),
    Case("nonzero", [np.array(True)], [np.zeros((1, 1), I64)]),
    Case("nonzero", [np.zeros((0, 3), bool)], [np.zeros((2, 0), I64)]),
    Case("compress", [X, np.array([False, True])], [X[:, 1:2]], {"axis": 1}),
    Case("compress", [S, np.array([True, False, True, True])], [strings("a", "", "déf")]),
    Case(
        "unique",
        [np.array([2, 1, 1, 3, 4, 3], F32)],
        [np.array([1, 2, 3, 4], F32), i64(1, 0, 3, 4), i64(1, 0, 0, 2, 3, 2), i64(2, 1, 2, 1)],
    ),
    Case(
        "unique",
        [np.array([2, 1, 1, 3, 4, 3], F32)],
        [np.array([2, 1, 3, 4], F32), i64(0, 1, 3, 4), i64(0, 1, 1, 2, 3, 2), i64(1, 2, 2, 1)],
        {"sorted": 0},
    ),
    Case(
        "unique",
        [np.array([[1, 0, 0], [1, 0, 0], [2, 3, 4]], I64)],
        [np.array([[1, 0, 0], [2, 3, 4]], I64), i64(0, 2), i64(0, 0, 1), i64(2, 1)],
        {"axis": 0},
    ),
    Case(
        "unique",
        [np.array([[[1, 1], [0, 1], [2, 1], [0, 1]], [[1, 1], [0, 1], [2, 1], [0, 1]]], F32)],
        [
            np.array([[[0, 1], [1, 1], [2, 1]], [[0, 1], [1, 1], [2, 1]]], F32),
            i64(1, 0, 2),
            i64(1, 0, 2, 0),
            i64(2, 1, 1),
        ],
        {"axis": 1},
    ),
    Case("unique", [strings("b", "a", "b", "")], [strings("", "a", "b"), i64(3, 1, 0), i64(2, 1, 2, 0), i64(1, 1, 2)]),
    Case(
        "unique",
        [np.array([2j, 1, 2j, 1 - 1j], np.complex64)],
        [
            np.array([2j, 1 - 1j, 1], np.complex64),
            i64(0, 3, 1),
            i64(0, 2, 0, 1),
            i64(2, 1, 1),
        ],
    ),
    Case("unique", [np.zeros((0,), F32)], [np.zeros((0,), F32), i64(), i64(), i64()]),
    Case(
        "unique", [np.array([np.nan, 1, np.nan], F32)], [np.array([1, np.nan], F32), i64(1, 0), i64(1, 0, 1), i64(1, 2)]
    ),
    Case(
        "nms",
        [BOXES, SCORES, i64(3), np.array([0.5], F32), np.array([0], F32)],
        [np.array([[0, 0, 3], [0, 0, 0], [0, 0, 5]], I64)],
    ),
    Case(
        "nms",
        [BOXES[..., [2, 3, 0, 1]], SCORES, i64(2), np.array([0.5], F32), np.array([0.0], F32)],
        [np.array([[0, 0, 3], [0, 0, 0]], I64)],
    ),
    Case(
        "nms",
        [CENTERS, SCORES, i64(3), np.array([0.5], F32), np.array([0.4], F32)],
        [np.array([[0, 0, 3], [0, 0, 0]], I64)],
        {"center_point_box": 1},
    ),
    Case("nms", [BOXES, SCORES, None, None, None], [np.zeros((0, 3), I64)]),
]

SEQUENCES = [
    Case("seq_empty", [], [[]]),
    Case("seq_construct", [X, X[:1]], [[X, X[:1]]]),
    Case("seq_at", [[X, X[:1]], np.array(-1)], [X[:1]]),
    Case("seq_insert", [[X], X[:1]], [[X, X[:1]]]),
    Case("seq_insert", [[X, X], X[:1], np.array(-2)], [[X[:1], X, X]]),
    Case("seq_insert", [[S], strings("x"), np.array(0, np.int32)], [[strings("x"), S]]),
    Case("seq_erase", [[X, X[:1]]], [[X]]),
    Case("seq_erase", [[X, X[:1]], np.array(0)], [[X[:1]]]),
    Case("seq_length", [[X, X]], [np.array(2)]),
    Case("split_to_sequence", [X], [[X[:, k] for k in range(3)]], {"axis": 1, "keepdims": 0}),
    Case("split_to_sequence", [X, np.array(2)], [[X[:, :2], X[:, 2:]]], {"axis": 1, "keepdims": 0}),
    Case("split_to_sequence", [S, i64(1, 0, 2)], [[S[:, :1], S[:, 1:1], S[:, 1:]]], {"axis": 1}),
    Case("concat_from_sequence", [[X, X[:, :1]]], [np.concatenate([X, X[:, :1]], 1)], {"axis": 1}),
    Case("concat_from_sequence", [[S, S]], [np.stack([S, S], 2)], {"axis": -1, "new_axis": 1}),
    Case("optional_make", [X], [X]),
    Case("optional_make", [], [None]),
    Case("optional_has", [X], [np.array(True)]),
    Case("optional_has", [None], [np.array(False)]),
    Case("optional_get", [S], [S]),
]

FLOATS = np.array(
    [
        0.1,
        1e-5,
        123456,
        1e16,
        1e15,
        -0.0,
        np.nan,
        np.inf,
        -np.inf,
        3,
        16777216,
        1.17549435e-38,
        0.00012345,
        3.4028235e38,
    ],
    F32,
)
TEXTS = [
    Case(
        "to_string",
        [FLOATS],
        [
            strings(
                "0.1",
                "1e-05",
                "123456.0",
                "1e+16",
                "1000000000000000.0",
                "-0.0",
                "nan",
                "inf",
                "-inf",
                "3.0",
                "16777216.0",
                "1.1754944e-38",
                "0.00012345",
                "3.4028235e+38",
            )
        ],
    ),
    Case("to_string", [FLOATS.astype(np.float64)], [strings(*(str(float(x)) for x in FLOATS))]),
    Case("to_string", [np.array([0.1, 2048, 6e-8, 65504], np.float16)], [strings("0.1", "2048.0", "6e-08", "65500.0")]),
    Case("to_string", [np.array([-(2**63), 5])], [strings(str(-(2**63)), "5")]),
    Case("to_string", [np.array([2**64 - 1], np.uint64)], [strings(str(2**64 - 1))]),
    Case("to_string", [np.array([True, False])], [strings("True", "False")]),
    Case(
        "from_string",
        [strings("0.1", " 1e-3", "INF", "-inf", "NaN", "+5", "3.")],
        [np.array([0.1, 1e-3, np.inf, -np.inf, np.nan, 5, 3], F32)],
        {"dtype": "f32"},
    ),
    Case("from_string", [strings("-9223372036854775808", "12", "1e3")], [i64(-(2**63), 12, 1000)], {"dtype": "i64"}),
    Case("from_string", [strings("-128", "127")], [np.array([-128, 127], np.int8)], {"dtype": "i8"}),
    Case("string_concat", [S, strings("!")], [S + "!"]),
    Case("string_equal", [S, S[:, :1]], [S[:, :1] == S]),
    Case(
        "string_split",
        [strings("a.com", "b.co.uk", "", ".")],
        [strings("a", "com", "", "b", "co", "uk", "", "", "", "", "", "", shape=(4, 3)), i64(2, 3, 1, 2)],
        {"delimiter": "."},
    ),
    Case(
        "string_split",
        [strings(" hello  world ", "def\u3000x y", "")],
        [strings("hello", "world ", "def", "x y", "", "", shape=(3, 2)), i64(2, 2, 0)],
        {"maxsplit": 1},
    ),
    Case(
        "string_split",
        [strings("o-n-e---s", "two")],
        [strings("o-n-e", "s", "two", "", shape=(2, 2)), i64(2, 1)],
        {"delimiter": "---"},
    ),
    Case("string_split", [np.zeros((0,), object)], [np.zeros((0, 0), object), i64()]),
    Case(
        "string_normalizer",
        [strings("monday", "tuesday")],
        [strings("tuesday")],
        {"case": "LOWER", "case_sensitive": 1, "stopwords": ["monday"]},
    ),
    Case(
        "string_normalizer",
        [strings("Monday", "äß Ж", "MONDAY", shape=(1, 3))],
        [strings("Äß Ж".replace("ß", "ß"), shape=(1, 1))],
        {"case": "UPPER", "stopwords": ["monday"]},
    ),
    Case(
        "string_normalizer",
        [strings("monday")],
        [strings("")],
        {"case": "UPPER", "case_sensitive": 1, "stopwords": ["monday"]},
    ),
    Case("string_normalizer", [strings("ÀÉÎ ŽΩЯ", "x")], [strings("àéî žωя", "x")], {"case": "LOWER"}),
    Case(
        "regex_match",
        [strings("www.google.com", "www.facebook.com", "bbc.co.uk")],
        [np.array([True, True, False])],
        {"pattern": r"www\.[\w.-]+\.\bcom\b"},
    ),
    Case(
        "regex_match",
        [strings("account@gmail.com", "account@hotmail.com", "not email", "yahoo@")],
        [np.array([True, True, False, False])],
        {"pattern": r"(\W|^)[\w.\-]{0,25}@(yahoo|gmail|hotmail)\.com(\W|$)"},
    ),
    Case(
        "regex_match",
        [strings("", "ab", "abab", "aba")],
        [np.array([True, True, True, False])],
        {"pattern": "(ab){0,3}"},
    ),
    Case(
        "regex_match",
        [strings("中x", "é7", "AbC", "b")],
        [np.array([True, False, True, False])],
        {"pattern": "(?i:a[b]c)|.x"},
    ),
    Case("regex_match", [strings("aaa", "aaaa", "aaaaaa")], [np.array([False, True, True])], {"pattern": "a{4,}?"}),
    Case(
        "regex_match", [strings("a.b*", "axb", "]-")], [np.array([True, False, True])], {"pattern": r"\Qa.b*\E|[]-]+"}
    ),
    Case("regex_match", [strings("x" * 40)], [np.array([False])], {"pattern": "(x*)*y"}),
    Case(
        "tfidf",
        [TOKENS],
        [np.array([[0, 3, 0, 0, 0, 0, 0], [0, 0, 1, 0, 1, 0, 1]], F32)],
        {**TFIDF, "mode": "TF", "min_gram_length": 1, "max_skip_count": 0, "pool": [2, 3, 5, 4, 5, 6, 7, 8, 6, 7]},
    ),
    Case(
        "tfidf",
        [i64(1, 1, 3, 3, 3, 7, 8, 6, 7, 5, 6, 8)],
        [np.array([0, 0, 0, 0, 1, 3, 1], F32)],
        {**TFIDF, "mode": "TF", "min_gram_length": 2, "max_skip_count": 5, "weights": []},
    ),
    Case(
        "tfidf",
        [strings("a", "b", "a")],
        [np.array([4, 3], F32)],
        {
            "mode": "TFIDF",
            "min_gram_length": 1,
            "max_gram_length": 1,
            "max_skip_count": 0,
            "ngram_counts": [0],
            "ngram_indexes": [0, 1],
            "pool": ["a", "b"],
            "weights": [2.0, 3.0],
        },
    ),
]

LABELS = [
    Case(
        "label_encoder",
        [strings("b", "?", "a")],
        [i64(2, 9, 1)],
        {"keys": ["a", "b"], "values": [1, 2], "default": 9, "dtype": "i64"},
    ),
    Case(
        "label_encoder",
        [i64(2**53 + 1, 4)],
        [strings("x", "-")],
        {"keys": [2**53 + 1], "values": ["x"], "default": "-", "dtype": "string"},
    ),
    Case(
        "label_encoder",
        [np.array([1.5, np.nan, -0.0], F32)],
        [np.array([2.5, 7, 3], F32)],
        {"keys": [1.5, 0.0], "values": [2.5, 3.0], "default": 7.0, "dtype": "f32"},
    ),
    Case(
        "label_encoder",
        [strings("a", "b")],
        [np.array([42, 0], np.int16)],
        {"keys": ["a"], "values": np.array([42], I64), "default": 0, "dtype": "i16"},
    ),
    Case(
        "label_encoder",
        [np.array([0.1], np.float64)],
        [strings("t")],
        {"keys": np.array([0.1], np.float64), "values": ["t"], "default": "f", "dtype": "string"},
    ),
    Case(
        "category_mapper",
        [strings("cat", "dog", "cow")],
        [i64(5, 6, -1)],
        {"cats_strings": ["cat", "dog"], "cats_int64s": [5, 6]},
    ),
    Case(
        "category_mapper",
        [i64(6, 7)],
        [strings("dog", "_Unused")],
        {"cats_strings": ["cat", "dog"], "cats_int64s": [5, 6]},
    ),
    Case("one_hot_encoder", [strings("b", "z")], [np.array([[0, 1], [0, 0]], F32)], {"cats": ["a", "b"]}),
    Case("one_hot_encoder", [np.array([[2.0, 1.5]], F32)], [np.array([[[0, 1], [0, 0]]], F32)], {"cats": [1, 2]}),
    Case("dict_vectorizer", [{"a": 4, "z": 1}], [i64(0, 4).reshape(1, 2)], {"vocabulary": ["b", "a"]}),
    Case("dict_vectorizer", [{7: "x"}], [strings("x", "", shape=(1, 2))], {"vocabulary": [7, 8]}),
    Case("cast_map", [{3: 1.5, 1: 2.5}], [np.array([[2.5, 1.5]], F32)], {"dtype": "f32"}),
    Case(
        "cast_map",
        [{3: "x", 1: "y"}],
        [strings("", "y", "", "x", shape=(1, 4))],
        {"dtype": "string", "map_form": "SPARSE", "max_map": 4},
    ),
    Case("pair_probability", [np.array([[0.5]], F32)], [np.array([[0.5, 0.5]], F32)], {"classes": 2}),
    Case(
        "zip_map",
        [np.array([[1, 2], [3, 4]], F32)],
        [[{"p": F32(1), "q": F32(2)}, {"p": F32(3), "q": F32(4)}]],
        {"labels": ["p", "q"]},
    ),
]

REFUSED: list[tuple[Case, str]] = [
    (Case("take", [i64(1), X[:0]], [X]), "index: expected -1 to -1, got 1"),
    (Case("reshape", [X, i64(5, -1)], [X]), "reshape: [2,3,4] does not fit into [5,-1]"),
    (Case("reshape", [X, i64(2**62, 2**62, -1)], [X]), "does not fit"),
    (Case("slice", [X, i64(0), i64(1), i64(0), i64(0)], [X]), "expected no 0"),
    (Case("slice", [X, i64(0, 0), i64(1, 1), i64(0, -3)], [X]), "axis 0 is given twice"),
    (Case("expand", [X, i64(5, 4)], [X]), "shapes: expected shapes that broadcast"),
    (Case("expand", [X[:1, :1, :1], i64(2**40, 2**40)], [X]), "expected at most 32 sizes"),
    (Case("expand", [X[:1, :1, :1], i64(2**40)], [X]), "out of memory"),
    (Case("tile", [X, i64(1, 2**62, 4)], [X]), "repeats: expected 3 numbers"),
    (Case("gather", [X, i64(2)], [X]), "index: expected -2 to 1, got 2"),
    (Case("gather", [X, S], [X]), "operand 1: expected a tensor of numbers, got strings"),
    (Case("gather_nd", [X, i64(0, 0, 0, 0)], [X]), "its shape does not fit"),
    (Case("concat", [X, S], [X]), "does not fit behind"),
    (Case("split", [X, i64(1, 2)], [X, X]), "sizes: expected a sum of 2"),
    (Case("transpose", [X], [X], {"perm": [0, 1, 1]}), "1 is there twice"),
    (Case("squeeze", [X, i64(1)], [X]), "dimension 1: expected 1, got 3"),
    (Case("compress", [X, np.ones(30, bool)], [X], {"axis": 0}), "at most 2"),
    (Case("nms", [BOXES[..., :3], SCORES], [X]), "expected boxes [b,n,4]"),
    (Case("seq_at", [[X], np.array(1)], [X]), "index: expected -1 to 0, got 1"),
    (Case("seq_insert", [[X], X, np.array(3)], [[X]]), "position: expected -1 to 1, got 3"),
    (Case("seq_erase", [[]], [[X]]), "index: expected 0 to -1, got -1"),
    (Case("seq_length", [X], [X]), "expected a sequence, got a tensor"),
    (Case("split_to_sequence", [X, i64(1, 2)], [[X]]), "whose sum is 2"),
    (Case("split_to_sequence", [X, np.array(0)], [[X]]), "at least 1"),
    (Case("concat_from_sequence", [[X, X[..., :1]]], [X], {"axis": 0}), "does not fit behind"),
    (Case("concat_from_sequence", [[]], [X], {"axis": 0}), "an empty one"),
    (Case("optional_get", [None], [X]), "has no value"),
    (Case("from_string", [strings("0x10")], [X], {"dtype": "f32"}), "expected a number for f32, got '0x10'"),
    (Case("from_string", [strings("128")], [X], {"dtype": "i8"}), "expected a number for i8"),
    (Case("from_string", [strings("1.5")], [X], {"dtype": "i32"}), "expected a number for i32"),
    (Case("string_normalizer", [S], [S]), "shape [n] or [1,n]"),
    (Case("regex_match", [S], [X], {"pattern": "(a"}), "a ( without )"),
    (Case("regex_match", [S], [X], {"pattern": "a)"}), "a ) without ("),
    (Case("regex_match", [S], [X], {"pattern": "[b-a]"}), "a range whose end"),
    (Case("regex_match", [S], [X], {"pattern": r"\p{L}"}), "not supported"),
    (Case("regex_match", [S], [X], {"pattern": "((((a{1000}){1000}){1000}){1000})"}), "too large"),
    (Case("regex_match", [S], [X], {"pattern": "((((){1000}){1000}){1000})"}), "too large"),
    (Case("regex_match", [S], [X], {"pattern": "(" * 1000}), "nested too deep"),
    (Case("regex_match", [S], [X], {"pattern": "*"}), "a repetition of nothing"),
    (Case("regex_match", [S], [X], {"pattern": "["}), "a [ without ]"),
    (Case("regex_match", [S], [X], {"pattern": "a\\"}), "it ends too early"),
    (Case("tfidf", [S], [X], {**TFIDF, "mode": "TF"}), "of what the pool has"),
    (Case("tfidf", [TOKENS], [X], {**TFIDF, "mode": "TF", "ngram_counts": [0, 99]}), "do not fit the pool"),
    (Case("label_encoder", [S], [X], {"keys": [1], "values": [1], "dtype": "i64"}), "expected numbers like the keys"),
    (Case("one_hot_encoder", [i64(5)], [X], {"cats": [1], "zeros": 0}), "is none of the categories"),
    (Case("cast_map", [{9: 1.5}], [X], {"map_form": "SPARSE", "max_map": 2}), "keys: expected 0 to 1"),
    (Case("zip_map", [X], [X], {"labels": ["a"]}), "as many as labels"),
    (Case("random_uniform", [i64(-1)], [X]), "sizes of 0 or more"),
    (Case("multinomial", [X], [X]), "expected log-probabilities"),
]
