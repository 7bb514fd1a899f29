"""Names that are given once."""

from __future__ import annotations


class Names:
    """Gives every name at most once: what is taken already gets a number."""

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._next: dict[str, int] = {}

    def take(self, name: str) -> bool:
        """Take exactly this name; False if it is taken."""
        if name in self._taken:
            return False
        self._taken.add(name)
        return True

    def unique(self, wanted: str) -> str:
        """`wanted`, or with a number behind it."""
        wanted = clean(wanted) or "value"
        name = wanted
        while not self.take(name):
            number = self._next.get(wanted, 0) + 1
            self._next[wanted] = number
            name = f"{wanted}_{number}"
        return name


def clean(name: str) -> str:
    """The name as UTF-8 can hold it: lone surrogates are replaced."""
    return name.encode("utf-8", "replace").decode("utf-8")


__all__ = ["Names", "clean"]
