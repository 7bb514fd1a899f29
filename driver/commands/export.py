"""`planish export`: a model of any supported format becomes an ONNX or a MindIR file."""

from __future__ import annotations

import argparse
import time
from dataclasses import asdict
from pathlib import Path

from planish.commands.base import Command, add_json, add_reading, add_shape, print_json, progress, reading_of, size

DESCRIPTION = """\
Write a model as ONNX or MindIR.

  planish export net.mindir -o net.onnx
  planish export folder/ -o net.onnx --shape batch=1
  planish export net.onnx --to mindir -o net.mindir
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `planish export`."""
    parser.add_argument("model", metavar="MODEL", type=Path, help="a model file or folder of any supported format")
    parser.add_argument("-o", "--output", metavar="OUT", type=Path, required=True, help="the file to write")
    parser.add_argument("--to", choices=["onnx", "mindir"], default="", help="the format (default: by OUT's suffix)")
    parser.add_argument(
        "--external",
        action="store_true",
        help="put weights into a file of their own: OUT.data for ONNX (in any case above 2 GB), NAME_variables/data_0 "
        "for MindIR (above 1 GB)",
    )
    parser.add_argument(
        "--encrypt-key-file",
        metavar="FILE",
        type=Path,
        help="encrypt a MindIR file (AES-GCM) with this key: 16, 24 or 32 bytes, or hex: and digits",
    )
    add_shape(parser)
    add_reading(parser)
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Read, write, and say what was written."""
    from planish.exporting import export
    from planish.frontend.encryption import find_key

    start = time.perf_counter()
    with progress(f"exporting {arguments.model.name}"):
        report = export(
            arguments.model,
            arguments.output,
            to=arguments.to,
            shapes=dict(arguments.shapes),
            ranks=dict(arguments.ranks),
            reading=reading_of(arguments),
            external=arguments.external,
            encrypt=find_key(arguments.encrypt_key_file) if arguments.encrypt_key_file else None,
        )
    seconds = time.perf_counter() - start
    if arguments.json:
        print_json({**asdict(report), "seconds": round(seconds, 3)})
        return 0
    sets = "".join(f", {domain or 'opset'} {version}" for domain, version in report.opsets.items())
    for file, count in report.files.items():
        print(f"{file}: {size(count)}")
    print(f"{report.format}{sets}, {report.nodes} nodes, in {seconds:.1f} s")
    for note in report.notes:
        print(f"note: {note}")
    return 0


COMMAND = Command("export", "write a model as ONNX or MindIR", DESCRIPTION, arguments, run)
