"""Stage 2 of the audio tokenizer: decoder and vocoder against discriminators; encoder and codebooks are frozen.

So codes stay what they are, and a language model trained on them speaks with the better decoder at once.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vivavoce.model.checkpoint import load_config
from vivavoce.model.tokenizer import AudioTokenizer
from vivavoce.model.training import distributed
from vivavoce.model.training.clips import Clips
from vivavoce.model.training.discriminators import Discriminators, deceiving_loss, matching_loss, own_loss
from vivavoce.model.training.spectral import MelLoss, complex_loss
from vivavoce.model.training.tokenizer import Recipe, export_tokenizer

MEL_WEIGHT = 15.0
COMPLEX_WEIGHT = 5.0
MATCHING_WEIGHT = 2.0
ALONE = 100  # steps in which only the discriminators learn from each other's comparison


class Refinement:
    """Stage 2 as a task of the training loop."""

    def __init__(self, recipe: Recipe, start: Path, device: torch.device | str = "cpu") -> None:
        torch.manual_seed(recipe.seed)
        self.recipe, self.device = recipe, torch.device(device)
        self.config = load_config(start)
        self.tokenizer = AudioTokenizer.from_pretrained(start).to(self.device)
        self.model: nn.Module = self.tokenizer.decoder.train().requires_grad_(requires_grad=True)
        self.judges = Discriminators().to(self.device)
        self.optimiser = torch.optim.AdamW(self.judges.parameters(), lr=3e-4, betas=(0.8, 0.99), fused=True)
        self.clips = Clips(recipe.data, self.tokenizer.sample_rate)
        self.mel_loss = MelLoss(self.tokenizer.sample_rate).to(self.device)

    def losses(self, random: np.random.Generator, step: int) -> dict[str, Tensor]:
        """Weighted losses of the decoder on a batch, after a step of the discriminators on the same batch."""
        tokenizer = self.tokenizer
        frames = round(self.recipe.seconds * tokenizer.frame_rate)
        waves = self.clips.batch(self.recipe.rows, frames * tokenizer.samples_per_frame, random).waves.to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.recipe.bf16):
            with torch.no_grad():
                features = tokenizer.encoder(tokenizer.front_end.batch(waves)[:, :-1])
                quantised = tokenizer.encoder.quantizer.decode(tokenizer.encoder.quantizer.encode(features))
            made = tokenizer.decoder(quantised, None)
        judged = self._judge(waves, made)
        losses = {
            "mel": MEL_WEIGHT * self.mel_loss(made, waves),
            "complex": COMPLEX_WEIGHT * complex_loss(made, waves),
            "_judges": judged,
        }
        if step < ALONE:
            return losses
        self.judges.requires_grad_(requires_grad=False)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.recipe.bf16):
            real, guess = self.judges(waves), self.judges(made)
        self.judges.requires_grad_(requires_grad=True)
        return losses | {
            "deceiving": deceiving_loss(guess).float(),
            "matching": MATCHING_WEIGHT * matching_loss(real, guess).float(),
        }

    def _judge(self, waves: Tensor, made: Tensor) -> Tensor:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.recipe.bf16):
            loss = own_loss(self.judges(waves), self.judges(made.detach())).float()
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        distributed.average_gradients(self.judges.parameters())
        self.optimiser.step()
        return loss.detach()

    def state_dict(self) -> dict[str, Any]:
        """The discriminators and their optimiser."""
        return {"judges": self.judges.state_dict(), "optimiser": self.optimiser.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state_dict`."""
        self.judges.load_state_dict(state["judges"])
        self.optimiser.load_state_dict(state["optimiser"])

    def export(self, average: dict[str, Tensor], folder: Path) -> None:
        """Write the whole tokenizer as a checkpoint folder."""
        exact = {name for name, _ in self.tokenizer.named_buffers()}
        weights = self.tokenizer.state_dict()
        weights |= {f"decoder.{name}": value for name, value in average.items() if f"decoder.{name}" not in exact}
        export_tokenizer(weights, exact, self.config, folder)
