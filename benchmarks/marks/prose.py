"""The report's words about clips and methods."""

from __future__ import annotations

from collections import Counter

import numpy as np

from benchmarks.marks.clips import CLIP_SECONDS
from benchmarks.marks.edits import ECHO_GAIN, ECHO_SECONDS, FILTER_ORDER
from benchmarks.marks.measure import SPEECH_DB
from benchmarks.marks.resynthesis import GRIFFIN_LIM_STEPS, MELS
from benchmarks.marks.rooms import DISTANCE, ROOM, RT60, direct_to_reverberant_db, room_response
from vivavoce.sound import SPEECH_RATE

ROOMS = 20  # responses that the mean level of the reverberation is taken from


def clips_of_run(clips: list[tuple[str, str, str]]) -> str:
    """Who speaks, and how much."""
    speakers = {(source, speaker) for _, speaker, source in clips}
    sources = Counter(source for source, _ in speakers)
    parts = ", ".join(f"{source} ({count} speaker{'s' * (count > 1)})" for source, count in sorted(sources.items()))
    return f"{len(clips)} clips of {CLIP_SECONDS} s by {len(speakers)} real speakers: {parts}."


def how() -> str:
    """How it was measured."""
    room = " x ".join(f"{side:g}" for side in ROOM)
    return f"""## How it was measured

- Clips are real speech that training was not given: Debian's prompts for the Asterisk exchange (CC BY-SA 3.0),
  `tests/data/speech`, and the LibriSpeech files that training holds out by a hash of their names (what the learned
  mark's weights began from is in their model card; the keyed mark is not trained). A speaker's short files are put one
  after the other; less than a clip of one speaker is repeated.
- Marked and looked at at 24 kHz, as the product does it. The 10 s are edited, then cut: 1 s and 3 s come from random
  places of the edited sound where the speech is no more than {-SPEECH_DB:g} dB below the clip. Crops are from anywhere.
- MP3 64 kbit/s, AAC and Opus 32 kbit/s, WAV and FLAC are the product's own encoders; the others are FFmpeg's and
  libsndfile's. GSM and mu-law are at 8 kHz.
- Noise is white, below the clip's power. Filters are Butterworth, {6 * FILTER_ORDER} dB an octave, without phase. The
  echo is {ECHO_GAIN:g} times as loud and {1000 * ECHO_SECONDS:g} ms late.
- Room reverb is simulated, since no package that installs here carries measured responses: image sources of random
  sign in a room of {room} m, {RT60:g} s until 60 dB below, mouth and microphone {DISTANCE[0]:g} to {DISTANCE[1]:g} m
  apart at random places, the direct sound {_direct():.0f} dB against the reverberation in the mean.
- Speed is resampling; stretch is FFmpeg's atempo (WSOLA); pitch is both, so that the length stays.
- Denoising is FFmpeg's `afftdn` and a spectral gate of ours; "our tokenizer" is the mini tokenizer's encoding and
  decoding; "mel" is a mel spectrogram of {MELS} bands made audible by {GRIFFIN_LIM_STEPS} steps of Griffin and Lim,
  in the place of a trained vocoder, which would bring weights of its own.
- Peers mark and look at the same clips, edited by the same code with the same random numbers. Looked for and left out:
  AWARE (PyPI `aware` 2.0.1 pins torch 2.7.1 and numpy 1.26, which would replace ours), SilentCipher and WavMark (their
  weights are fetched from a hub at first use), audiowmark (in no Debian release), VoiceSign (its licence forbids use in
  a service like this one), AudioSeal's published checkpoint (on a hub; ours is that architecture, trained anew)."""


def _direct() -> float:
    levels = [
        direct_to_reverberant_db(room_response(SPEECH_RATE, np.random.default_rng(n)), SPEECH_RATE)
        for n in range(ROOMS)
    ]
    return float(np.mean(levels))
