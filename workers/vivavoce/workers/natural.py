"""No voice is founded on a sound of ours: what a person is to have said must carry no mark.

A consent recording or clip that this installation made itself would let a clone stand for its speaker. The detector
lives in workers, so the first job of a voice finds it out; nothing is made of such a voice, ever.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict

from sqlalchemy.orm import Session

from vivavoce.consent.creation import open_recording
from vivavoce.ledger.keys import KeyRing
from vivavoce.ledger.objects import ObjectStore
from vivavoce.ledger.tables import Consent, Job, Subject
from vivavoce.policy.errors import PolicyRefused
from vivavoce.sound import Samples, decode
from vivavoce.watermark import Marker, Verdict

_REMEMBERED = 1000
"""Recordings whose answer is kept, so that each is listened to once by each worker."""
_OURS = (Verdict.OURS, Verdict.OURS_MODIFIED)


class Natural:
    """Listens to the recordings behind a voice. Safe to share among threads: at worst two listen to the same one."""

    def __init__(self, marker: Marker) -> None:
        self._marker = marker
        self._marked: OrderedDict[bytes, bool] = OrderedDict()

    def require(self, samples: Samples, sample_rate: int) -> None:
        """Refuse a recording that carries our mark; raises `PolicyRefused`: recording_is_generated."""
        if self.is_ours(samples, sample_rate):
            detail = "a recording behind this voice carries our own mark: it was generated, and nobody spoke it"
            raise PolicyRefused("recording_is_generated", detail)

    def is_ours(self, samples: Samples, sample_rate: int) -> bool:
        """Whether a recording, float32[n], mono, carries our mark, edited or not."""
        key = hashlib.sha256(f"{sample_rate}:".encode() + samples.tobytes()).digest()
        marked = self._marked.get(key)
        if marked is None:
            marked = self._marker.detect(samples, sample_rate).verdict in _OURS
            self._marked[key] = marked
            while len(self._marked) > _REMEMBERED:
                self._marked.popitem(last=False)
        return marked


def consent_recording(session: Session, job: Job, store: ObjectStore, keyring: KeyRing) -> tuple[Samples, int]:
    """Read and unseal what the speaker of a job's voice said to give their consent.

    Raises:
        Erased: The speaker has left.
        SealBroken: It is not the recording that was handed in.
        ObjectMissing: It is gone.
    """
    subject = session.get_one(Subject, job.subject_id)
    consent = session.get_one(Consent, job.consent_id)
    sound = decode(open_recording(consent, subject, store, keyring))
    return sound.samples, sound.sample_rate
