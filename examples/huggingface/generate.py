"""Text from a Hugging Face folder: `prefill` reads the prompt, `decode` adds a token at a time.

    python examples/huggingface/generate.py FOLDER "Once upon a time" --tokens 64
    python examples/huggingface/generate.py FOLDER --ids 1,15043,3186

The folder's `tokenizer.json` needs the package tokenizers; `--ids` takes and prints numbers of tokens instead.
"""

from __future__ import annotations

import argparse
import importlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import planish


def generate(folder: Path, ids: list[int]) -> Iterator[int]:
    """The most likely tokens behind `ids`, without end."""
    prefill, decode = (planish.compile(folder, graph=graph, shapes={"batch": 1}) for graph in ("prefill", "decode"))
    prompt = np.array([ids], np.int64)
    length = len(ids)
    where = np.arange(length, dtype=np.int64)[None]
    outputs = prefill.run({"input_ids": prompt, "attention_mask": np.ones_like(prompt), "position_ids": where})
    while True:
        token = int(outputs["logits"][0, -1].argmax())
        yield token
        past = {name.replace("present", "past_key_values"): x for name, x in outputs.items() if name != "logits"}
        step = {
            "input_ids": np.array([[token]], np.int64),
            "attention_mask": np.ones((1, length + 1), np.int64),
            "position_ids": np.array([[length]], np.int64),
        }
        outputs = decode.run({**step, **past})
        length += 1


def main() -> None:
    """Print the prompt and what follows, and how fast it came."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("prompt", nargs="?", default="")
    parser.add_argument("--ids", help="the prompt as numbers, with commas between them")
    parser.add_argument("--tokens", type=int, default=64)
    arguments = parser.parse_args()
    tokenizer: Any = None
    if arguments.ids:
        ids = [int(word) for word in arguments.ids.split(",")]
    else:
        tokenizer = importlib.import_module("tokenizers").Tokenizer.from_file(str(arguments.folder / "tokenizer.json"))
        ids = tokenizer.encode(arguments.prompt).ids
    found: list[int] = []
    start = 0.0
    for token in generate(arguments.folder, ids):
        found.append(token)
        if len(found) == 1:  # from here on it is decoding
            start = time.perf_counter()
        if len(found) == arguments.tokens:
            break
    seconds = time.perf_counter() - start
    print(tokenizer.decode(ids + found) if tokenizer else ",".join(map(str, found)))
    if len(found) > 1:
        print(f"{(len(found) - 1) / seconds:.1f} tokens a second")


if __name__ == "__main__":
    main()
