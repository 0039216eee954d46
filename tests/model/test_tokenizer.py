"""The tokenizer's promises: parity with the reference, batches that change nobody, and clear refusals."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from benchmarks import parity
from safetensors.torch import load_file, save_file
from tests.model.tiny_tokenizer import SHAPES, random_codes, random_mel, tiny

from vivavoce.model import AudioTokenizer, ModelError
from vivavoce.model.checkpoint import CheckpointError
from vivavoce.model.tokenizer_config import published_config

VECTORS = Path(__file__).parents[1] / "data" / "vectors" / "tokenizer-a"
shapes = pytest.mark.parametrize("changes", SHAPES.values(), ids=SHAPES.keys())


@pytest.fixture(scope="module")
def reference() -> AudioTokenizer:
    return AudioTokenizer.from_pretrained(VECTORS)


def test_reference_vectors() -> None:
    """Codes as the reference's, everything else within 1e-4; alone and in a batch."""
    failed = [row for row in parity.rows(VECTORS) if not row.passed]
    assert failed == []


def test_parity_notices_a_wrong_model(tmp_path: Path) -> None:
    """The measure can fail: one bias off by 0.01."""
    for file in ("config.json", "vectors.safetensors"):
        (tmp_path / file).write_bytes((VECTORS / file).read_bytes())
    weights = load_file(VECTORS / "model.safetensors")
    weights["encoder.layers.0.fc1.bias"] += 0.01
    save_file(weights, tmp_path / "model.safetensors")
    assert {row.what for row in parity.rows(tmp_path) if not row.passed} >= {"hidden", "codes"}


@shapes
def test_members_of_a_batch_are_as_alone(changes: dict[str, object]) -> None:
    """Padding leaves no trace in any shape: same codes, same audio to the last sample."""
    tokenizer = tiny(**changes)
    mels = [random_mel(tokenizer, frames, seed) for seed, frames in enumerate((96, 41, 68, 13))]
    for own, mel in zip(tokenizer.encode_batch(mels), mels, strict=True):
        assert torch.equal(own, tokenizer.encode_mel(mel))
    codes = [random_codes(tokenizer, frames, seed) for seed, frames in enumerate((30, 1, 17, 24))]
    for wave, own in zip(tokenizer.decode_batch(codes), codes, strict=True):
        alone = tokenizer.decode(own)
        assert wave.shape == alone.shape
        assert (wave - alone).abs().max() < 1e-5


