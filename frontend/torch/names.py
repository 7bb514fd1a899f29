"""Names for the leaves of what a module returns, from the tree that `torch.export` notes in text form."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, cast

_DEEPEST = 50


class OutputNames:
    """The tree is `{"type": "builtins.dict", "context": "[keys]", "children_spec": [...]}`; a leaf has no type."""

    def __init__(self, tree: object) -> None:
        self.tree = tree

    def names(self, count: int) -> list[str]:
        """One name for each of `count` leaves: keys of dictionaries and fields, joined by `_`; `output` for what has no
        key, numbered where there are several."""
        paths: list[str] = []
        if isinstance(self.tree, Mapping):
            self._walk(cast("Mapping[str, Any]", self.tree), "", paths, 0)
        if len(paths) != count:
            paths = [str(i) for i in range(count)] if count > 1 else [""] * count
        return unique([p if p and not p[0].isdigit() else f"output_{p}" if p else "output" for p in paths])

    def _walk(self, tree: Mapping[str, Any], path: str, paths: list[str], depth: int) -> None:
        children = cast("Sequence[Mapping[str, Any]]", tree.get("children_spec") or ())
        if tree.get("type") is None:
            paths.append(path)
            return
        if depth > _DEEPEST:
            return
        keys = _keys(tree.get("context"), len(children))
        for key, child in zip(keys, children, strict=True):
            self._walk(child, f"{path}_{key}" if path else key, paths, depth + 1)


def _keys(context: object, count: int) -> list[str]:
    """Keys of the children of a node: those that the context lists, else their numbers."""
    try:
        found: Any = json.loads(context) if isinstance(context, str) else context
    except ValueError:
        found = None
    while isinstance(found, list):
        entries = cast("list[object]", found)
        if len(entries) == count and all(isinstance(e, str) for e in entries):
            return [str(e) for e in entries]
        found = next((cast(Any, e) for e in entries if isinstance(e, list)), None)
    return [str(i) for i in range(count)]


def unique(names: Sequence[str]) -> list[str]:
    """The names, with numbers behind those that were there before."""
    taken: set[str] = set()
    result: list[str] = []
    for name in names:
        chosen, n = name, 1
        while chosen in taken:
            n += 1
            chosen = f"{name}_{n}"
        taken.add(chosen)
        result.append(chosen)
    return result


__all__ = ["OutputNames", "unique"]
