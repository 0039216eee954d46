"""Shape of an audio tokenizer, read from the published `config.json` keys.

Strict: a missing size, an unknown key or a value that this architecture does not have is an error, so that no
checkpoint is ever run as something it is not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vivavoce.model.checkpoint import CheckpointError

Window = tuple[int, int]  # frames seen to the left and to the right of a frame; -1: all

# What published files carry and inference does not read: book-keeping of the exporting library, knobs of training,
# and `scale_embedding`, `max_audio_seconds`, which the published model declares but never applies to a signal.
IGNORED = {
    "_name_or_path",
    "architectures",
    "auto_map",
    "dtype",
    "max_audio_seconds",
    "model_type",
    "scale_embedding",
    "threshold_ema_dead_code",
    "torch_dtype",
    "transformers_version",
}
# Keys with one value that this architecture knows.
FIXED = {"position_embedding_type": "rope", "rope_type": "default", "vocoder_padding": "same"}
NORMS = ("LayerNorm", "RMSNorm")


@dataclass(frozen=True)
class StackShape:
    """Shape of one transformer stack of the tokenizer.

    Attributes:
        window: frames that attention sees left and right, -1 for all; a causal stack has 0 on the right.
    """

    layers: int
    width: int
    heads: int
    ffn: int
    window: Window
    activation: str
    norm: str
    rope_theta: float


@dataclass(frozen=True)
class TokenizerConfig:
    """Everything that shapes an audio tokenizer.

    Attributes:
        sampling_rate: Hz.
        nfft, hop_length, window_size: samples; the mel front end uses all three, the vocoder the first two.
        fmin, fmax: Hz; None stands for half the sampling rate.
        kernel_size, stride: of the encoder's convolutions.
        skip_layer: number of the encoder layer (from 1) whose output is added to the last one's; None for no skip.
        avg_pooler: encoder frames in one code frame.
        codebook_sizes: entries per codebook, one for each quantizer.
    """

    sampling_rate: int
    n_mels: int
    nfft: int
    hop_length: int
    window_size: int
    fmin: float
    fmax: float | None
    kernel_size: int
    stride: int
    skip_layer: int | None
    avg_pooler: int
    codebook_sizes: tuple[int, ...]
    encoder: StackShape
    decoder: StackShape
    decoder_kernel_size: int
    decoder_stride: int
    vocoder: StackShape

    @property
    def width(self) -> int:
        """Width of the quantised features."""
        return self.encoder.width

    @property
    def frame_rate(self) -> float:
        """Code frames in one second."""
        return self.sampling_rate / (self.hop_length * self.stride * self.avg_pooler)

    @property
    def samples_per_frame(self) -> int:
        """Samples that one code frame decodes to."""
        return self.hop_length * self.decoder_stride * self.avg_pooler

    @property
    def look_ahead(self) -> int | None:
        """Code frames ahead of a code frame that its samples depend on, norms aside; None where it is all of them."""
        ahead = (self.decoder.window[1], self.vocoder.window[1])
        if min(ahead) < 0:
            return None
        of_decoder = self.decoder.layers * ahead[0] / self.avg_pooler
        # An inverse STFT frame sounds up to half a frame before its centre.
        mel = self.vocoder.layers * ahead[1] + self.nfft / 2 / self.hop_length
        return math.ceil(of_decoder + mel / (self.decoder_stride * self.avg_pooler))

    def code_frames(self, mel_frames: int) -> int:
        """Code frames that `mel_frames` of one segment give; less than 1 when there are too few."""
        length = (mel_frames + 3 - self.kernel_size + 2 - self.kernel_size) // self.stride + 1
        return -(-length // self.avg_pooler)

    @classmethod
    def parse(cls, config: Mapping[str, Any]) -> TokenizerConfig:
        """Read the published keys.

        Raises:
            CheckpointError: a key is missing, unknown, or has a value that this architecture does not have.
        """
        reader = _Reader(config)
        try:
            parsed = cls(
                sampling_rate=reader.size("sampling_rate"),
                n_mels=reader.size("n_mels"),
                nfft=reader.size("nfft"),
                hop_length=reader.size("hop_length"),
                window_size=reader.size("window_size"),
                fmin=float(config.get(reader.seen("fmin"), 0)),
                fmax=config.get(reader.seen("fmax"), None),
                kernel_size=reader.size("kernel_size"),
                stride=reader.size("stride_size"),
                skip_layer=config.get(reader.seen("encoder_skip_layer_id"), None) or None,
                avg_pooler=reader.size("avg_pooler"),
                codebook_sizes=reader.codebooks(),
                encoder=reader.stack("encoder", "d_model", "encoder_ffn_dim", "encoder_layers"),
                decoder=reader.stack("decoder", "d_model", "decoder_ffn_dim", "decoder_layers"),
                decoder_kernel_size=reader.size("decoder_kernel_size"),
                decoder_stride=reader.size("decoder_stride_size"),
                vocoder=reader.stack("vocoder", "vocoder_dim", "vocoder_intermediate_dim", "vocoder_num_layers"),
            )
        except KeyError as error:
            raise CheckpointError(f"config.json: {error.args[0]} is missing") from error
        except (TypeError, ValueError) as error:
            raise CheckpointError(f"config.json: {error}") from error
        reader.finish()
        _check(parsed)
        return parsed


class _Reader:
    """Takes keys out of a configuration and remembers which."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = config
        self.taken = set(IGNORED)

    def seen(self, key: str) -> str:
        """Note that this key is known."""
        self.taken.add(key)
        return key

    def size(self, key: str) -> int:
        """A whole number from 1."""
        value = self.config.get(self.seen(key), None)
        if value is None:
            raise KeyError(key)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(f"{key} is {value!r}, not a whole number from 1")
        return value

    def codebooks(self) -> tuple[int, ...]:
        """Sizes of all codebooks: a list shorter than `num_quantizers` repeats its last entry."""
        count = self.size("num_quantizers")
        value = self.config.get(self.seen("codebook_size"), None)
        sizes = [value] if isinstance(value, int) else list(value or ())
        if not sizes or any(not isinstance(size, int) or size < 1 for size in sizes):
            raise ValueError(f"codebook_size is {value!r}")
        sizes += sizes[-1:] * (count - len(sizes))
        return tuple(sizes[:count])

    def window(self, part: str, causal: bool) -> Window:
        default = (40, 10) if part == "vocoder" else (-1, -1)
        left, right = self.config.get(self.seen(f"{part}_attn_window_size"), None) or default
        return int(left), 0 if causal else int(right)

    def stack(self, part: str, width: str, ffn: str, layers: str) -> StackShape:
        causal = part != "vocoder" and bool(self.config.get(self.seen(f"{part}_causal"), part == "decoder"))
        return StackShape(
            layers=self.size(layers),
            width=self.size(width),
            heads=self.size(f"{part}_attention_heads"),
            ffn=self.size(ffn),
            window=self.window(part, causal),
            activation=self.config.get(self.seen("activation_function"), "gelu"),
            norm=self.config.get(self.seen("ln_type"), "LayerNorm"),
            rope_theta=float(self.config.get(self.seen("rope_theta"), 10000)),
        )

    def finish(self) -> None:
        for key, value in FIXED.items():
            if self.config.get(self.seen(key), value) != value:
                raise CheckpointError(f"config.json: {key} {self.config[key]!r} is not part of this architecture")
        unknown = sorted(set(self.config) - self.taken)
        if unknown:
            raise CheckpointError(f"config.json: unknown keys: {', '.join(unknown)}")


