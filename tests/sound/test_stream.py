"""Files of any length, block by block: the same samples and the same errors as in one piece, in bounded memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import soundfile

from vivavoce.sound import Format, SoundError, decode, encode, open_sound

RATE = 16_000
SPOKEN = (np.random.default_rng(0).normal(0, 0.1, 25 * RATE)).astype(np.float32)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("sounds")
    for form in ("wav", "flac", "mp3", "opus", "aac"):
        (folder / f"a.{form}").write_bytes(encode(SPOKEN, RATE, cast("Format", form)))
    return {path.suffix[1:]: path for path in folder.iterdir()}


@pytest.mark.parametrize("form", ["wav", "flac", "mp3", "opus", "aac"])
def test_blocks_of_a_file_are_its_samples(files: dict[str, Path], form: str) -> None:
    """From the path, from the bytes, and in one piece; all blocks but the last are 10 s long."""
    whole = decode(files[form].read_bytes())
    for source in (files[form], files[form].read_bytes()):
        stream = open_sound(source)
        blocks = list(stream.blocks)
        assert [len(block) for block in blocks[:-1]] == [10 * stream.sample_rate] * 2
        assert 0 < len(blocks[-1]) <= 10 * stream.sample_rate
        assert all(block.dtype == np.float32 for block in blocks)
        np.testing.assert_array_equal(np.concatenate(blocks), whole.samples)
        assert (stream.sample_rate, stream.channels) == (whole.sample_rate, whole.channels)


@pytest.mark.parametrize("name", ["a.raw", "a.txt", "concat:a.wav", "a"])
def test_the_name_of_a_file_is_not_believed(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(encode(SPOKEN[:RATE], RATE, "wav"))
    assert sum(map(len, open_sound(path).blocks)) == RATE


def test_a_file_that_breaks_off_says_so_where_it_breaks(tmp_path: Path, files: dict[str, Path]) -> None:
    """What came before was given; whoever asked for all of it hears of the end. FLAC alone states its samples."""
    path = tmp_path / "cut.flac"
    data = files["flac"].read_bytes()
    path.write_bytes(data[: len(data) * 9 // 10])
    given = []
    with pytest.raises(SoundError) as caught:
        given.extend(open_sound(path).blocks)
    assert caught.value.code == "truncated"
    assert len(given) == 2


def test_a_hole_late_in_a_file_is_found(tmp_path: Path) -> None:
    samples = np.array(SPOKEN)
    samples[-100] = np.nan
    soundfile.write(tmp_path / "a.wav", samples, RATE, subtype="FLOAT")
    with pytest.raises(SoundError) as caught:
        list(open_sound(tmp_path / "a.wav").blocks)
    assert caught.value.code == "not_finite"


@pytest.mark.parametrize(("content", "code"), [(b"", "empty"), (b"no sound" * 100, "not_audio")])
def test_what_is_no_sound_is_refused_at_once(tmp_path: Path, content: bytes, code: str) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(content)
    for source in (path, content):
        with pytest.raises(SoundError) as caught:
            open_sound(source)
        assert caught.value.code == code
    with pytest.raises(OSError, match="nowhere"):
        open_sound(tmp_path / "nowhere")


def test_too_long_a_file_is_refused_before_it_is_read(files: dict[str, Path]) -> None:
    with pytest.raises(SoundError) as caught:
        open_sound(files["wav"], max_seconds=24.9)
    assert caught.value.code == "too_long"
    with pytest.raises(SoundError) as late:  # MP3 states no length that could be believed
        list(open_sound(files["mp3"], max_seconds=24).blocks)
    assert late.value.code == "too_long"


READ = """
import resource, sys
from pathlib import Path
from vivavoce.sound import open_sound
read = lambda path: sum(map(len, open_sound(Path(path)).blocks))
read(sys.argv[1])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(read(sys.argv[2]), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.parametrize("form", ["flac", "aac"])
def test_an_hour_needs_no_more_memory_than_half_a_minute(tmp_path: Path, files: dict[str, Path], form: str) -> None:
    """Under 10 MB more, where the samples of an hour are 230 MB: both decoders, from the path."""
    path = tmp_path / f"hour.{form}"
    if form == "flac":
        with soundfile.SoundFile(path, "w", RATE, 1, "PCM_16") as file:
            for _ in range(144):
                file.write(SPOKEN)
    else:  # AAC in ADTS is frames and nothing else
        path.write_bytes(encode(SPOKEN, RATE, "aac") * 144)
    command = [sys.executable, "-c", READ, str(files["flac"]), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    samples, grown = map(int, done.stdout.split())
    assert samples >= 144 * len(SPOKEN)
    assert grown < 10_000  # kB
