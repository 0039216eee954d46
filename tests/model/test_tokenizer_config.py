"""A configuration is understood whole, or refused by name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.model.tiny_tokenizer import BASE, tiny

from vivavoce.model.checkpoint import CheckpointError
from vivavoce.model.tokenizer_config import TokenizerConfig

VECTORS = Path(__file__).parents[1] / "data" / "vectors" / "tokenizer-a"


def test_all_published_keys_are_known() -> None:
    config = json.loads((VECTORS / "config.json").read_text())
    parsed = TokenizerConfig.parse(config | {"architectures": ["MiMoAudioTokenizer"], "torch_dtype": "float32"})
    assert parsed.frame_rate == 25 and parsed.samples_per_frame == 960
    assert parsed.encoder.window == (-1, -1) and parsed.decoder.window == (-1, 0)
    assert parsed.vocoder.window == (40, 10)


def test_short_list_of_codebooks_repeats_its_last_entry() -> None:
    def sizes(value: object) -> tuple[int, ...]:
        return TokenizerConfig.parse(BASE | {"codebook_size": value, "num_quantizers": 4}).codebook_sizes

    assert sizes([64, 16]) == (64, 16, 16, 16)
    assert sizes(32) == (32, 32, 32, 32)
    assert sizes([8, 7, 6, 5, 4]) == (8, 7, 6, 5)


def test_causal_forces_the_right_window_to_nothing() -> None:
    changes = {"encoder_causal": True, "encoder_attn_window_size": [5, 7], "decoder_attn_window_size": [4, 4]}
    parsed = TokenizerConfig.parse(BASE | changes)
    assert parsed.encoder.window == (5, 0) and parsed.decoder.window == (4, 0)


@pytest.mark.parametrize(
    "key", [key for key in BASE if key not in ("encoder_skip_layer_id", "vocoder_attn_window_size")]
)
def test_missing_keys_are_named(key: str) -> None:
    with pytest.raises(CheckpointError, match=key):
        TokenizerConfig.parse({name: value for name, value in BASE.items() if name != key})


@pytest.mark.parametrize(
    "change",
    [
        {"hybrid_attention": True},
        {"d_modell": 64},
        {"position_embedding_type": "learned"},
        {"rope_type": "yarn"},
        {"vocoder_padding": "center"},
        {"ln_type": "BatchNorm"},
        {"activation_function": "softmax"},
        {"encoder_attention_heads": 5},
        {"encoder_skip_layer_id": 4},
        {"encoder_attn_window_size": [-2, 3]},
        {"encoder_attn_window_size": 7},
        {"codebook_size": []},
        {"codebook_size": [16, 0]},
        {"num_quantizers": 0},
        {"hop_length": "240"},
        {"hop_length": 960},
        {"window_size": 961},
        {"avg_pooler": 0},
        {"d_model": True},
    ],
    ids=str,
)
def test_what_the_architecture_does_not_have_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(CheckpointError, match=r"config\.json"):
        tiny(**change)
