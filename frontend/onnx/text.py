"""How messages show names: what every frontend shares."""

from ..text import quote, symbol_name

__all__ = ["quote", "symbol_name"]
