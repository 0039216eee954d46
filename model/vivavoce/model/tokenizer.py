"""Audio tokenizer (MiMo-Audio-Tokenizer architecture): 24 kHz speech to 8 of 20 codebooks at 25 Hz and back.

What is special about this model:
- A transformer on both sides and no convolutional pyramid: 100 Hz log-mel is halved by a strided convolution and
  halved again by a learned pooling, 25 Hz in the end; the decoder mirrors it up to a coarse mel at 100 Hz.
- The output of an early encoder layer is added to the last one's: phonetic detail beside meaning.
- Residual quantisation in float32, whatever the type of the model. Any first few codebooks decode.
- GroupNorm over a whole sequence in the decoder: the audio of a frame depends on the loudness of all others. Here it
  counts only a sequence's own frames, so a batch never changes its members, and a stream says what it normalised over.
- The vocoder predicts magnitude and phase of an inverse STFT with a look-ahead of 10 frames per layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from vivavoce.model.audio import MelFrontEnd, check_wave, resample
from vivavoce.model.checkpoint import fit_weights, load_config, load_weights
from vivavoce.model.codec import AudioDecoder, AudioEncoder
from vivavoce.model.errors import ModelError
from vivavoce.model.tokenizer_config import TokenizerConfig

SEGMENT = 6000  # mel frames (60 s) that are encoded on their own
LEFT_CONTEXT = 250  # code frames (10 s) that a stream keeps behind what was played, where nobody says how many
RIGHT_CONTEXT = 40  # code frames at most that a stream holds back until more come, or the end

# Book-keeping of codebook training; the published files carry it, inference does not use it.
TRAINING_BUFFERS = ("._codebook.cluster_size", "._codebook.embed_avg", "._codebook.inited")
WINDOW = "decoder.vocoder.head.istft.window"


@dataclass
class DecoderStream:
    """Where a stream of codes stands.

    Attributes:
        left: frames that are kept behind what was played.
        codes: int64[n, frames], what was received and is still needed; None before the first chunk.
        played: frames at the head of `codes` whose samples were already handed out.
        finished: the last chunk came.
    """

    left: int = LEFT_CONTEXT
    codes: Tensor | None = field(default=None, repr=False)
    played: int = 0
    finished: bool = False


class AudioTokenizer(nn.Module):
    """Encodes speech to codes and decodes codes to speech.

    Thread-safe for inference: nothing is kept between calls except in the stream that the caller holds.
    """

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = AudioEncoder(config)
        self.decoder = AudioDecoder(config)
        self.front_end = MelFrontEnd(config)

    @classmethod
    def from_pretrained(
        cls, folder: Path | str, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
    ) -> Self:
        """Load a published folder: `config.json` and one or several `*.safetensors`.

        Args:
            device: where the model is to live.
            dtype: type of the weights; codebooks stay float32.

        Raises:
            CheckpointError: the folder is incomplete or does not fit the architecture.
        """
        config = TokenizerConfig.parse(load_config(folder))
        weights = {name: tensor for name, tensor in load_weights(folder).items() if not name.endswith(TRAINING_BUFFERS)}
        weights.setdefault(WINDOW, torch.hann_window(config.nfft))
        with torch.device("meta"):  # no time lost on random weights
            model = cls(config)
        model = model.to_empty(device=device).to(dtype)
        fit_weights(model, weights, folder)
        return model.eval().requires_grad_(False)

    @property
    def sample_rate(self) -> int:
        """Hz of what is encoded and decoded."""
        return self.config.sampling_rate

    @property
    def frame_rate(self) -> float:
        """Code frames in one second."""
        return self.config.frame_rate

    @property
    def samples_per_frame(self) -> int:
        """Samples that one code frame decodes to."""
        return self.config.samples_per_frame

    @property
    def num_codebooks(self) -> int:
        """Codebooks that encoding fills."""
        return len(self.config.codebook_sizes)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.encoder.conv1.weight.device

    def mel(self, wave: Tensor, sample_rate: int | None = None) -> Tensor:
        """Log-mel float32[frames, n_mels] of wave[samples].

        Args:
            sample_rate: Hz of the wave; None for the tokenizer's own.

        Raises:
            ModelError: the wave is empty, not finite, or not mono; the rate is no rate.
        """
        check_wave(wave)
        rate = self.sample_rate if sample_rate is None else sample_rate
        if rate < 1:
            raise ModelError(f"{rate} is no sample rate")
        return self.front_end.mel(resample(wave.to(self.device), rate, self.sample_rate))

    def encode(self, wave: Tensor, sample_rate: int) -> Tensor:
        """Codes int64[num_codebooks, frames] of wave[samples] at `sample_rate` Hz.

        Raises:
            ModelError: as `mel`.
        """
        return self.encode_mel(self.mel(wave, sample_rate))

    def encode_mel(self, mel: Tensor) -> Tensor:
        """Codes int64[num_codebooks, frames] of mel[mel frames, n_mels].

        Raises:
            ModelError: the mel has another shape, is not finite, or is too short for one code frame.
        """
        return self.encoder.quantizer.encode(self.hidden(mel))

    def encode_batch(self, sequences: Sequence[Tensor], sample_rate: int | None = None) -> list[Tensor]:
        """Codes of several sequences of different lengths; each gets the codes that it gets alone.

        Args:
            sequences: waves [samples] or log-mels [mel frames, n_mels].
            sample_rate: Hz of the waves; None for the tokenizer's own.
        """
        return [self.encoder.quantizer.encode(hidden) for hidden in self.hidden_batch(sequences, sample_rate)]

    def hidden(self, mel: Tensor) -> Tensor:
        """Features [frames, width] of mel[mel frames, n_mels] before quantisation; errors as `encode_mel`."""
        return self._encode_segments(mel)

    def hidden_batch(self, sequences: Sequence[Tensor], sample_rate: int | None = None) -> list[Tensor]:
        """Features before quantisation; arguments as `encode_batch`."""
        # One by one: in a shared matrix product the last bits of a row depend on its neighbours, and where two codebook
        # entries are all but equally near, that changed a code (1 of 1020 in the reference vectors).
        return [self._encode_segments(item if item.ndim == 2 else self.mel(item, sample_rate)) for item in sequences]

    @torch.no_grad()
    def _encode_segments(self, mel: Tensor) -> Tensor:
        if mel.ndim != 2 or mel.shape[1] != self.config.n_mels:
            raise ModelError(f"a log-mel is [frames, {self.config.n_mels}]; this one is {list(mel.shape)}")
        if not bool(torch.isfinite(mel).all()):
            raise ModelError("the log-mel has values that are NaN or infinite")
        parts = [part for part in torch.split(mel.to(self.device), SEGMENT) if self.config.code_frames(len(part)) > 0]
        if not parts:
            raise ModelError(f"{mel.shape[0]} mel frames are too few for one code frame")
        return torch.cat([self.encoder(part[None])[0] for part in parts])

    def decode(self, codes: Tensor) -> Tensor:
        """Waveform float32[samples] of codes int64[n, frames], n from 1 to `num_codebooks`.

        Raises:
            ModelError: the codes have another shape or type, there are none, or one is out of its codebook's range.
        """
        return self.decode_batch([codes])[0]

    @torch.no_grad()
    def decode_batch(self, batch: Sequence[Tensor]) -> list[Tensor]:
        """Waveforms of several code sequences of different lengths; each sounds as it does alone."""
        if not batch:
            return []
        for codes in batch:
            self.check_codes(codes)
        features = [self.encoder.quantizer.decode(codes.to(self.device, torch.int64)) for codes in batch]
        waves = self.decoder(pad_sequence(features, batch_first=True), _lengths(features))
        return [wave[: self.decoder.samples(len(own))] for wave, own in zip(waves, features, strict=True)]

    def check_codes(self, codes: Tensor) -> None:
        """Refuse what is no code sequence: see `decode`."""
        if codes.ndim != 2 or codes.is_floating_point() or codes.dtype == torch.bool:
            raise ModelError(f"codes are int64[codebooks, frames]; these are {codes.dtype} {list(codes.shape)}")
        count, frames = codes.shape
        if not 1 <= count <= self.num_codebooks or frames == 0:
            raise ModelError(f"codes are [1 to {self.num_codebooks}, 1 or more]; these are {list(codes.shape)}")
        sizes = torch.tensor(self.config.codebook_sizes[:count], device=codes.device)[:, None]
        wrong = ((codes < 0) | (codes >= sizes)).nonzero()
        if len(wrong):
            book, frame = wrong[0].tolist()
            size = self.config.codebook_sizes[book]
            raise ModelError(f"code {int(codes[book, frame])} at frame {frame}: codebook {book} has {size} entries")

    @property
    def right_context(self) -> int:
        """Code frames that a stream holds back: as far as the decoder looks ahead, 40 at most."""
        ahead = self.config.look_ahead
        return RIGHT_CONTEXT if ahead is None else min(RIGHT_CONTEXT, ahead)

    def stream(self, left: int = LEFT_CONTEXT) -> DecoderStream:
        """A fresh state for `decode_chunk`, which keeps so many frames behind what was played."""
        return DecoderStream(left)

    def decode_chunk(self, codes: Tensor, state: DecoderStream, last: bool = False) -> Tensor:
        """Take in the next codes of a stream and give the samples that are ready.

        The decoder sees up to `state.left` frames behind the first frame not yet played, all that came since, and holds
        the newest `right_context` back, for it looks ahead. What comes out is exactly that part of `decode` of these
        frames: equal to `decode` of the whole when everything comes in one last chunk; otherwise the norms over the
        whole sequence have, at that moment, only this window to count.

        Args:
            codes: int64[n, frames], any number of frames; none only when `last`.
            state: from `stream`; changed by this call.
            last: nothing comes after; what was held back is given too.

        Returns:
            float32[samples], empty while nothing is ready.

        Raises:
            ModelError: as `decode`; or the stream is finished, or had another number of codebooks before.
        """
        return self.decode_chunks([(codes, state, last)])[0]

    def decode_chunks(self, chunks: Sequence[tuple[Tensor, DecoderStream, bool]]) -> list[Tensor]:
        """`decode_chunk` for several streams in one pass; each sounds as it does alone. No stream may come twice.

        Where one chunk is refused, no stream has changed.
        """
        windows = [self._received(codes, state) for codes, state, _ in chunks]
        frames = [window.shape[1] for window in windows]
        ready = [
            count if last else max(state.played, count - self.right_context)
            for count, (_, state, last) in zip(frames, chunks, strict=True)
        ]
        due = [index for index, (_, state, _) in enumerate(chunks) if ready[index] > state.played]
        samples = [torch.empty(0, device=self.device) for _ in chunks]
        for index, wave in zip(due, self.decode_batch([windows[index] for index in due]), strict=True):
            _, state, last = chunks[index]
            first = state.played * self.samples_per_frame
            samples[index] = wave[first:] if last else wave[first : ready[index] * self.samples_per_frame]
        for window, played, (_, state, last) in zip(windows, ready, chunks, strict=True):
            kept = max(0, played - state.left)
            state.codes, state.played, state.finished = window[:, kept:], played - kept, last
        return samples

    def _received(self, codes: Tensor, state: DecoderStream) -> Tensor:
        if state.finished:
            raise ModelError("the stream is finished")
        if codes.ndim != 2 or codes.shape[1]:
            self.check_codes(codes)
        codes = codes.to(self.device, torch.int64)
        if state.codes is None:
            return codes
        if codes.shape[0] != state.codes.shape[0]:
            raise ModelError(f"the stream has {state.codes.shape[0]} codebooks; this chunk has {codes.shape[0]}")
        return torch.cat((state.codes, codes), dim=1)


def _lengths(rows: Sequence[Tensor]) -> Tensor | None:
    """Own lengths of rows that are to be padded, None when there is nothing to pad."""
    lengths = [row.shape[0] for row in rows]
    return None if len(set(lengths)) == 1 else torch.tensor(lengths, device=rows[0].device)
