"""AudioSeal's two networks (San Roman et al., 2024, arXiv:2401.17264), built by the `audioseal` package at our size.

The generator turns a wave and a message into a mark, the detector turns a wave into presence and bits for each
sample. Both work on 16 kHz mono; `vivavoce.watermark.level` sets how loud the mark is.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from math import prod
from typing import Any

# Read by audioseal when it is imported: its lazy compilation costs tens of seconds on a CPU.
os.environ.setdefault("NO_TORCH_COMPILE", "1")

import torch
from audioseal.builder import (
    AudioSealDetectorConfig,
    AudioSealWMConfig,
    DecoderConfig,
    SEANetConfig,
    create_detector,
    create_generator,
)
from torch import Tensor, nn
from torch.nn import functional

from vivavoce.watermark.level import SAMPLE_RATE as SAMPLE_RATE
from vivavoce.watermark.level import whitened

GROUP_FRAMES = 24  # latent frames that carry the same message: 0.48 s


@dataclass(frozen=True)
class NetworkSize:
    """The shape of generator and detector (AudioSeal's own names for these figures); by default that of our weights.

    Attributes:
        nbits: Bits of one message.
        n_filters: Channels of the first convolution; doubled at each downsampling.
        dimension: Channels at the bottom, where the message is added.
        ratios: Upsampling factors of the decoder (the encoder goes through them backwards, so that it is already at a
            hop of 8 samples after its first, cheapest layer); their product is the hop of the bottom, in samples.
        causal: Convolutions look back only, so that blocks with a second of context give what the whole gives.
        lstm: Recurrent layers at the bottom; with any, what is far back is heard too, and blocks only come close.
        whiten: Both networks hear speech at unit loudness in each band, not as it is.
    """

    nbits: int = 16
    n_filters: int = 12
    dimension: int = 48
    ratios: tuple[int, ...] = (2, 4, 5, 8)
    causal: bool = True
    lstm: int = 0
    whiten: bool = True

    @property
    def hop(self) -> int:
        """Samples of one latent frame (320: 20 ms): the shortest stretch that can carry a message of its own."""
        return prod(self.ratios)

    def seanet(self) -> SEANetConfig:
        """AudioSeal's configuration at this size, without weight norm."""
        return SEANetConfig(
            channels=1,
            dimension=self.dimension,
            n_filters=self.n_filters,
            n_residual_layers=1,
            ratios=list(self.ratios),
            activation="ELU",
            activation_params={"alpha": 1.0},
            norm="none",  # weight_norm crashes in audioseal 0.2.0
            norm_params={},
            kernel_size=7,
            last_kernel_size=7,
            residual_kernel_size=3,
            dilation_base=2,
            causal=self.causal,
            pad_mode="constant",
            true_skip=True,
            compress=2,
            lstm=self.lstm,
            disable_norm_outer_blocks=0,
        )


class Networks(nn.Module):
    """Generator and detector of one size, side by side."""

    def __init__(self, size: NetworkSize) -> None:
        super().__init__()
        self.size = size
        decoder = DecoderConfig(final_activation=None, final_activation_params=None, trim_right_ratio=1.0)
        self.generator: Any = create_generator(AudioSealWMConfig(size.nbits, size.seanet(), decoder))
        self.detector: Any = create_detector(AudioSealDetectorConfig(size.nbits, size.seanet()))
        self.apply(_keep_variance)

    def raw_mark(self, wave: Tensor, messages: Tensor) -> Tensor:
        """The generator's mark before its level is set.

        Args:
            wave: float32[batch, samples] at 16 kHz.
            messages: int64[batch, frames, nbits] of 0 and 1: one message for each `size.hop` samples, the last frame
                possibly not full; so frames = ceil(samples / hop). Change it at group borders only (`GROUP_FRAMES`).

        Returns:
            float32[batch, samples].

        Raises:
            ValueError: `messages` has another number of frames.
        """
        hidden = self.generator.encoder(self._heard(wave))
        if messages.shape[1] != hidden.shape[2]:
            raise ValueError(f"{messages.shape[1]} messages for {hidden.shape[2]} frames")
        # AudioSeal's own MsgProcessor sums one embedding for each bit too, but for one message in all.
        table = self.generator.msg_processor.msg_processor.weight
        zeros, ones = table[::2], table[1::2]
        spoken = zeros.sum(dim=0) + messages.to(table.dtype) @ (ones - zeros)
        mark: Tensor = self.generator.decoder(hidden + spoken.transpose(1, 2))
        return mark[:, 0, : wave.shape[-1]]

    def look(self, wave: Tensor, rows: int | None = None) -> Tensor:
        """The detector's raw logits for each sample.

        Args:
            wave: float32[batch, samples] at 16 kHz.
            rows: How many of the rows are asked for; all by default.

        Returns:
            float32[batch, 2 + nbits, samples]: absent, present, then one row for each bit.
        """
        encoder, last = self.detector.detector
        # Nothing but these two linear layers stands between a latent frame and its samples' logits. As one layer they
        # need no 32 channels for each sample, which cost more than a third of the whole.
        read, spread = last.weight[:rows, :, 0], encoder.reverse_convolution
        weight = torch.einsum("iok,ro->irk", spread.weight, read)
        bias = read @ spread.bias + last.bias[:rows]
        hidden = encoder.model(self._heard(wave))
        logits = functional.conv_transpose1d(hidden, weight, bias, stride=spread.stride)
        return logits[..., : wave.shape[-1]]

    def _heard(self, wave: Tensor) -> Tensor:
        return (whitened(wave) if self.size.whiten else wave).unsqueeze(1)


def _keep_variance(module: nn.Module) -> None:
    """He initialisation: PyTorch's own shrinks the signal layer by layer until ELU is linear and nothing learns."""
    if isinstance(module, nn.Conv1d):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    elif isinstance(module, nn.ConvTranspose1d):
        # Each output sample of a transposed convolution is reached by kernel / stride taps only.
        fan_in = module.in_channels * module.kernel_size[0] / module.stride[0]
        nn.init.normal_(module.weight, std=(2.0 / fan_in) ** 0.5)
