"""Compare the model with a folder of reference vectors: `python -m benchmarks.parity FOLDER [FOLDER ...]`.

A folder holds `config.json`, `model.safetensors` and `vectors.safetensors`; its configuration says whether it is a
tokenizer or a language model. Ends with status 1 when anything exceeds what is allowed.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from benchmarks import parity_lm, parity_tokenizer
from benchmarks.parity_rows import Row
from vivavoce.model.checkpoint import load_config


def rows(folder: Path) -> list[Row]:
    """All comparisons of one folder."""
    if "num_quantizers" in load_config(folder):
        return parity_tokenizer.rows(folder)
    return parity_lm.rows(folder)


def show(folder: Path, table: list[Row]) -> None:
    """Print one line per comparison."""
    print(f"{folder}")
    width = max(len(row.what) for row in table)
    print(f"  {'quantity':{width}}  {'shape':>16}  {'error':>10}  {'allowed':>8}")
    for row in table:
        shape = "x".join(map(str, row.shape))
        verdict = "ok" if row.passed else "EXCEEDED"
        print(f"  {row.what:{width}}  {shape:>16}  {row.error:10.3g}  {row.allowed:8.0e}  {verdict}")


def main() -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(description="Compare the model with reference vectors.")
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER")
    torch.set_num_threads(1)
    passed = True
    for folder in parser.parse_args().folders:
        table = rows(folder)
        show(folder, table)
        passed = passed and all(row.passed for row in table)
    print("everything within what is allowed" if passed else "NOT the reference model")
    return 0 if passed else 1


if __name__ == "__main__":
    raise SystemExit(main())