@shapes
def test_lengths(changes: dict[str, object]) -> None:
    """The number of frames follows the published formula; a frame decodes to `samples_per_frame` samples."""
    tokenizer = tiny(**changes)
    config = tokenizer.config
    for frames in range(9, 40, 3):
        length = (frames + 3 - config.kernel_size + 2 - config.kernel_size) // config.stride + 1
        assert tokenizer.hidden(random_mel(tokenizer, frames)).shape == (-(-length // config.avg_pooler), 32)
    for frames in (1, 2, 9):
        wave = tokenizer.decode(random_codes(tokenizer, frames))
        assert wave.shape == (frames * tokenizer.samples_per_frame,)
        assert wave.dtype == torch.float32 and torch.isfinite(wave).all()


def test_more_codebooks_change_the_audio(reference: AudioTokenizer) -> None:
    """Each further codebook is heard, and any first few decode."""
    codes = load_file(VECTORS / "vectors.safetensors")["codes"]
    waves = [reference.decode(codes[:count]) for count in range(1, reference.num_codebooks + 1)]
    assert all((a - b).abs().max() > 1e-4 for a, b in pairwise(waves))


def test_causal_encoder_sees_no_future() -> None:
    """A later mel frame moves no feature before it, further than the two convolutions reach."""
    mel = random_mel(tiny(), 80)
    other = mel.clone()
    other[60:] += 1
    moved = {}
    for causal in (True, False):
        tokenizer = tiny(encoder_causal=causal)
        difference = (tokenizer.hidden(mel) - tokenizer.hidden(other)).abs().amax(1)
        moved[causal] = difference[:14].max()  # code frame 14 begins at mel frame 56; convolutions reach 3 further
    assert moved[True] == 0 and moved[False] > 1e-4


def test_skip_layer_counts_from_one() -> None:
    """Without later layers, skip layer 1 of 1 doubles what the norm gets; a norm cannot tell, other layers can."""
    mel = random_mel(tiny(), 40)
    hidden = [tiny(encoder_skip_layer_id=layer).hidden(mel) for layer in (None, 1, 2, 3)]
    assert all((a - b).abs().max() > 1e-4 for i, a in enumerate(hidden[:3]) for b in hidden[i + 1 : 3])
    # x + x before a layer norm is x: layer 3 is the last one, and its skip is no skip.
    assert (hidden[0] - hidden[3]).abs().max() < 1e-4


def test_long_audio_is_encoded_in_segments() -> None:
    """A mel of more than 6000 frames gives the codes of its segments, in `encode_mel` and in a batch."""
    tokenizer = tiny(encoder_attn_window_size=[50, 50])
    mel = random_mel(tokenizer, 6000 + 500)
    parts = [tokenizer.encode_mel(part) for part in (mel[:6000], mel[6000:])]
    assert torch.equal(tokenizer.encode_mel(mel), torch.cat(parts, dim=1))
    assert torch.equal(tokenizer.encode_batch([mel[:100], mel])[1], torch.cat(parts, dim=1))


def test_waves_of_any_rate_and_length(reference: AudioTokenizer) -> None:
    """Rates without a common divisor, and a wave shorter than one analysis window."""
    time = torch.arange(22051) / 22051
    codes = reference.encode(0.3 * torch.sin(2 * torch.pi * 220 * time), 22051)
    assert codes.shape == (12, 26)  # one second: 101 centred mel frames
    for samples in (1, 100, 480, 481):
        assert reference.encode(torch.zeros(samples), 24000).shape[1] >= 1


def test_codebooks_stay_exact_in_bfloat16(reference: AudioTokenizer) -> None:
    """A bfloat16 model quantises in float32 with the published entries."""
    rounded = AudioTokenizer.from_pretrained(VECTORS, dtype=torch.bfloat16)
    assert rounded.encoder.conv1.weight.dtype == torch.bfloat16
    for ours, exact in zip(rounded.encoder.quantizer.codebooks, reference.encoder.quantizer.codebooks, strict=True):
        assert torch.equal(ours.embed, exact.embed)
    vectors = load_file(VECTORS / "vectors.safetensors")
    features = vectors["hidden"]
    assert torch.equal(rounded.encoder.quantizer.encode(features), vectors["codes"])
    wave = rounded.decode(vectors["codes"])
    assert wave.dtype == torch.float32 and (wave - vectors["decoded"]).abs().max() < 0.02


@pytest.mark.parametrize(
    ("wave", "words"),
    [
        (torch.zeros(0), "empty"),
        (torch.zeros(2, 100), "one axis"),
        (torch.zeros(100, 40), "one axis"),  # a log-mel is no waveform
        (torch.zeros(1, 1, 100), "one axis"),
        (torch.tensor([0.0, float("nan")]), "NaN"),
        (torch.tensor([0.0, float("inf")]), "infinite"),
        (torch.zeros(100, dtype=torch.int16), "floating type"),
    ],
)
def test_refused_waves(reference: AudioTokenizer, wave: torch.Tensor, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        reference.encode(wave, 24000)


@pytest.mark.parametrize("rate", [0, -8000])
def test_refused_rates(reference: AudioTokenizer, rate: int) -> None:
    with pytest.raises(ModelError, match="sample rate"):
        reference.encode(torch.zeros(100), rate)


@pytest.mark.parametrize(
    "mel", [torch.zeros(0, 40), torch.zeros(10, 39), torch.zeros(40), torch.full((10, 40), float("nan"))]
)
def test_refused_mels(reference: AudioTokenizer, mel: torch.Tensor) -> None:
    with pytest.raises(ModelError):
        reference.encode_mel(mel)


@pytest.mark.parametrize(
    ("codes", "words"),
    [
        (torch.zeros(12, 0, dtype=torch.int64), "1 or more"),
        (torch.zeros(0, 5, dtype=torch.int64), "1 to 12"),
        (torch.zeros(13, 5, dtype=torch.int64), "1 to 12"),
        (torch.zeros(12, dtype=torch.int64), "codebooks, frames"),
        (torch.zeros(12, 5), "float32"),
        (torch.full((12, 5), -1), "code -1 at frame 0: codebook 0"),
        (torch.full((12, 5), 16), "code 16 at frame 0: codebook 2 has 16 entries"),
    ],
)
def test_refused_codes(reference: AudioTokenizer, codes: torch.Tensor, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        reference.decode(codes)


def test_codes_of_any_whole_number_type(reference: AudioTokenizer) -> None:
    codes = load_file(VECTORS / "vectors.safetensors")["codes"]
    for dtype in (torch.uint8, torch.int16, torch.int32):
        assert torch.equal(reference.decode(codes.to(dtype)), reference.decode(codes))


def test_a_wave_is_no_mel(reference: AudioTokenizer) -> None:
    """`encode_mel` takes [frames, n_mels] only: a wave handed to it is a mistake, not audio."""
    with pytest.raises(ModelError, match="log-mel"):
        reference.encode_mel(torch.zeros(24000))


def test_sharded_folder_is_the_same_model(tmp_path: Path, reference: AudioTokenizer) -> None:
    weights = load_file(VECTORS / "model.safetensors")
    names = sorted(weights)
    shards = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for file, own in shards.items():
        save_file({name: weights[name] for name in own}, tmp_path / file)
    index = {"weight_map": {name: file for file, own in shards.items() for name in own}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    (tmp_path / "config.json").write_bytes((VECTORS / "config.json").read_bytes())
    sharded = AudioTokenizer.from_pretrained(tmp_path)
    for name, tensor in reference.state_dict().items():
        assert torch.equal(tensor, sharded.state_dict()[name]), name
    (tmp_path / "b.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"b\.safetensors"):
        AudioTokenizer.from_pretrained(tmp_path)


@pytest.mark.parametrize("fault", ["missing", "left over", "misshapen"])
def test_weights_that_do_not_fit(tmp_path: Path, fault: str) -> None:
    weights = load_file(VECTORS / "model.safetensors")
    if fault == "missing":
        del weights["decoder.dconv2.norm.bias"]
    elif fault == "left over":
        weights["decoder.dconv3.bias"] = torch.zeros(3)
    else:
        weights["encoder.conv1.weight"] = torch.zeros(64, 40, 5)
    save_file(weights, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_bytes((VECTORS / "config.json").read_bytes())
    with pytest.raises(CheckpointError, match=r"dconv2\.norm\.bias|dconv3\.bias|conv1\.weight"):
        AudioTokenizer.from_pretrained(tmp_path)


def test_published_size_builds() -> None:
    """The published shape: 1.2 billion parameters, as its authors say, at 25 Hz."""
    with torch.device("meta"):
        tokenizer = AudioTokenizer(published_config())
    assert 1.2e9 < sum(parameter.numel() for parameter in tokenizer.parameters()) < 1.3e9
    assert tokenizer.frame_rate == 25 and tokenizer.samples_per_frame == 960 and tokenizer.num_codebooks == 20
