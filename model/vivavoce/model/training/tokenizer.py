"""Train a small audio tokenizer on a few hours of speech with one CPU thread.

    python -m vivavoce.model.training.tokenizer --data DIR [DIR ...] --out DIR --minutes N

The published recipe without what needs a large machine: no audio-to-text loss and no discriminators. In turn:
features pass unquantised at first; then k-means places the codebooks; from there on they follow the features by moving
averages. Two helpers that the published recipe does not have make a run of minutes worthwhile: the coarse mel is held
to the input's own mel at the beginning, and a complex spectral loss gives the low harmonics a phase.

`--out` gets `config.json` and `model.safetensors` every few minutes, and `training.pt`, from which the same command
goes on. The seed fixes weights and crops; how many steps fit into the minutes is the machine's.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from vivavoce.model.tokenizer import AudioTokenizer
from vivavoce.model.tokenizer_config import TokenizerConfig
from vivavoce.model.training.clips import Clips
from vivavoce.model.training.codebooks import CodebookTrainer
from vivavoce.model.training.spectral import FLOOR, MelLoss, complex_loss

# Attention windows keep what the model does on a crop of a second or two the same on a minute of speech.
MINI: dict[str, Any] = {
    "model_type": "mimo_audio_tokenizer",
    "sampling_rate": 24000, "n_mels": 80, "nfft": 960, "hop_length": 240, "window_size": 960, "fmin": 0, "fmax": None,
    "kernel_size": 3, "stride_size": 2, "avg_pooler": 2, "d_model": 192, "activation_function": "gelu",
    "num_quantizers": 8, "codebook_size": [1024, 1024, 128, 128, 128, 128, 128, 128],
    "encoder_layers": 3, "encoder_skip_layer_id": 1, "encoder_attention_heads": 4, "encoder_ffn_dim": 768,
    "encoder_causal": False, "encoder_attn_window_size": [25, 25],
    "decoder_layers": 3, "decoder_attention_heads": 4, "decoder_ffn_dim": 768,
    "decoder_kernel_size": 3, "decoder_stride_size": 2, "decoder_causal": True, "decoder_attn_window_size": [50, 0],
    "vocoder_num_layers": 4, "vocoder_dim": 256, "vocoder_intermediate_dim": 512, "vocoder_attention_heads": 4,
    "vocoder_attn_window_size": [40, 10], "vocoder_padding": "same",
    "position_embedding_type": "rope", "rope_theta": 10000, "rope_type": "default", "ln_type": "LayerNorm",
}  # fmt: skip

SAVE_EVERY = 120.0  # seconds
LOG_EVERY = 50  # steps
CONTINUOUS = 0.10  # share of the time in which features pass unquantised
GUIDED = 0.50  # share of the time in which the coarse mel is held to the input's
KMEANS_BATCHES = 12
WARM_UP = 100  # steps
COMPLEX_WEIGHT = 0.3  # more of it pays the unknown phase with silence


@dataclass(frozen=True)
class Recipe:
    """One training run."""

    data: tuple[Path, ...]
    out: Path
    minutes: float
    seed: int = 1
    rows: int = 6
    seconds: float = 1.6
    learning_rate: float = 1.5e-3


class Trainer:
    """A tokenizer in training."""

    def __init__(self, recipe: Recipe) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe = recipe
        self.model = AudioTokenizer(TokenizerConfig.parse(MINI))
        self.codebooks = CodebookTrainer(self.model.encoder.quantizer, torch.Generator().manual_seed(recipe.seed))
        self.clips = Clips(recipe.data, self.model.sample_rate, recipe.seed)
        self.mel_loss = MelLoss(self.model.sample_rate)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=recipe.learning_rate, betas=(0.8, 0.99), weight_decay=1e-3
        )
        self.step, self.elapsed, self.quantized = 0, 0.0, False

    def run(self) -> None:
        """Train until the minutes are over, saving now and then and at the end."""
        if (self.recipe.out / "training.pt").is_file():
            self.resume()
        started, saved = time.monotonic() - self.elapsed, self.elapsed
        while self.elapsed < 60 * self.recipe.minutes:
            losses = self.advance()
            self.elapsed = time.monotonic() - started
            if self.step % LOG_EVERY == 0:
                shown = " ".join(f"{name} {float(value):.4f}" for name, value in losses.items())
                print(f"{self.elapsed:6.0f} s step {self.step} {shown}", flush=True)  # noqa: T201
            if self.elapsed - saved > SAVE_EVERY:
                self.save()
                saved = self.elapsed
        self.save()

    def advance(self) -> dict[str, Tensor]:
        """One step; returns its losses."""
        progress = self.elapsed / (60 * self.recipe.minutes)
        if progress >= CONTINUOUS and not self.quantized:
            self.codebooks.start(torch.cat([self.features().flatten(0, 1) for _ in range(KMEANS_BATCHES)]))
            self.quantized = True
        losses = self.losses(self.crops(), guided=progress < GUIDED)
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(torch.stack(list(losses.values())).sum())
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        rate = self.recipe.learning_rate * min(1.0, (self.step + 1) / WARM_UP)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * (0.04 + 0.96 * 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))
        self.optimizer.step()
        self.step += 1
        return losses

    def crops(self) -> Tensor:
        """A batch of waveforms, a whole number of code frames long."""
        frames = round(self.recipe.seconds * self.model.frame_rate)
        return self.clips.batch(self.recipe.rows, frames * self.model.samples_per_frame)

    @torch.no_grad()
    def features(self) -> Tensor:
        """Features of a fresh batch."""
        return torch.as_tensor(self.model.encoder(self.model.front_end.batch(self.crops())))

    def losses(self, waves: Tensor, guided: bool) -> dict[str, Tensor]:
        """Weighted losses of waves[rows, samples]."""
        mel = self.model.front_end.batch(waves)[:, :-1]  # centred frames are one more than the vocoder makes
        features = self.model.encoder(mel)
        losses: dict[str, Tensor] = {}
        if self.quantized:
            features, losses["commitment"] = self.codebooks.quantize(features)
        coarse, _ = self.model.decoder.coarse_mel(features, None)
        made = self.model.decoder.vocoder(coarse, None)
        losses["mel"] = self.mel_loss(made, waves)
        losses["complex"] = COMPLEX_WEIGHT * complex_loss(made, waves)
        if guided:
            audible = mel.clamp(min=math.log(FLOOR))
            centred = audible - audible.mean((1, 2), keepdim=True)
            losses["guide"] = F.l1_loss(coarse, centred / centred.std((1, 2), keepdim=True))
        return losses

    def save(self) -> None:
        """Write the model as a checkpoint folder, and what `resume` needs."""
        export(self.model, MINI, self.recipe.out)
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "codebooks": self.codebooks.state_dict(),
            "progress": (self.step, self.elapsed, self.quantized),
        }
        torch.save(state, self.recipe.out / "training.pt.new")
        (self.recipe.out / "training.pt.new").replace(self.recipe.out / "training.pt")

    def resume(self) -> None:
        """Go on from the last save."""
        state = torch.load(self.recipe.out / "training.pt", weights_only=True)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.codebooks.load_state_dict(state["codebooks"])
        self.step, self.elapsed, self.quantized = state["progress"]


def export(model: AudioTokenizer, config: dict[str, Any], folder: Path) -> None:
    """Write a checkpoint folder: parameters as float16 to save space, buffers (codebooks, window) as float32."""
    folder.mkdir(parents=True, exist_ok=True)
    buffers = {name for name, _ in model.named_buffers()}
    weights = {
        name: (value if name in buffers else value.half()).contiguous() for name, value in model.state_dict().items()
    }
    save_file(weights, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Train a small audio tokenizer.")
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="folders of speech, read recursively")
    parser.add_argument("--out", type=Path, required=True, help="folder for the checkpoint")
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    recipe = Recipe(tuple(arguments.data), arguments.out, arguments.minutes, arguments.seed)
    Trainer(recipe).run()


if __name__ == "__main__":
    main()
