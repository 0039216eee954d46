"""Stage 1 of the audio tokenizer: encoder, codebooks, decoder and vocoder together.

The published recipe at a size that a processor can carry, without discriminators, which are stage 2. In turn: features
pass unquantised at first; then k-means places the codebooks; from there on they follow the features by moving averages.
The share that the words have in the codes comes from naming phones, not from a small language model: see `phones`. Two
helpers that the published recipe does not have make a short run worthwhile: the coarse mel is held to the input's own
mel at the beginning, and a complex spectral loss gives the low harmonics a phase.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from vivavoce.model.checkpoint import SINGLE_FILE
from vivavoce.model.tokenizer import AudioTokenizer
from vivavoce.model.tokenizer_config import TokenizerConfig
from vivavoce.model.training.clips import Clips, Crops
from vivavoce.model.training.codebooks import CodebookTrainer
from vivavoce.model.training.phones import PHONES_FILE, UNKNOWN, PhoneHead, targets
from vivavoce.model.training.spectral import FLOOR, MelLoss, complex_loss

# Attention windows keep what the model does on a crop of a second or two the same on a minute of speech.
MINI: dict[str, Any] = {
    "model_type": "mimo_audio_tokenizer",
    "sampling_rate": 24000, "n_mels": 80, "nfft": 960, "hop_length": 240, "window_size": 960, "fmin": 0, "fmax": None,
    "kernel_size": 3, "stride_size": 2, "avg_pooler": 2, "d_model": 256, "activation_function": "gelu",
    "num_quantizers": 8, "codebook_size": [1024, 1024, 128, 128, 128, 128, 128, 128],
    "encoder_layers": 4, "encoder_skip_layer_id": 1, "encoder_attention_heads": 4, "encoder_ffn_dim": 1024,
    "encoder_causal": False, "encoder_attn_window_size": [25, 25],
    "decoder_layers": 4, "decoder_attention_heads": 4, "decoder_ffn_dim": 1024,
    "decoder_kernel_size": 3, "decoder_stride_size": 2, "decoder_causal": True, "decoder_attn_window_size": [50, 0],
    "vocoder_num_layers": 4, "vocoder_dim": 256, "vocoder_intermediate_dim": 1024, "vocoder_attention_heads": 4,
    "vocoder_attn_window_size": [40, 10], "vocoder_padding": "same",
    "position_embedding_type": "rope", "rope_theta": 10000, "rope_type": "default", "ln_type": "LayerNorm",
}  # fmt: skip

CONTINUOUS = 0.06  # share of the steps in which features pass unquantised
GUIDED = 0.40  # share of the steps in which the coarse mel is held to the input's
KMEANS_BATCHES = 12
COMPLEX_WEIGHT = 0.3  # more of it pays the unknown phase with silence
PHONE_WEIGHT = 0.5


@dataclass(frozen=True)
class Recipe:
    """What a step of stage 1 is made of; `bf16`: the model computes in bfloat16, losses and codebooks in float32."""

    data: tuple[Path, ...]
    steps: int
    seed: int = 1
    rows: int = 12
    seconds: float = 1.6
    bf16: bool = True


class Reconstruction:
    """Stage 1 as a task of the training loop."""

    def __init__(
        self, recipe: Recipe, config: dict[str, Any] | None = None, device: torch.device | str = "cpu"
    ) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe, self.config, self.device = recipe, config or MINI, torch.device(device)
        self.tokenizer = AudioTokenizer(TokenizerConfig.parse(self.config))
        self.phones = PhoneHead(self.tokenizer.config.encoder.width)
        self.model: nn.Module = nn.ModuleDict({"tokenizer": self.tokenizer, "phones": self.phones}).to(self.device)
        generator = torch.Generator().manual_seed(recipe.seed)
        self.codebooks = CodebookTrainer(self.tokenizer.encoder.quantizer, generator)
        self.clips = Clips(recipe.data, self.tokenizer.sample_rate)
        self.mel_loss = MelLoss(self.tokenizer.sample_rate).to(self.device)
        self.quantised = False

    def losses(self, random: np.random.Generator, step: int) -> dict[str, Tensor]:
        """Weighted losses of a batch."""
        progress = step / self.recipe.steps
        if progress >= CONTINUOUS and not self.quantised:
            batches = (self.features(self.draw(random).waves) for _ in range(KMEANS_BATCHES))
            self.codebooks.start(torch.cat([batch.float().flatten(0, 1) for batch in batches]))
            self.quantised = True
        return self.batch_losses(self.draw(random), guided=progress < GUIDED)

    def draw(self, random: np.random.Generator) -> Crops:
        """A batch of crops, a whole number of code frames long."""
        frames = round(self.recipe.seconds * self.tokenizer.frame_rate)
        crops = self.clips.batch(self.recipe.rows, frames * self.tokenizer.samples_per_frame, random)
        return Crops(crops.waves.to(self.device), crops.spoken)

    def autocast(self) -> torch.autocast:
        """The context in which the model computes."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.recipe.bf16)

    @torch.no_grad()
    def features(self, waves: Tensor) -> Tensor:
        """Unquantised features of waves."""
        mel = self.tokenizer.front_end.batch(waves)[:, :-1]
        with self.autocast():
            return torch.as_tensor(self.tokenizer.encoder(mel))

    def batch_losses(self, crops: Crops, *, guided: bool) -> dict[str, Tensor]:
        """Weighted losses of crops."""
        waves = crops.waves
        mel = self.tokenizer.front_end.batch(waves)[:, :-1]  # centred frames are one more than the vocoder makes
        losses: dict[str, Tensor] = {}
        with self.autocast():
            features = self.tokenizer.encoder(mel)
        features = first = features.float()
        if self.quantised:
            quantised = self.codebooks.quantize(features)
            features, first, losses["commitment"] = quantised.features, quantised.first, quantised.commitment
        with self.autocast():
            coarse, _ = self.tokenizer.decoder.coarse_mel(features, None)
            made = self.tokenizer.decoder.vocoder(coarse, None)
            scores = self.phones(first)
        losses |= self._named(scores.float(), crops)
        losses["mel"] = self.mel_loss(made, waves)
        losses["complex"] = COMPLEX_WEIGHT * complex_loss(made, waves)
        if guided:
            audible = mel.clamp(min=math.log(FLOOR))
            centred = audible - audible.mean((1, 2), keepdim=True)
            losses["guide"] = F.l1_loss(coarse.float(), centred / centred.std((1, 2), keepdim=True))
        return losses

    def _named(self, scores: Tensor, crops: Crops) -> dict[str, Tensor]:
        wanted = targets(crops.spoken, scores.shape[1] // 2, self.tokenizer.frame_rate).to(self.device)
        known = wanted != UNKNOWN
        if not bool(known.any()):
            return {"phones": scores.sum() * 0}
        right = (scores.argmax(-1) == wanted)[known].float().mean()
        loss = F.cross_entropy(scores.flatten(0, 1), wanted.flatten(), ignore_index=UNKNOWN)
        return {"phones": PHONE_WEIGHT * loss, "_phones right": right}

    def state_dict(self) -> dict[str, Any]:
        """What is needed to go on beside the weights."""
        return {"codebooks": self.codebooks.state_dict(), "quantised": self.quantised}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state_dict`."""
        self.codebooks.load_state_dict(state["codebooks"])
        self.quantised = state["quantised"]

    def export(self, average: dict[str, Tensor], folder: Path) -> None:
        """Write the checkpoint folder, and beside it the head that names phones."""
        books = {name for name, _ in self.tokenizer.named_buffers()}
        current = self.tokenizer.state_dict()
        own = _below(average, "tokenizer.")
        # Codebooks are averages already, of the features as they are now.
        weights = {name: current[name] if name in books else own[name] for name in own}
        export_tokenizer(weights, books, self.config, folder)
        save_file(_below(average, "phones."), folder / PHONES_FILE)


def _below(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value.contiguous() for name, value in state.items() if name.startswith(prefix)}


def export_tokenizer(weights: dict[str, Tensor], exact: set[str], config: dict[str, Any], folder: Path) -> None:
    """Write a checkpoint folder: parameters as float16 to save space, what is in `exact` as float32."""
    folder.mkdir(parents=True, exist_ok=True)
    stored = {name: (value if name in exact else value.half()).contiguous() for name, value in weights.items()}
    save_file(stored, folder / f"{SINGLE_FILE}.new")
    (folder / f"{SINGLE_FILE}.new").replace(folder / SINGLE_FILE)
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
