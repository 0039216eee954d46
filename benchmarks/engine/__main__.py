"""The engine against an eager `transformers` baseline: same weights, same prompts, same greedy codes, one run.

    python -m benchmarks.engine --size mini    # the weights that ship
    python -m benchmarks.engine --size 7b      # random weights of the published shape: a matter for a GPU

On a CPU the engine with full weights must give the very codes of the baseline, or this ends with an error; with whole
numbers (`int8`, which fewer than twelve rows are served with) codes are others, and how many are equal is printed. On a
GPU bfloat16 rounds differently in products of other shapes, so that baseline and engine drift apart: there the engine
with CUDA graphs must give the very codes of the engine without. The baseline needs the extra `bench`; without it the
engine is measured alone.
"""

from __future__ import annotations

import argparse
import platform
from collections.abc import Callable
from functools import partial
from importlib.metadata import PackageNotFoundError, version

import torch
from torch import Tensor

from benchmarks.engine.limits import COPIED, copy_bandwidth, forget_peak, peak_bytes, step_bytes
from benchmarks.engine.systems import Run, System, engine_decoder, prompts, run_eager, run_engine
from benchmarks.sizes import GIB, PUBLISHED_7B, SPECIAL, cache_bytes_per_row
from benchmarks.sizes_tokenizer import random_tokenizer
from vivavoce.model.grid import Groups
from vivavoce.model.lm_config import LMConfig
from vivavoce.model.memory import available_bytes
from vivavoce.model.packed_lm import PackedLM
from vivavoce.model.patch_lm import PatchLM
from vivavoce.model.tokenizer import AudioTokenizer

ROWS = (1, 4, 16, 64)
PATCHES, QUICK_PATCHES = 50, 12
RUNS = {1: 8, 4: 3}  # of a batch; larger ones have enough rows in one
COPIES_OF_7B = 3  # the modules' weights, which the baseline runs, and their packed form, with and without graphs
Make = Callable[[list[Groups]], System]


def models(size: str, device: torch.device) -> tuple[PatchLM, AudioTokenizer]:
    """Weights of the size asked for.

    Raises:
        SystemExit: there is no room for them.
    """
    if size == "mini":
        from vivavoce.model.voice_model import default_folder  # which needs more packages than a bare machine may have

        folder = default_folder()
        return PatchLM.from_pretrained(folder / "lm", device), AudioTokenizer.from_pretrained(
            folder / "tokenizer", device
        )
    config = LMConfig.parse(PUBLISHED_7B)
    with torch.device("meta"):
        lm = PatchLM(config, SPECIAL).to(torch.bfloat16)
    weights = sum(each.numel() * each.element_size() for each in lm.parameters())
    needed, free = COPIES_OF_7B * weights + cache_bytes_per_row(config), available_bytes(device)
    if device.type == "cpu":
        print("--size 7b is only sensible on a GPU: one patch reads 16 GiB of weights")
    if needed > free:
        raise SystemExit(f"--size 7b needs {needed / GIB:.1f} GiB on {device}, {free / GIB:.1f} GiB are free")
    lm = lm.to_empty(device=device).requires_grad_(False).eval()
    torch.manual_seed(0)
    for weight in lm.parameters():
        weight.normal_(std=0.02)
    return lm, random_tokenizer(device)


def percentiles(seconds: list[float]) -> str:
    """Median and 99th percentile in milliseconds."""
    found = torch.tensor(seconds, dtype=torch.float64).quantile(torch.tensor([0.5, 0.99], dtype=torch.float64))
    return " / ".join(f"{1e3 * float(one):.0f}" for one in found)


def report(name: str, runs: list[Run], lower_bound: float, patch_seconds: float, peak: int) -> float:
    """Print a line; returns seconds of audio per second."""
    rows, patches = runs[0].codes.shape[:2]
    seconds = sum(run.seconds for run in runs) / len(runs)
    rate = rows * patches * patch_seconds / seconds
    first = percentiles([each for run in runs for each in run.first_patch])
    heard = percentiles([each for run in runs for each in run.first_audio])
    share = lower_bound * patches / seconds
    print(
        f"| {rows} | {name} | {rate:.2f} | {rows / rate:.3f} | {first} | {heard} | {peak / 2**20:.0f} | {share:.0%} |",
        end="",
    )
    return rate


