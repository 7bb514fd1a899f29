"""The text form: everything that the IR holds, printed and parsed without loss.

    module    = ["module" dict] function* island*
    island    = "island" @name "{" module "}"
    function  = ("graph" | "program" | "plan") @name params ["->" "(" "result name", ... ")"]
                ["attributes" dict] "{" op* "}"
              | "kernel" @name params "->" params ["attributes" dict] "{" op* "}"         inputs -> outputs
    params    = "(" %name ":" type, ... ")"
    op        = [%name, ... "="] op.name [operands] ["<" ... ">"] [dict] region* [":" type, ...] ["loc(" "node" ")"]
    operands  = "(" operand | field "=" operand, ... ")"         operand = %name | "_" | "[" %name, ... "]"
    region    = "{" [params] op* "}"
    dict      = "{" name "=" literal, ... "}"

One grammar serves all operations; the fields of an operation's class say what may stand where:

- Required operands stand by position, optional ones by name (`bias = %b`); an absent one is left out. A tuple of
  operands is written in brackets, without them where it is the operation's only operand field. `return` and `yield`
  need no parentheses.
- The only expression, map or list of dimensions among the attributes stands in angle brackets after the operands.
- All other attributes are printed, always, as `name = literal`, except none and the empty string: what is left out
  means that, whatever the default is.
- A region without a terminator ends in a `yield` of nothing. Result types may be left out: then they are inferred.
- A name is bare if it is an identifier, else quoted; `%7` is a value without a name, `%x#1` a second one called `x`.
  `scalar.add` is the operation `scalar` with `fn = "add"`.

Literals: `1`, `1.0`, `inf`, `nan`, `"text"`, `true`, `none`, `[1, 2]`, `{a = 1}`; types; `<2*h + 1>` an expression,
`<n, c>` a map (`<n,>` of one), `<n: 1, o: 64>` dimensions; `@{order=[1,0]}` a layout; `schedule(loops = [o: 32, h: 1],
vector = o, parallel = 1, grain = 1)`; constants `splat(1.0)`, `dense([1, 2])`, `file("w.bin", 0)`, `resource("c0")`,
followed, where the result type does not say it, by their type, and by `transpose = [1, 0]`. Comments start with `//`.
"""

from .parser import load_operations, parse_expr, parse_module, parse_type
from .printer import op_line, print_function, print_module, print_op

__all__ = [
    "load_operations",
    "op_line",
    "parse_expr",
    "parse_module",
    "parse_type",
    "print_function",
    "print_module",
    "print_op",
]
