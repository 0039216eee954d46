"""A voice is its speaker's own: compared with the consent's recording before anything is made with it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from vivavoce.consent.service import require_standing
from vivavoce.ledger.tables import Assurance, Job, Voice
from vivavoce.policy.likeness import Heard, settle
from vivavoce.sound import Samples
from vivavoce.verification.speakers import MODEL
from vivavoce.workers.host import Host

Recorded = tuple[Samples, int]


def require_own_voice(
    host: Host, job: Job, assurance: str, consent: Recorded, clips: Sequence[Recorded], now: datetime
) -> None:
    """Settle a job's voice if nobody has yet, and refuse it unless it is ready.

    Args:
        consent, clips: float32[n] and Hz of what the speaker said to consent, and of what the voice is made of.

    Raises:
        ConsentRefused: voice_review or voice_refused.
        VerifierMissing: Speakers cannot be compared here. Nothing passes without it.
    """
    with host.database.read() as session:
        standing = session.get_one(Voice, job.voice_id).standing
    if standing == "checking" and not host.settings.compare_speakers and assurance == Assurance.ATTESTED:
        return
    if standing == "checking":
        hear = host.listeners.speakers.vector
        heard = Heard(hear(*consent), [hear(*clip) for clip in clips], MODEL)
        with host.database.write() as session:
            actor = f"worker:{host.owner}"
            standing = settle(session, host.log, host.keyring, job.voice_id or "", heard, actor, now)
    require_standing(standing)
