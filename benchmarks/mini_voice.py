"""`python -m benchmarks.mini_voice --data DIR --run DIR`: figures of the mini voice model on held-out clips.

`--data` is the folder it was trained on; `--run` the training's `--out`, whose encoded clips are used again.
Printed: cross-entropy of the true codes per channel; for conversions the distance in log-mel to the true target, of
the source, of the conversion, and of the target itself after the tokenizer (the best that a language model over it can
reach); and the seconds of computing per second of speech.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import soundfile
import torch
from torch import Tensor

from vivavoce.model.generation import Decoder
from vivavoce.model.prompts import PromptBuilder, load_profile
from vivavoce.model.text_tokenizer import TextTokenizer
from vivavoce.model.training.voice import batch_loss, hold_out
from vivavoce.model.training.voice_data import Clip, Examples, read_clips
from vivavoce.model.voice_model import ConversionRequest, Reference, SpeechRequest, VoiceModel, default_folder

PAIRS = 12
ROWS = 8
BATCHES = 6
REFERENCE_SECONDS = 3.2


def read(data: Path, clip: Clip) -> tuple[Tensor, int]:
    """Wave float32[samples] and rate of a clip."""
    wave, rate = soundfile.read(data / "audio" / f"{clip.name}.opus", dtype="float32", always_2d=True)
    return torch.from_numpy(wave.mean(1)), int(rate)


def distance(model: VoiceModel, ours: Tensor, target: Tensor, rate: int) -> float:
    """Mean absolute difference in nats of the log-mels of two waves, over the frames that both have."""
    one, other = model.tokenizer.mel(ours), model.tokenizer.mel(target, rate)
    frames = min(len(one), len(other))
    return float((one[:frames] - other[:frames]).abs().mean())


def generate(model: VoiceModel, request: SpeechRequest | ConversionRequest) -> Tensor:
    """Carry out one request alone."""
    plan = model.plan(request)
    decoder = Decoder(model.lm)
    row = decoder.join(plan.continuation)
    while decoder.rows:
        decoder.step()
    return model.read(plan, row).wave


@torch.no_grad()
def show_cross_entropy(model: VoiceModel, held: list[Clip]) -> None:
    """Print the mean over examples of held-out clips."""
    builder = PromptBuilder(
        load_profile("mini"), model.lm.config, model.lm.special, TextTokenizer.from_pretrained(default_folder() / "lm")
    )
    examples = Examples(held, builder, model.lm.config, model.lm.special, 0, model.tokenizer.frame_rate)
    found = [batch_loss(model.lm, [examples.draw() for _ in range(ROWS)])[1] for _ in range(BATCHES)]
    print(f"cross-entropy of {ROWS * BATCHES} held-out examples, nats per code, channel by channel:")
    print("  " + " ".join(f"{sum(one[name] for one in found) / BATCHES:.2f}" for name in found[0] if name != "text"))


def show_conversions(model: VoiceModel, held: list[Clip], data: Path) -> None:
    """Print log-mel distances to the true target."""
    by_name = {clip.name: clip for clip in held}
    pairs = [(by_name[clip.pair], clip) for clip in held if clip.pair in by_name][:PAIRS]
    sums = {"source": 0.0, "conversion": 0.0, "target after the tokenizer": 0.0}
    for seed, (source, target) in enumerate(pairs):
        wave, rate = read(data, target)
        given, given_rate = read(data, source)
        # The pair's own recording is the only other clip of this speaker that was surely held out.
        reference = Reference(wave[-int(REFERENCE_SECONDS * rate) :], rate, "")
        converted = generate(model, ConversionRequest(given, given_rate, (reference,), seed))
        for name, ours in (
            ("source", model.tokenizer.decode(source.codes)),
            ("conversion", converted),
            ("target after the tokenizer", model.tokenizer.decode(target.codes)),
        ):
            sums[name] += distance(model, ours, wave, rate) / len(pairs)
    print(f"log-mel distance to the true target, {len(pairs)} held-out pairs, nats:")
    for name, value in sums.items():
        print(f"  {name}: {value:.2f}")


def show_speed(model: VoiceModel, held: list[Clip], data: Path) -> None:
    """Print computing time per second of speech, one request alone, one thread."""
    wave, rate = read(data, held[0])
    started = time.process_time()
    made = generate(model, SpeechRequest(held[-1].text, (Reference(wave, rate, ""),), 1))
    seconds = len(made) / model.tokenizer.sample_rate
    print(f"{(time.process_time() - started) / seconds:.2f} s of one processor per second of speech")


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description="Figures of the mini voice model.")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--run", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = VoiceModel.from_pretrained(default_folder())
    held, _ = hold_out(read_clips(options.data, default_folder() / "tokenizer", options.run / "codes"))
    show_cross_entropy(model, held)
    show_conversions(model, held, options.data)
    show_speed(model, held, options.data)


if __name__ == "__main__":
    main()
