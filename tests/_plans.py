"""Modules in tensor form, with control flow and all, compiled into a library and loaded."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from planish.codegen.link import link
from planish.codegen.llvm.compile import compile_program, compile_variants
from planish.codegen.llvm.descriptor import MAIN
from planish.codegen.llvm.target import targets_for
from planish.compile import CompileReport, make_manifest
from planish.ir.core import Module
from planish.ir.packing import weights_image
from planish.ir.target_info import TargetInfo
from planish.ir.text import parse_module
from planish.ir.verifier import verify
from planish.islands import emit_pieces, pieces
from planish.passes import PassContext, PassManager
from planish.runtime import Model, load
from planish.variants import join


@cache
def target() -> TargetInfo:
    """This machine."""
    return targets_for("", "")[0]


def parsed(text: str) -> Module:
    """The verified module that `text` is."""
    module = parse_module(text)
    verify(module)
    return module


def split(module: Module, passes: str = "O0") -> Module:
    """A copy of `module` after `passes`."""
    copy = module.clone()
    PassManager.parse(passes, PassContext(target())).run(copy)
    return copy


def built(module: Module, folder: Path, opt: int = 3) -> Model:
    """The model, loaded from a library in `folder`."""
    found = pieces(split(module, f"O{opt}"))
    join([found.head], [program for _, program in found.programs])
    kernels = compile_variants(found.programs, target(), workers=1)
    manifest = make_manifest(found.module, found.head, kernels, target(), CompileReport(), None).to_json().encode()
    mains = emit_pieces(
        found, kernels, target(), MAIN,
        lambda program, own: compile_program(program, own, target(), manifest=manifest, features=()),
        manifest=manifest, features=(),
    )  # fmt: skip
    objects = [body for one in kernels for body in one.objects] + [body for _, body in mains]
    weights = weights_image(*(program for _, program in found.programs))
    out = folder / f"model{opt}.so"
    link(objects, weights, int(found.head.attributes["weights_bytes"]), "lib", out, name="model")
    return load(out)
