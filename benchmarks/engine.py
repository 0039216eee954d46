"""`python -m benchmarks.engine`: what packed weights and int8 change: time of a patch, and cross-entropy of true codes.

Time: a patch through the patch decoder as the plain modules compute it (no cache), packed, and packed with int8, and
one step of the backbone; shipped weights, one thread, processor time. Quality: `tests/data/speech`, encoded and
given group by group, so that every number of a step is made by the weights that are measured.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import soundfile
import torch
from torch import Tensor
from torch.nn import functional as F

from vivavoce.model.grid import Groups, speech_groups, text_groups
from vivavoce.model.packed_lm import PackedLM
from vivavoce.model.sampling import GREEDY, LOCAL, Sampler
from vivavoce.model.voice_model import VoiceModel, default_folder

CLIPS = Path(__file__).parents[1] / "tests" / "data" / "speech"
ROWS = (1, 4, 16)
REPEATS = 15
PATCHES = 24  # of each clip


class _Given(Sampler):
    """Draws the true codes, which come in the place of the chance, and adds up what they were expected to cost."""

    def __init__(self) -> None:
        super().__init__([GREEDY], torch.device("cpu"))
        self.nats, self.codes = 0.0, 0

    def pick(self, logits: Tensor, uniform: Tensor, forbidden: Tensor | None = None) -> Tensor:  # noqa: ARG002 - as its base
        true = uniform.long()
        self.nats += float(F.cross_entropy(logits.float().flatten(0, 1), true.flatten(), reduction="sum"))
        self.codes += true.numel()
        return true


def cross_entropy(packed: PackedLM, clips: list[Groups]) -> float:
    """Mean nats per code over all channels."""
    given = _Given()
    for clip in clips:
        cache = packed.cache(len(clip) + 2)
        start = packed.prefill(text_groups([packed.special.sostm], packed.config), cache)[1][None]
        for text, codes in zip(clip.text, clip.codes, strict=True):
            packed.patches.draw(start, given, codes[None].double())
            start = packed.step(Groups(text[None], codes[None]), [cache])[1]
            cache.length += 1
    return given.nats / given.codes


def milliseconds(run: Callable[[], object]) -> float:
    """Processor time of one call."""
    run()
    started = time.process_time()
    for _ in range(REPEATS):
        run()
    return (time.process_time() - started) / REPEATS * 1e3


def show_speed(model: VoiceModel, packed: dict[str, PackedLM]) -> None:
    """Print milliseconds per patch and per backbone step, by rows."""
    config, device = model.lm.config, torch.device("cpu")
    for rows in ROWS:
        start = torch.randn(rows, config.decoder.width)
        uniform = torch.rand(rows, config.group_size, config.channels, dtype=torch.float64)
        sampler = Sampler([LOCAL] * rows, device)
        plain = milliseconds(lambda: model.lm.decode_patches(start, sampler, uniform))  # noqa: B023 - called at once
        print(f"{rows:>3} rows: plain patch {plain:.2f} ms", end="")
        for name, each in packed.items():
            caches = [each.cache(200) for _ in range(rows)]
            for cache in caches:
                cache.length = 100
            groups = Groups(torch.full((rows,), 65), torch.tensor(config.zero_ids).repeat(rows, config.group_size, 1))
            patch = milliseconds(lambda: each.patches.draw(start, sampler, uniform))  # noqa: B023
            step = milliseconds(lambda: each.step(groups, caches))  # noqa: B023
            print(f"; {name} patch {patch:.2f} ms, step {step:.2f} ms", end="")
        print()


@torch.inference_mode()
def main() -> None:
    """Print the figures."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = VoiceModel.from_pretrained(default_folder())
    packed = {"full": PackedLM(model.lm, "full"), "int8": PackedLM(model.lm, "int8")}
    show_speed(model, packed)
    clips = []
    for path in sorted(CLIPS.glob("*.flac"))[:6]:
        wave, rate = soundfile.read(path, dtype="float32", always_2d=True)
        codes = model.tokenizer.encode(torch.from_numpy(wave.mean(1)), rate)
        clips.append(speech_groups(codes, model.lm.config, model.lm.special.empty).parted(PATCHES)[0])
    for name, each in packed.items():
        print(f"{name}: {cross_entropy(each, clips):.4f} nats per code, {sum(map(len, clips))} patches, all channels")


if __name__ == "__main__":
    main()