def require_equal(ours: Tensor, theirs: Tensor) -> None:
    """The promise that makes the comparison one of the same work."""
    if not torch.equal(ours, theirs):
        row, patch = (ours != theirs).flatten(2).any(-1).nonzero()[0].tolist()
        raise SystemExit(f"the codes of row {row} differ from patch {patch} on")


def found_systems(lm: PatchLM, tokenizer: AudioTokenizer, patches: int) -> dict[str, tuple[Make, int, str]]:
    """What is compared: how it is made for these prompts, bytes of a weight, and whose codes must be the same."""

    def engine(packed: PackedLM) -> Make:
        return lambda asked: partial(run_engine, engine_decoder(packed, asked, patches), tokenizer)

    full, systems = lm.lm_head.weight.element_size(), dict[str, tuple[Make, int, str]]()
    on_gpu = lm.device.type == "cuda"
    try:
        from benchmarks.engine.eager import EagerLM
    except ImportError as error:
        print(f"the baseline is not measured: {error}")
    else:
        eager = EagerLM(lm)
        systems["eager"] = (lambda _: partial(run_eager, eager, tokenizer)), full, "eager" if on_gpu else "full"
    systems["engine, full"] = engine(PackedLM(lm)), full, "full"
    if on_gpu:
        systems["engine, no graphs"] = engine(PackedLM(lm, recording="calls")), full, "full"
    else:
        systems["engine, int8"] = engine(PackedLM(lm, "int8")), 1, "int8"
    return systems


@torch.inference_mode()
def compare(lm: PatchLM, tokenizer: AudioTokenizer, patches: int, *, quick: bool) -> None:
    """Print the table."""
    device = lm.device
    bandwidth = copy_bandwidth(device)
    print(f"copying {COPIED / 2**20:.0f} MiB: {bandwidth / 1e9:.1f} GB/s read and written\n")
    systems = found_systems(lm, tokenizer, patches)
    patch_seconds = lm.config.group_size / tokenizer.frame_rate
    print("| rows | system | audio s/s | real-time factor | first patch ms p50 / p99 | first audio ms p50 / p99 "
          "| peak MiB | of the bandwidth | times eager | equal codes |\n|" + "---|" * 10)  # fmt: skip
    for rows in ROWS:
        asked = prompts(lm, rows, tokenizer.frame_rate)
        positions = len(asked[0]) + patches // 2
        first: tuple[float, Tensor] | None = None
        same: dict[str, Tensor] = {}
        for name, (make, weight_bytes, kin) in systems.items():
            system = make(asked)
            system(asked if device.type == "cuda" else asked[:1], patches)  # warms up; on a GPU records all shapes
            forget_peak(device)
            runs = [system(asked, patches) for _ in range(1 if quick and rows > 1 else RUNS.get(rows, 1))]
            bound = step_bytes(lm, rows, positions, weight_bytes) / bandwidth
            rate = report(name, runs, bound, patch_seconds, peak_bytes(device))
            first = first or (rate, runs[0].codes)
            require_equal(runs[0].codes, same.setdefault(kin, runs[0].codes))
            print(f" {rate / first[0]:.2f} | {float((runs[0].codes == first[1]).float().mean()):.1%} |", flush=True)


def _installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"


def main() -> None:
    """Read the options and print the figures."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--size", choices=("mini", "7b"), default="mini")
    options.add_argument("--quick", action="store_true", help=f"{QUICK_PATCHES} patches instead of {PATCHES}")
    given = options.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.set_num_threads(1)
    lm, tokenizer = models(given.size, device)
    patches = QUICK_PATCHES if given.quick else PATCHES
    what = torch.cuda.get_device_name(device) if device.type == "cuda" else f"one thread, {platform.machine()}"
    print(f"{given.size}, {what}, Python {platform.python_version()}, torch {version('torch')}, "
          f"transformers {_installed('transformers')}, {patches} patches a row")  # fmt: skip
    compare(lm, tokenizer, patches, quick=given.quick)


if __name__ == "__main__":
    main()
