"""`python -m planish.runtime --include` prints the folder of planish.h and planish.hpp."""

from __future__ import annotations

import sys
from pathlib import Path

INCLUDE = Path(__file__).parent / "native"


def main(arguments: list[str]) -> int:
    """Print the include folder; returns the exit status."""
    if arguments != ["--include"]:
        print("usage: python -m planish.runtime --include", file=sys.stderr)
        return 2
    print(INCLUDE)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
