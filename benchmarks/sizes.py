"""`python -m benchmarks.sizes`: parameters and memory of the published 7B language model.

Builds the published shape on the meta device (no memory), counts the parameters of each part, and says what serving
needs in bfloat16. Where there is a CUDA device, the model is also built there with random weights and run.
"""

from __future__ import annotations

import time

import torch

from vivavoce.model.generation import Decoder
from vivavoce.model.grid import concatenate, join_grid, speech_groups, text_groups
from vivavoce.model.kv_blocks import blocks_for
from vivavoce.model.lm_config import LMConfig, SpecialIds
from vivavoce.model.patch_lm import PatchLM
from vivavoce.model.rows import Continuation
from vivavoce.model.sampling import SPEECH
from vivavoce.model.script import Script

PUBLISHED_7B = {
    "vocab_size": 151680,
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 36,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "max_position_embeddings": 8192,
    "rope_theta": 640000.0,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": False,
    "speech_vocab_size": "1025-1025-129-129-129-129-129-129",
    "speech_zeroemb_idx": "1024-1024-128-128-128-128-128-128",
    "delay_pattern": "0-1-2-3-4-5-6-7",
    "group_size": 4,
    "audio_channels": 8,
    "local_dim": 1024,
    "local_layers": 16,
    "local_attn_heads": 64,
    "local_ffn_dim": 4096,
    "input_local_layers": 6,
    "input_local_dim": 1024,
    "input_full_attention": True,
}
# Which ids these are is of no matter for sizes.
SPECIAL = SpecialIds(sosp=151665, eosp=151666, sostm=151670, eostm=151671, eot=151672, empty=151667)
BYTES = 2  # bfloat16
GIB = 2**30
PATCHES_PER_SECOND = 6.25
PARTS = {
    "LLM": ("model.", "lm_head."),
    "patch encoder": ("input_local_transformer.", "speech_embeddings.", "speech_group_downcast."),
    "patch decoder": (
        "local_transformer.",
        "local_transformer_lm_heads.",
        "speech_embeddings_to_local.",
        "hidden_states_downcast.",
    ),
}


def parameters_per_part(model: PatchLM) -> dict[str, int]:
    """Number of parameters of each part; together they are the whole model."""
    return {
        part: sum(weight.numel() for name, weight in model.named_parameters() if name.startswith(prefixes))
        for part, prefixes in PARTS.items()
    }


def cache_bytes_per_row(config: LMConfig) -> int:
    """Bytes of keys and values of one row at full context."""
    stack = config.backbone
    return 2 * stack.layers * stack.kv_heads * stack.head_dim * stack.context * BYTES


def run_on_gpu(config: LMConfig, rows: int = 8, groups: int = 50) -> None:
    """Run random weights: `rows` sequences, every group a patch, and print patches per second."""
    torch.set_default_dtype(torch.bfloat16)
    with torch.device("cuda"):
        model = PatchLM(config, SPECIAL).requires_grad_(False).eval()
    frames = torch.randint(0, min(config.zero_ids), (config.channels, 250))
    prompt = join_grid(concatenate([text_groups(range(100), config), speech_groups(frames, config, SPECIAL.empty)]))
    only_speech = Script(text_groups([SPECIAL.empty] * groups, config), torch.ones(groups, dtype=torch.bool))
    decoder = Decoder(model, rows, rows * blocks_for(prompt.shape[1] // config.group_size + groups))
    for _ in range(rows):
        decoder.join(Continuation(prompt, groups, SPEECH, frozenset(), script=only_speech))
    decoder.step()  # warm up
    torch.cuda.synchronize()
    start = time.perf_counter()
    while decoder.rows:
        decoder.step()
    torch.cuda.synchronize()
    rate = rows * (groups - 1) / (time.perf_counter() - start)
    print(f"on {torch.cuda.get_device_name()}: {rate:.1f} patches/s in {rows} rows;")
    print(
        f"{rate / PATCHES_PER_SECOND:.2f} s of audio per second, peak {torch.cuda.max_memory_allocated() / GIB:.1f} GiB"
    )


def main() -> None:
    """Print the table."""
    config = LMConfig.parse(PUBLISHED_7B)
    with torch.device("meta"):
        model = PatchLM(config, SPECIAL)
    parts = parameters_per_part(model)
    total = sum(parts.values())
    for part, count in parts.items():
        print(f"{part:<16}{count / 1e6:>10.1f} M parameters{count * BYTES / GIB:>8.2f} GiB in bfloat16")
    print(f"{'total':<16}{total / 1e6:>10.1f} M parameters{total * BYTES / GIB:>8.2f} GiB in bfloat16")
    row = cache_bytes_per_row(config)
    print(f"KV cache of one row at {config.backbone.context} groups: {row / GIB:.3f} GiB")
    for rows in (1, 8, 32):
        print(f"{rows:>3} rows: {(total * BYTES + rows * row) / GIB:.1f} GiB")
    if torch.cuda.is_available():
        run_on_gpu(config)


if __name__ == "__main__":
    main()
