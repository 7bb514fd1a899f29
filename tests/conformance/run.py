"""Run ONNX's backend tests: `PYTHONPATH=tests python -m conformance.run --columns O0,O3 --report docs/COVERAGE.md`."""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections import defaultdict
from pathlib import Path

from .cases import cases
from .columns import COLUMNS
from .pool import run_all
from .report import markdown

_DEFAULT = "O0,O3,dynamic,constant,executable"
_EVERY = {"executable": 9}  # columns of which a spread is enough


def main(arguments: list[str] | None = None) -> int:
    """Run, print a summary, write the report. Exit status 0 when there was no error in the run itself."""
    options = _options().parse_args(arguments)
    columns = [c for c in options.columns.split(",") if c]
    unknown = [c for c in columns if c not in COLUMNS]
    if unknown:
        print(f"columns: expected some of {', '.join(COLUMNS)}, got {unknown[0]}", file=sys.stderr)
        return 2
    found = cases()
    chosen = [i for i, case in enumerate(found) if re.search(options.tests, case.name)][:: options.every]
    outcomes: dict[str, dict[str, str]] = {column: {} for column in columns}
    started = time.monotonic()
    for column in columns:
        part = chosen if options.every > 1 else chosen[:: _EVERY.get(column, 1)]
        for done in run_all(found, [(i, column) for i in part], options.jobs):
            outcomes[column][done.name] = done.reason
            if options.verbose and done.reason:
                print(f"{column} {done.name}: {done.reason}", flush=True)
        passed = sum(not reason for reason in outcomes[column].values())
        print(f"{column}: {passed} of {len(part)} pass ({time.monotonic() - started:.0f} s)", flush=True)
        _keep(options.save, outcomes)
    if options.report:
        known = json.loads(options.save.read_text()) if options.save else outcomes
        options.report.write_text(markdown(found, known), encoding="utf-8")
    return 0


def _keep(path: Path | None, outcomes: dict[str, dict[str, str]]) -> None:
    """Add the outcomes to a file of them, so that columns can be run one at a time."""
    if path is None:
        return
    known: dict[str, dict[str, str]] = defaultdict(dict)
    if path.exists():
        known.update(json.loads(path.read_text()))
    for column, run in outcomes.items():
        if run:
            known[column] = known[column] | run
    path.write_text(json.dumps(known))


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Run ONNX's backend tests.")
    parser.add_argument("--columns", default=_DEFAULT, help=f"of {', '.join(COLUMNS)} (default: {_DEFAULT})")
    parser.add_argument("--tests", default="", help="regular expression that the names of tests must match")
    parser.add_argument("--every", type=int, default=1, help="run every n-th test only")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--report", type=Path, help="file to write the report to, of all that --save keeps")
    parser.add_argument("--save", type=Path, help="JSON file to keep outcomes in")
    parser.add_argument("--verbose", action="store_true", help="print every failure")
    return parser


if __name__ == "__main__":
    sys.exit(main())
