"""`python -m benchmarks.precision`: what whole numbers (`int8`) cost: cross-entropy of codes, and equal choices.

Sentences are spoken in the voices of `tests/data/speech` with full weights; what came out is then given to both
precisions group by group, so that every number of a step is made by the one that is measured: the difference in nats is
the divergence of int8 from what it stands for. Shipped weights, one thread.
"""

from __future__ import annotations

from pathlib import Path

import soundfile
import torch
from torch import Tensor
from torch.nn import functional as F

from vivavoce.model.generation import Decoder
from vivavoce.model.grid import Groups, split_grid
from vivavoce.model.packed_lm import PackedLM
from vivavoce.model.rows import Continuation
from vivavoce.model.sampling import GREEDY, Sampler
from vivavoce.model.voice_model import Reference, SpeechRequest, VoiceModel, default_folder

CLIPS = Path(__file__).parents[1] / "tests" / "data" / "speech"
SENTENCES = ("The weather was better than anybody had hoped.", "Please call me when you are home.", "No, not today.")


class _Given(Sampler):
    """Draws the true codes, which come in the place of the chance; notes what they cost and what was likeliest."""

    def __init__(self) -> None:
        super().__init__([GREEDY], torch.device("cpu"))
        self.nats, self.likeliest = list[Tensor](), list[Tensor]()

    def pick(self, logits: Tensor, uniform: Tensor, forbidden: Tensor | None = None) -> Tensor:  # noqa: ARG002 - as its base
        true = uniform.long()
        self.nats.append(F.cross_entropy(logits.float().flatten(0, 1), true.flatten(), reduction="none"))
        self.likeliest.append(logits.argmax(-1).flatten())
        return true


def speak(packed: PackedLM, wish: Continuation) -> Groups:
    """Carry one request out."""
    decoder = Decoder(packed, 1)
    row = decoder.join(wish)
    while decoder.rows:
        decoder.step()
    return split_grid(row.grid(), packed.config)


@torch.inference_mode()
def listen(packed: PackedLM, wish: Continuation, said: Groups, given: _Given) -> None:
    """Note what a precision thinks of what was said."""
    pool = packed.pool(packed.config.backbone.context)
    prompt = split_grid(wish.prompt, packed.config)
    cache = pool.promise(len(prompt) + len(said))
    _, start = packed.prefill(pool, [(prompt, cache)])
    cache.length += len(prompt)
    for place in range(len(said)):
        group = Groups(said.text[place : place + 1], said.codes[place : place + 1])
        if group.text[0] == packed.special.empty:
            packed.patches.draw(start, given, group.codes.double())
        _, start = packed.step(pool, group, [cache])
        cache.length += 1


def main() -> None:
    """Print the figures."""
    torch.set_num_threads(1)
    model = VoiceModel.from_pretrained(default_folder())
    full, whole = PackedLM(model.lm), PackedLM(model.lm, "int8")
    heard = _Given(), _Given()
    for seed, (path, text) in enumerate(zip(sorted(CLIPS.glob("*.flac")), SENTENCES, strict=False)):
        wave, rate = soundfile.read(path, dtype="float32", always_2d=True)
        reference = Reference(torch.from_numpy(wave.mean(1)), rate, "")
        wish = model.plan(SpeechRequest(text, (reference,), seed)).continuation
        said = speak(full, wish)
        for packed, given in zip((full, whole), heard, strict=True):
            listen(packed, wish, said, given)
    nats = [float(torch.cat(given.nats).mean()) for given in heard]
    best, other = (torch.cat(given.likeliest) for given in heard)
    equal = float((best == other).float().mean())
    print(f"nats per code: full {nats[0]:.4f}, int8 {nats[1]:.4f}; likeliest codes equal: {equal:.1%} of {len(best)}")


if __name__ == "__main__":
    main()
