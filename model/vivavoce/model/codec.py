"""Encoder (log-mel to features before quantisation) and decoder (features to waveform) of the tokenizer."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vivavoce.model.attention import LayerStack, clear_padding, make_norm, own_frames
from vivavoce.model.quantizer import ResidualQuantizer
from vivavoce.model.tokenizer_config import TokenizerConfig
from vivavoce.model.vocoder import Vocoder


class AudioEncoder(LayerStack):
    """Two convolutions, a transformer with a skip from an early layer, a learned pooling; holds the quantizer."""

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__(config.encoder)
        self.config = config
        width, kernel, pool = config.width, config.kernel_size, config.avg_pooler
        self.conv1 = nn.Conv1d(config.n_mels, width, kernel, padding=1)
        self.conv2 = nn.Conv1d(width, width, kernel, stride=config.stride, padding=1)
        if pool != 1:
            self.down_sample_layer = nn.Sequential(nn.Conv1d(width, width, pool, stride=pool, bias=False), nn.GELU())
            self.down_sample_norm = make_norm(config.encoder)
        self.quantizer = ResidualQuantizer(config.codebook_sizes, width)

    def forward(self, mel: Tensor) -> Tensor:
        """Features [rows, code frames, width] of log-mel segments [rows, mel frames, n_mels] of equal length."""
        x = mel.to(self.conv1.weight.dtype).transpose(1, 2)
        x = F.gelu(self.conv2(F.gelu(self.conv1(x)))).transpose(1, 2)
        x = self.transform(x, None, self.config.skip_layer)
        pool = self.config.avg_pooler
        if pool == 1:
            return x
        x = F.pad(x, (0, 0, 0, -x.shape[1] % pool))
        return torch.as_tensor(self.down_sample_norm(self.down_sample_layer(x.transpose(1, 2)).transpose(1, 2)))


class OwnGroupNorm(nn.GroupNorm):
    """GroupNorm(1) whose statistics count only a row's own frames, in float32."""

    def __init__(self, channels: int) -> None:
        super().__init__(1, channels)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Normalise x[rows, channels, frames]; `lengths` int64[rows] or None when no row is padded."""
        wide = x.float()
        own = torch.ones((1, x.shape[2]), dtype=torch.bool, device=x.device)
        if lengths is not None:
            own = own_frames(lengths, x.shape[2])
        own = own[:, None]
        count = own.sum(-1, keepdim=True) * x.shape[1]
        mean = torch.where(own, wide, 0).sum((1, 2), keepdim=True) / count
        centred = wide - mean
        variance = torch.where(own, centred, 0).square().sum((1, 2), keepdim=True) / count
        normal = (centred * torch.rsqrt(variance + self.eps)).to(x.dtype)
        return normal * self.weight[:, None] + self.bias[:, None]


class Upsampler(nn.Module):
    """Transposed convolution, norm over the whole sequence, and the tail beyond `stride` per frame cut off."""

    def __init__(self, width_in: int, width_out: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose1d(width_in, width_out, kernel, stride)
        self.norm = OwnGroupNorm(width_out)
        self.kernel, self.stride = kernel, stride
        self.tail = max(0, kernel - stride)

    def forward(self, x: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Map x[rows, frames, width_in] to [rows, more frames, width_out] and the new lengths."""
        x = self.conv(clear_padding(x, lengths).transpose(1, 2))
        if lengths is not None:
            lengths = (lengths - 1) * self.stride + self.kernel
        # The published model takes the statistics before it cuts the tail off.
        x = self.norm(x, lengths)[:, :, : x.shape[2] - self.tail]
        return x.transpose(1, 2), None if lengths is None else lengths - self.tail

    def frames(self, count: int) -> int:
        """Frames that `count` frames become."""
        return (count - 1) * self.stride + self.kernel - self.tail


class AudioDecoder(LayerStack):
    """Upsampling, a (causal) transformer, upsampling to a coarse mel, and the vocoder."""

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__(config.decoder)
        width, pool = config.width, config.avg_pooler
        self.dconv1 = Upsampler(width, width, pool, pool) if pool != 1 else None
        self.dconv2 = Upsampler(width, config.n_mels, config.decoder_kernel_size, config.decoder_stride)
        self.vocoder = Vocoder(config)

    def coarse_mel(self, features: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Coarse mel [rows, mel frames, n_mels] of features [rows, code frames, width], and its lengths."""
        x = features.to(self.dconv2.conv.weight.dtype)
        if self.dconv1 is not None:
            x, lengths = self.dconv1(x, lengths)
        mel, lengths = self.dconv2(self.transform(x, lengths), lengths)
        return mel, lengths

    def forward(self, features: Tensor, lengths: Tensor | None) -> Tensor:
        """Waveforms float32[rows, samples] of features [rows, code frames, width], padded on the right."""
        return torch.as_tensor(self.vocoder(*self.coarse_mel(features, lengths)))

    def samples(self, frames: int) -> int:
        """Samples that `frames` code frames decode to."""
        if self.dconv1 is not None:
            frames = self.dconv1.frames(frames)
        return self.vocoder.head.istft.samples(self.dconv2.frames(frames))