def _check(config: TokenizerConfig) -> None:
    for name, stack in (("encoder", config.encoder), ("decoder", config.decoder), ("vocoder", config.vocoder)):
        if stack.width % stack.heads or stack.width // stack.heads % 2:
            raise CheckpointError(f"config.json: {name}: {stack.heads} heads do not divide width {stack.width} evenly")
        if stack.norm not in NORMS:
            raise CheckpointError(f"config.json: ln_type {stack.norm!r} is none of {', '.join(NORMS)}")
        if min(stack.window) < -1:
            raise CheckpointError(f"config.json: {name}: attention window {stack.window}")
    if config.skip_layer is not None and not 1 <= config.skip_layer <= config.encoder.layers:
        raise CheckpointError(f"config.json: encoder_skip_layer_id {config.skip_layer} is no encoder layer")
    if config.window_size > config.nfft:
        raise CheckpointError(f"config.json: window_size {config.window_size} exceeds nfft {config.nfft}")
    # The Hann window is zero at its first sample: without this much overlap the inverse STFT would divide by zero.
    if config.nfft % 2 or config.hop_length > config.nfft - 2:
        raise CheckpointError(f"config.json: nfft {config.nfft} must be even and exceed hop_length by 2 or more")


def published_config() -> TokenizerConfig:
    """The shape of the published `MiMo-Audio-Tokenizer`, for benches on random weights."""
    return TokenizerConfig.parse(
        {
            "sampling_rate": 24000, "n_mels": 128, "nfft": 960, "hop_length": 240, "window_size": 960,
            "kernel_size": 3, "stride_size": 2, "avg_pooler": 2, "d_model": 1280,
            "num_quantizers": 20, "codebook_size": [1024, 1024, 128],
            "encoder_layers": 32, "encoder_skip_layer_id": 3, "encoder_attention_heads": 20, "encoder_ffn_dim": 5120,
            "decoder_layers": 32, "decoder_attention_heads": 20, "decoder_ffn_dim": 5120,
            "decoder_kernel_size": 3, "decoder_stride_size": 2,
            "vocoder_num_layers": 16, "vocoder_dim": 256, "vocoder_intermediate_dim": 1024,
            "vocoder_attention_heads": 16, "vocoder_attn_window_size": [40, 10],
        }
    )  # fmt: skip
