"""Tokens of the text form, and a cursor over them that reports errors as `file:line: expected X, got Y`."""

from __future__ import annotations

import re
from bisect import bisect_right
from typing import NamedTuple

from ..errors import ParseError
from ..quote import BARE, unquote

_STRING = r'"(?:[^"\\\n]|\\.)*"'
_TOKEN = re.compile(
    rf"""(?P<skip>[ \t\r\n]+|//[^\n]*)
    |(?P<value>%(?:{_STRING}|[A-Za-z0-9_.$]+)(?:\#[0-9]+)?)
    |(?P<function>@(?:{_STRING}|{BARE}))
    |(?P<string>{_STRING})
    |(?P<float>[0-9]+\.[0-9]*(?:[eE][+-]?[0-9]+)?|[0-9]+[eE][+-]?[0-9]+)
    |(?P<int>[0-9]+)
    |(?P<ident>{BARE})
    |(?P<punct>->|@\{{|[()\[\]{{}}<>,:=*+\-])""",
    re.VERBOSE,
)


class Token(NamedTuple):
    """`kind` is value, function, string, float, int, ident, punct or end; `start` counts characters."""

    kind: str
    text: str
    start: int


class Cursor:
    """The tokens of one text and a position in them."""

    def __init__(self, text: str, filename: str) -> None:
        self.filename = filename
        self._breaks = [i for i, c in enumerate(text) if c == "\n"]
        self._tokens = self._scan(text)
        self._at = 0

    def _scan(self, text: str) -> list[Token]:
        tokens: list[Token] = []
        at, end = 0, len(text)
        match = _TOKEN.match
        while at < end:
            m = match(text, at)
            if m is None:
                what = "the end of the string" if text[at] in '"%@' else "a token"
                raise ParseError(
                    f"{self.filename}:{self.line_at(at)}: expected {what}, got {_shown(text[at : at + 20])}"
                )
            kind = m.lastgroup or ""
            if kind != "skip":
                tokens.append(Token(kind, m[0], at))
            at = m.end()
        tokens.append(Token("end", "the end of the text", end))
        return tokens

    def line_at(self, start: int) -> int:
        """The line, counted from 1, of a character."""
        return bisect_right(self._breaks, start - 1) + 1

    @property
    def peek(self) -> Token:
        """The next token."""
        return self._tokens[self._at]

    def ahead(self, n: int) -> Token:
        """The token `n` after the next one (the end of the text if there is none)."""
        return self._tokens[min(self._at + n, len(self._tokens) - 1)]

    def take(self) -> Token:
        """The next token; moves on."""
        token = self._tokens[self._at]
        if token.kind != "end":
            self._at += 1
        return token

    def fail(self, expected: str, token: Token | None = None, got: str = "") -> ParseError:
        """The error `file:line: expected X, got Y` at `token` (the next one)."""
        token = token or self.peek
        shown = got or (token.text if token.kind == "end" else _shown(token.text))
        return self.error(f"expected {expected}, got {shown}", token)

    def error(self, message: str, token: Token) -> ParseError:
        """The error `file:line: message`."""
        return ParseError(f"{self.filename}:{self.line_at(token.start)}: {message}")

    def at(self, text: str) -> bool:
        """True when the next token is the punctuation or word `text`."""
        token = self.peek
        return token.text == text and token.kind in ("punct", "ident")

    def accept(self, text: str) -> bool:
        """Take the punctuation or word `text` if it is next."""
        if self.at(text):
            self._at += 1
            return True
        return False

    def expect(self, text: str) -> Token:
        """Take the punctuation or word `text`, or fail."""
        if not self.at(text):
            raise self.fail(f"'{text}'")
        return self.take()

    def expect_kind(self, kind: str, what: str) -> Token:
        """Take a token of a kind, or fail with `expected what`."""
        if self.peek.kind != kind:
            raise self.fail(what)
        return self.take()

    def string(self, token: Token, text: str | None = None) -> str:
        """The content of a quoted string."""
        try:
            return unquote(text if text is not None else token.text)
        except ValueError as error:
            raise self.fail('one of the escapes \\" \\\\ \\n \\t \\r \\u{...}', token) from error

    def name(self, token: Token) -> str:
        """The name in a value, function, string or identifier token, without its sign and quotes."""
        text = token.text[1:] if token.kind in ("value", "function") else token.text
        return self.string(token, text) if text.startswith('"') else text


def _shown(text: str) -> str:
    line = text.split("\n", 1)[0]
    return repr(line if len(line) <= 40 else line[:37] + "...")
