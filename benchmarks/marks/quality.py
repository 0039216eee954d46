"""How the marked speech sounds next to the unmarked: SI-SNR, PESQ, STOI."""

from __future__ import annotations

from vivavoce.release.marking import si_snr_db
from vivavoce.sound import SPEECH_RATE, Samples, resample

WIDEBAND = 16_000  # Hz: what PESQ-WB (ITU-T P.862.2) is defined at


def quality(clean: Samples, marked: Samples) -> dict[str, float | None]:
    """SI-SNR in dB, PESQ-WB (1 to 4.64) and STOI (Taal et al. 2011) of float32[n] at 24 kHz, PESQ and STOI at 16 kHz.

    PESQ and STOI are None where their packages (`pip install -e '.[bench]'`) are not there.
    """
    figures: dict[str, float | None] = {"si_snr": si_snr_db(clean, marked), "pesq": None, "stoi": None}
    try:
        import pesq
        import pystoi
    except ImportError:
        return figures
    reference, degraded = (resample(wave, SPEECH_RATE, WIDEBAND) for wave in (clean, marked))
    figures["pesq"] = float(pesq.pesq(WIDEBAND, reference, degraded, "wb"))
    figures["stoi"] = float(pystoi.stoi(reference, degraded, WIDEBAND))
    return figures
