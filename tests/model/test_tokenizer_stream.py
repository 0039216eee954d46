"""A stream gives what `decode` gives of the frames that it may look at, once, in order, and completely."""

from __future__ import annotations

import pytest
import torch
from tests.model.tiny_tokenizer import random_codes, tiny
from torch import Tensor

from vivavoce.model import AudioTokenizer, ModelError
from vivavoce.model.tokenizer import LEFT_CONTEXT


@pytest.fixture(scope="module")
def tokenizer() -> AudioTokenizer:
    return tiny()


def _stream(tokenizer: AudioTokenizer, codes: Tensor, sizes: list[int]) -> list[Tensor]:
    state = tokenizer.stream()
    chunks = torch.split(codes, sizes, dim=1)
    return [tokenizer.decode_chunk(chunk, state, last=chunk is chunks[-1]) for chunk in chunks]


def test_one_last_chunk_is_decode(tokenizer: AudioTokenizer) -> None:
    codes = random_codes(tokenizer, 60)
    assert torch.equal(_stream(tokenizer, codes, [60])[0], tokenizer.decode(codes))


@pytest.mark.parametrize("sizes", [[1] * 45 + [55], [50, 50], [41, 1, 58], [100, 0], [99, 1]], ids=str)
def test_within_the_left_context_each_piece_is_of_all_frames_so_far(
    tokenizer: AudioTokenizer, sizes: list[int]
) -> None:
    """Up to 10 s nothing is forgotten: a piece is exactly that part of `decode` of everything received."""
    codes = random_codes(tokenizer, 100)
    received = played = 0
    for number, (size, piece) in enumerate(zip(sizes, _stream(tokenizer, codes, sizes), strict=True), start=1):
        received += size
        ready = received if number == len(sizes) else max(played, received - tokenizer.right_context)
        whole = tokenizer.decode(codes[:, :received])
        wanted = whole[played * 960 : ready * 960]
        assert torch.equal(piece, wanted)
        played = ready
    assert played == 100


def test_long_streams_forget_what_lies_ten_seconds_behind(tokenizer: AudioTokenizer) -> None:
    """Beyond the left context: exactly that part of `decode` of the window; the state does not grow."""
    codes = random_codes(tokenizer, 400)
    state = tokenizer.stream()
    tokenizer.decode_chunk(codes[:, :320], state)
    assert state.codes is not None and state.codes.shape[1] == LEFT_CONTEXT + tokenizer.right_context
    piece = tokenizer.decode_chunk(codes[:, 320:350], state)
    held_back = tokenizer.right_context
    window = tokenizer.decode(codes[:, 320 - held_back - LEFT_CONTEXT : 350])
    assert torch.equal(piece, window[LEFT_CONTEXT * 960 : (LEFT_CONTEXT + 30) * 960])
    rest = tokenizer.decode_chunk(codes[:, 350:], state, last=True)
    assert rest.shape[0] == (400 - 350 + held_back) * 960


def test_without_the_norms_over_the_sequence_a_stream_is_the_whole() -> None:
    """Held-back frames cover the look-ahead: take the norms over the sequence out, and pieces join to `decode`."""
    tokenizer = tiny(vocoder_attn_window_size=[40, 10])
    for upsampler in (tokenizer.decoder.dconv1, tokenizer.decoder.dconv2):
        upsampler.norm.forward = lambda x, lengths=None: x
    codes = random_codes(tokenizer, 130)
    pieces = torch.cat(_stream(tokenizer, codes, [45, 5, 30, 50]))
    assert (pieces - tokenizer.decode(codes)).abs().max() < 1e-4


def test_streams_do_not_disturb_each_other(tokenizer: AudioTokenizer) -> None:
    first, second = random_codes(tokenizer, 90, 1), random_codes(tokenizer, 90, 2)
    alone = _stream(tokenizer, first, [60, 30])
    one, two = tokenizer.stream(), tokenizer.stream()
    pieces = []
    for part in (slice(0, 60), slice(60, 90)):
        pieces.append(tokenizer.decode_chunk(first[:, part], one, last=part.stop == 90))
        tokenizer.decode_chunk(second[:, part], two, last=part.stop == 90)
    assert all(torch.equal(a, b) for a, b in zip(pieces, alone, strict=True))


@pytest.mark.parametrize(
    ("changes", "frames"),
    [
        (
            {"vocoder_num_layers": 4},
            11,
        ),  # 40 + 2 frames of mel, 4 to a code frame
        ({"vocoder_num_layers": 16}, 40),  # the published shape: 41, of which a stream waits for 40
        ({"vocoder_attn_window_size": [40, 0]}, 1),
        ({"vocoder_attn_window_size": [40, -1]}, 40),
    ],
)
def test_a_stream_holds_back_what_the_decoder_looks_ahead(changes: dict[str, object], frames: int) -> None:
    assert tiny(**changes).right_context == frames


def test_streams_in_one_pass_sound_as_alone(tokenizer: AudioTokenizer) -> None:
    """Streams of different lengths, one of them with nothing ready yet and one at its end."""
    sizes, last = (60, 3, 45), (False, False, True)
    codes = [random_codes(tokenizer, size, seed) for seed, size in enumerate(sizes)]
    alone = [tokenizer.decode_chunk(one, tokenizer.stream(), end) for one, end in zip(codes, last, strict=True)]
    streams = [tokenizer.stream() for _ in sizes]
    together = tokenizer.decode_chunks(list(zip(codes, streams, last, strict=True)))
    assert [len(one) // 960 for one in together] == [60 - tokenizer.right_context, 0, 45]
    assert all(torch.allclose(one, other, atol=1e-5) for one, other in zip(together, alone, strict=True))


def test_misuse_is_refused(tokenizer: AudioTokenizer) -> None:
    held_back = tokenizer.right_context
    codes = random_codes(tokenizer, held_back)
    state = tokenizer.stream()
    assert tokenizer.decode_chunk(codes, state).numel() == 0
    with pytest.raises(ModelError, match="6 codebooks"):
        tokenizer.decode_chunk(codes[:3], state)
    with pytest.raises(ModelError, match="codebook 0"):
        tokenizer.decode_chunk(codes - 99, state)
    assert tokenizer.decode_chunk(codes[:, :0], state, last=True).shape[0] == held_back * 960
    with pytest.raises(ModelError, match="finished"):
        tokenizer.decode_chunk(codes, state)
