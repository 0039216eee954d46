"""Makes the sounds that say aloud that a voice is artificial: `python scripts/make_disclosures.py GRAPH VOCAB VOICES`.

Kokoro-82M (Apache-2.0; where it comes from is in the voice model's card) reads the phones that espeak-ng (Debian's
package) gives. The sound files are committed; this is how they were made. Languages in which whisper base did not
understand the result are left out.
"""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import soundfile

from vivavoce.model.training.synth.teacher import SAMPLE_RATE, Teacher

OUT = Path(__file__).parents[1] / "safety/vivavoce/release/disclosures"
LEVEL = 0.08  # root mean square, full scale 1
SLOWNESS = 0.9
# Language: espeak's voice, Kokoro's voice, sentence.
SENTENCES = {
    "en": ("en-us", "af_heart", "This is an artificial voice."),
    "es": ("es", "ef_dora", "Esta es una voz artificial."),
    "fr": ("fr", "ff_siwis", "Ceci est une voix artificielle."),
    "hi": ("hi", "hf_alpha", "यह एक कृत्रिम आवाज़ है।"),
    "it": ("it", "if_sara", "Questa è una voce artificiale."),
    "pt": ("pt-br", "pf_dora", "Esta é uma voz artificial."),
}


def phones(voice: str, sentence: str, known: set[str]) -> list[str]:
    """Letters of IPA that the teacher knows."""
    said = subprocess.run(  # noqa: S603
        [shutil.which("espeak-ng") or "espeak-ng", "-q", "--ipa", "-v", voice, sentence],
        capture_output=True,
        check=True,
        text=True,
    )
    said = re.sub(r"\([a-z-]+\)", "", " ".join(said.stdout.split())).replace("ɚ", "ɹ").replace("g", "ɡ")
    return [*(letter for letter in said if letter in known), "."]


def main() -> None:
    """Write one file a language."""
    graph, vocabulary, voices = map(Path, sys.argv[1:])
    teacher, known = Teacher(graph, vocabulary), set(json.loads(vocabulary.read_text())["vocab"])
    OUT.mkdir(exist_ok=True)
    for language, (voice, style, sentence) in SENTENCES.items():
        letters = phones(voice, sentence, known)
        table = np.fromfile(voices / f"{style}.bin", dtype=np.float32).reshape(-1, 1, 256)
        wave = teacher.say(letters, table[len(letters)], SLOWNESS).wave
        heard = np.flatnonzero(np.abs(wave) > 0.01)
        wave = wave[heard[0] : heard[-1] + 1]
        wave = np.clip(wave * (LEVEL / np.sqrt(np.mean(np.square(wave)))), -1, 1)
        soundfile.write(OUT / f"{language}.flac", wave, SAMPLE_RATE, subtype="PCM_16")


if __name__ == "__main__":
    main()
