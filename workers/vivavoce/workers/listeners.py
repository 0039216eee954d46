"""The models that verify recordings, each loaded when it is first needed."""

from __future__ import annotations

import threading

from vivavoce.sound import Samples
from vivavoce.verification.speakers import SpeakerVerifier
from vivavoce.verification.transcription import Transcriber, Transcript


class Listeners:
    """Who hears speakers and words. Safe to share among threads."""

    def __init__(self) -> None:
        self._loading, self._writing = threading.Lock(), threading.Lock()
        self._speakers: SpeakerVerifier | None = None
        self._words: Transcriber | None = None

    @property
    def speakers(self) -> SpeakerVerifier:
        """Compares speakers; raises `VerifierMissing`."""
        with self._loading:
            self._speakers = self._speakers or SpeakerVerifier.open()
            return self._speakers

    def words(self, samples: Samples, sample_rate: int, language: str) -> Transcript:
        """Write down what is said, one recording at a time; raises `VerifierMissing`."""
        with self._writing:
            self._words = self._words or Transcriber.open()
            return self._words.transcribe(samples, sample_rate, language)
