"""Makes the folders here: small models with random weights, and what transformers computes with them.

    python tests/data/huggingface/make.py [NAME ...]

Each folder holds what `save_pretrained` writes, and `expected.npz`: inputs as `in.NAME`, outputs as `out.NAME`, and of
models that write text the tokens of a greedy search. Needs torch and transformers (`pip install planish[models]`).
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent.parent))

import _huggingface as models  # noqa: E402

TOKENS = 20


def make(case: models.Case) -> None:
    """Write one folder."""
    folder = HERE / case.name
    shutil.rmtree(folder, ignore_errors=True)
    model, inputs = models.make_model(case), models.make_inputs(case)
    arrays = {f"in.{name}": value for name, value in inputs.items()}
    arrays |= {f"out.{name}": value for name, value in models.expected(case, model, inputs).items()}
    if models.generates(case):
        arrays["tokens"] = models.generated(case, model, inputs, TOKENS)
    models.save(case, model, folder)
    np.savez(folder / "expected.npz", allow_pickle=False, **arrays)
    for path in folder.iterdir():
        path.chmod(0o644)


if __name__ == "__main__":
    for one in models.CASES:
        if one.kept and (len(sys.argv) == 1 or one.name in sys.argv[1:]):
            make(one)
            print(one.name)
