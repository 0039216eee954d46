"""Sizes and special ids of the patch language model, read from a checkpoint folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from vivavoce.model.checkpoint import CheckpointError, load_config
from vivavoce.model.text_tokenizer import TextTokenizer


@dataclass(frozen=True)
class StackConfig:
    """Shape of one Qwen2 stack."""

    layers: int
    width: int
    ffn: int
    heads: int
    kv_heads: int
    head_dim: int
    rope_theta: float
    norm_eps: float
    context: int


@dataclass(frozen=True)
class SpecialIds:
    """Text ids with a meaning of their own.

    `<|empty|>` marks a speech group; `<|sosp|>`, `<|eosp|>` enclose audio of the prompt; `<|sostm|>`, `<|eostm|>`
    enclose generated speech; `<|eot|>` ends the text inside it.
    """

    sosp: int
    eosp: int
    sostm: int
    eostm: int
    eot: int
    empty: int


@dataclass(frozen=True)
class LMConfig:
    """Everything that shapes a patch language model.

    Attributes:
        backbone, encoder, decoder: the LLM, the patch encoder and the patch decoder.
        vocab: number of text ids.
        tied: `lm_head` is the text embedding.
        group_size: frames in one patch.
        code_sizes, zero_ids, delays: per channel: vocabulary, id that stands for "no code", first decoder step.
        encoder_sees_all: the patch encoder is bidirectional.
    """

    backbone: StackConfig
    encoder: StackConfig
    decoder: StackConfig
    vocab: int
    tied: bool
    group_size: int
    code_sizes: tuple[int, ...]
    zero_ids: tuple[int, ...]
    delays: tuple[int, ...]
    encoder_sees_all: bool

    @property
    def channels(self) -> int:
        """Number of codebooks that the model reads and writes."""
        return len(self.code_sizes)

    @property
    def decoder_steps(self) -> int:
        """Steps of the patch decoder for one patch."""
        return self.group_size + max(self.delays)

    @classmethod
    def parse(cls, config: Mapping[str, Any]) -> LMConfig:
        """Read the published `config.json` keys; what a file may leave out has Qwen2's defaults.

        Raises:
            CheckpointError: a key is missing, inconsistent, or asks for what this architecture does not have.
        """
        try:
            parsed = cls(
                backbone=_backbone(config),
                encoder=_local(config, "input_local_layers", _encoder_width(config), 4 * _encoder_width(config)),
                decoder=_local(config, "local_layers", config["local_dim"], config["local_ffn_dim"]),
                vocab=config["vocab_size"],
                tied=bool(config.get("tie_word_embeddings", False)),
                group_size=config["group_size"],
                code_sizes=_per_channel(config, "speech_vocab_size"),
                zero_ids=_per_channel(config, "speech_zeroemb_idx"),
                delays=_per_channel(config, "delay_pattern"),
                encoder_sees_all=bool(config.get("input_full_attention")),
            )
        except KeyError as error:
            raise CheckpointError(f"config.json: {error.args[0]} is missing") from error
        _check(parsed, config)
        return parsed


def _backbone(config: Mapping[str, Any]) -> StackConfig:
    heads = config["num_attention_heads"]
    return StackConfig(
        layers=config["num_hidden_layers"],
        width=config["hidden_size"],
        ffn=config["intermediate_size"],
        heads=heads,
        kv_heads=config.get("num_key_value_heads") or heads,
        head_dim=config.get("head_dim") or config["hidden_size"] // heads,
        rope_theta=float(config.get("rope_theta", 10000.0)),
        norm_eps=float(config.get("rms_norm_eps", 1e-6)),
        context=config.get("max_position_embeddings", 32768),
    )


def _encoder_width(config: Mapping[str, Any]) -> int:
    return int(config.get("input_local_dim") or config["local_dim"])


def _local(config: Mapping[str, Any], layers_key: str, width: int, ffn: int) -> StackConfig:
    heads = config["local_attn_heads"]
    if width % heads:
        raise CheckpointError(f"config.json: width {width} does not divide into {heads} heads")
    return StackConfig(
        layers=config[layers_key],
        width=width,
        ffn=ffn,
        heads=heads,
        kv_heads=heads,
        head_dim=width // heads,
        rope_theta=float(config.get("rope_theta", 10000.0)),
        norm_eps=float(config.get("rms_norm_eps", 1e-6)),
        context=config.get("max_position_embeddings", 32768),
    )


def _per_channel(config: Mapping[str, Any], key: str) -> tuple[int, ...]:
    """A list that the published files write as "a-b-c", or as one number for all channels."""
    channels = int(config["audio_channels"])
    value = config[key]
    if isinstance(value, str):
        parts = [int(part) for part in value.split("-")]
    else:
        parts = [int(part) for part in value] if isinstance(value, list) else [int(value)]
    if len(parts) == 1:
        parts *= channels
    if len(parts) != channels:
        raise CheckpointError(f"config.json: {key} has {len(parts)} entries for {channels} channels")
    return tuple(parts)


def _check(parsed: LMConfig, config: Mapping[str, Any]) -> None:
    if config.get("hidden_act", "silu") != "silu":
        raise CheckpointError(f"config.json: hidden_act {config['hidden_act']!r} is not part of this architecture")
    if config.get("use_sliding_window"):
        raise CheckpointError("config.json: sliding-window attention is not part of this architecture")
    if parsed.backbone.heads % parsed.backbone.kv_heads:
        raise CheckpointError("config.json: num_key_value_heads does not divide num_attention_heads")
    for channel, (size, zero, delay) in enumerate(zip(parsed.code_sizes, parsed.zero_ids, parsed.delays, strict=True)):
        if not 0 <= zero < size or delay < 0:
            raise CheckpointError(f"config.json: channel {channel} has zero id {zero} of {size}, delay {delay}")


def read_lm_folder(folder: Path | str) -> tuple[LMConfig, SpecialIds]:
    """Read sizes and special ids of a checkpoint folder.

    Two layouts: the published one (a flat `config.json`; ids by name in `tokenizer.json`), and that of the
    reference vectors (`{"model": ..., "special_tokens": {"empty_idx": ...}}`).
    """
    config = load_config(folder)
    names = [field.name for field in fields(SpecialIds)]
    if "model" in config:
        special = config.get("special_tokens", {})
        missing = [name for name in names if f"{name}_idx" not in special]
        if missing:
            raise CheckpointError(f"{folder}: special_tokens lacks {', '.join(missing)}")
        ids = SpecialIds(**{name: int(special[f"{name}_idx"]) for name in names})
        parsed = LMConfig.parse(config["model"])
    else:
        tokenizer = TextTokenizer.from_pretrained(folder)
        ids = SpecialIds(**{name: tokenizer.special(f"<|{name}|>") for name in names})
        parsed = LMConfig.parse(config)
    if any(not 0 <= getattr(ids, name) < parsed.vocab for name in names):
        raise CheckpointError(f"{folder}: a special id lies outside the text vocabulary of {parsed.vocab}")
    return parsed, ids
