"""Train a mini language model: `python -m vivavoce.model.training.voice --data DIR --tokenizer DIR --out DIR`.

`--data` holds `manifest.jsonl` (id, text, speaker, pair) and `audio/ID.opus`; `--tokenizer` is an audio tokenizer's
checkpoint folder. Writes a language model's checkpoint folder in the published layout to `--out`, now and then and at
the end. One thread; the seed decides everything but the number of steps that fit into the minutes.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from vivavoce.model.checkpoint import SINGLE_FILE, load_config
from vivavoce.model.grid import Groups
from vivavoce.model.lm_config import LMConfig, SpecialIds
from vivavoce.model.patch_lm import PatchLM
from vivavoce.model.prompts import PromptBuilder, load_profile
from vivavoce.model.text_tokenizer import TextTokenizer
from vivavoce.model.tokenizer_config import TokenizerConfig
from vivavoce.model.training.voice_data import SPECIAL_NAMES, Clip, Example, Examples, byte_tokenizer, read_clips

CHANNEL_WEIGHTS = (12.0, 8.0, 6.0, 4.0, 2.0, 2.0, 1.0, 1.0)  # stage 2 of the report
TEXT_WEIGHT = 1.0  # the report's is 100; here a script gives the text, and all there is to learn is `<|empty|>`
HELD_OUT = 24  # clips at most, and a tenth of them
POOL = 16  # batches that are sorted by length together
LOG_EVERY = 25  # steps
SAVE_EVERY = 150.0  # seconds
WARM_UP = 60  # steps


@dataclass(frozen=True)
class Recipe:
    """One training run."""

    data: Path
    tokenizer: Path
    out: Path
    minutes: float
    seed: int = 1
    rows: int = 8
    learning_rate: float = 1.5e-3


def mini_config(codebooks: tuple[int, ...]) -> dict[str, Any]:
    """`config.json` of the mini language model over these codebooks, at most eight of them."""
    sizes = codebooks[: len(CHANNEL_WEIGHTS)]
    return {
        "model_type": "qwen2", "vocab_size": 256 + len(SPECIAL_NAMES), "hidden_size": 256, "intermediate_size": 704,
        "num_hidden_layers": 5, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 64,
        "max_position_embeddings": 2048, "rope_theta": 10000.0, "rms_norm_eps": 1e-6, "tie_word_embeddings": False,
        "speech_vocab_size": "-".join(str(size + 1) for size in sizes),
        "speech_zeroemb_idx": "-".join(str(size) for size in sizes),
        "delay_pattern": "-".join(str(channel) for channel in range(len(sizes))),
        "group_size": 4, "audio_channels": len(sizes),
        "local_dim": 192, "local_layers": 3, "local_attn_heads": 4, "local_ffn_dim": 512,
        "input_local_layers": 1, "input_local_dim": 192, "input_full_attention": True,
    }  # fmt: skip


def batch_loss(model: PatchLM, batch: list[Example]) -> tuple[Tensor, dict[str, float]]:
    """Loss of a batch: cross-entropy of the target patches' codes, weighted by channel, and of their `<|empty|>`.

    Returns:
        The loss, and the mean cross-entropies in nats per id by name, for the log.
    """
    longest = max(len(example.groups) for example in batch)
    text = torch.stack([_padded(example.groups.text, longest, model.special.eot) for example in batch])
    codes = torch.stack([_padded(example.groups.codes, longest, 0) for example in batch])
    target = torch.stack([_padded(example.target, longest, 0) for example in batch])
    embedded = model.embed_groups(Groups(text.flatten(), codes.flatten(0, 1)))
    hidden = model.model(embedded.view(len(batch), longest, -1))
    logits, start = model.heads(hidden[:, :-1])
    wanted = target[:, 1:]
    spoken = F.cross_entropy(logits[wanted], text[:, 1:][wanted])
    channels = channel_losses(model, start[wanted], codes[:, 1:][wanted])
    weights = torch.tensor(CHANNEL_WEIGHTS[: len(channels)])
    loss = (channels * weights).sum() / weights.sum() + TEXT_WEIGHT * spoken / weights.sum()
    shown = {"text": spoken.item()} | {f"c{index}": value for index, value in enumerate(channels.tolist())}
    return loss, shown


def channel_losses(model: PatchLM, start: Tensor, patches: Tensor) -> Tensor:
    """Mean cross-entropy float32[channels] of the true codes; arguments as `taught_logits`."""
    logits = taught_logits(model, start, patches)
    return torch.stack(
        [F.cross_entropy(one.flatten(0, 1), patches[..., channel].flatten()) for channel, one in enumerate(logits)]
    )


def taught_logits(model: PatchLM, start: Tensor, patches: Tensor) -> list[Tensor]:
    """Logits of the patch decoder for every code of a patch, shown the true codes before it.

    Args:
        model: the language model.
        start: [n, decoder width], the state before each patch.
        patches: int64[n, group_size, channels].

    Returns:
        Per channel [n, group_size, codes].
    """
    config = model.config
    embedded = torch.stack([table(patches[..., c]) for c, table in enumerate(model.speech_embeddings)], dim=2)
    local = model.to_local(embedded)
    inputs = start.new_zeros(len(start), config.decoder_steps, start.shape[1])
    inputs[:, 0] = start
    for channel, delay in enumerate(config.delays):
        # What is drawn at step s is the input of step s + 1; the last step's draw is nobody's input.
        count = min(config.group_size, config.decoder_steps - 1 - delay)
        inputs[:, delay + 1 : delay + 1 + count] += local[:, :count, channel]
    states = model.local_transformer(inputs)
    heads = zip(model.local_transformer_lm_heads, config.delays, strict=True)
    return [head(states[:, delay : delay + config.group_size]) for head, delay in heads]


def _padded(row: Tensor, length: int, value: int) -> Tensor:
    padded = row.new_full((length, *row.shape[1:]), value)
    padded[: len(row)] = row
    return padded


class Training:
    """One run of a recipe."""

    def __init__(self, recipe: Recipe) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe = recipe
        recipe.out.mkdir(parents=True, exist_ok=True)
        codec = TokenizerConfig.parse(load_config(recipe.tokenizer))
        self.published = mini_config(codec.codebook_sizes)
        self.config = LMConfig.parse(self.published)
        self.text = byte_tokenizer()
        wrapped = TextTokenizer(self.text)
        names = ("sosp", "eosp", "sostm", "eostm", "eot", "empty")
        special = SpecialIds(**{name: wrapped.special(f"<|{name}|>") for name in names})
        self.model = PatchLM(self.config, special)
        _initialise(self.model)
        clips = read_clips(recipe.data, recipe.tokenizer, recipe.out / "codes")
        held, taught = hold_out(clips)
        builder = PromptBuilder(load_profile("mini"), self.config, special, wrapped)
        self.examples = Examples(taught, builder, self.config, special, recipe.seed, codec.frame_rate)
        held_out = Examples(held, builder, self.config, special, 0, codec.frame_rate)
        self.held_out = [held_out.draw() for _ in range(2 * HELD_OUT)]
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=recipe.learning_rate, betas=(0.9, 0.98), weight_decay=0.02
        )
        self.step = 0

    def run(self) -> None:
        """Train until the minutes are over, saving now and then and at the end."""
        started = saved = time.monotonic()
        batches: list[list[Example]] = []
        while (elapsed := time.monotonic() - started) < 60 * self.recipe.minutes:
            if not batches:
                batches = self._pool()
            shown = self._advance(batches.pop(), elapsed / (60 * self.recipe.minutes))
            if self.step % LOG_EVERY == 0:
                self._log(f"{elapsed:6.0f} s step {self.step}", shown)
            if time.monotonic() - saved > SAVE_EVERY:
                self.save()
                saved = time.monotonic()
        self.save()
        self._log("held out", self.evaluate())

    def _pool(self) -> list[list[Example]]:
        """Batches of similar lengths, in random order."""
        rows = self.recipe.rows
        pool = sorted((self.examples.draw() for _ in range(POOL * rows)), key=lambda one: len(one.groups))
        order = torch.randperm(POOL).tolist()
        return [pool[rows * place : rows * (place + 1)] for place in order]

    def _advance(self, batch: list[Example], progress: float) -> dict[str, float]:
        rate = min(1.0, (self.step + 1) / WARM_UP) * (0.02 + 0.98 * (1 + math.cos(math.pi * min(1.0, progress))) / 2)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * self.recipe.learning_rate
        loss, shown = batch_loss(self.model, batch)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.step += 1
        return shown

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Mean cross-entropies on clips that were held out of training."""
        rows = self.recipe.rows
        found = [
            batch_loss(self.model, self.held_out[start : start + rows])[1]
            for start in range(0, len(self.held_out), rows)
        ]
        return {name: sum(one[name] for one in found) / len(found) for name in found[0]}

    def save(self) -> None:
        """Write the checkpoint folder: configuration, text tokenizer, weights in float16."""
        out = self.recipe.out
        (out / "config.json").write_text(json.dumps(self.published, indent=2) + "\n", encoding="utf-8")
        self.text.save(str(out / "tokenizer.json"))
        weights = {name: tensor.detach().half().contiguous() for name, tensor in self.model.state_dict().items()}
        save_file(weights, out / f"{SINGLE_FILE}.new", metadata={"format": "pt"})
        (out / f"{SINGLE_FILE}.new").replace(out / SINGLE_FILE)

    def _log(self, what: str, shown: dict[str, float]) -> None:
        print(what, " ".join(f"{name} {value:.3f}" for name, value in shown.items()), flush=True)  # noqa: T201


def _initialise(model: PatchLM) -> None:
    for weight in model.parameters():
        if weight.dim() > 1:
            torch.nn.init.normal_(weight, std=0.02 if weight.shape[0] > 1024 else weight.shape[-1] ** -0.5 / 2)


def hold_out(clips: list[Clip]) -> tuple[list[Clip], list[Clip]]:
    """The last clips with their pairs, and the rest without any clip of theirs."""
    last = clips[-min(HELD_OUT, max(1, len(clips) // 10)) :]
    names = {clip.name for clip in last} | {clip.pair for clip in last}
    return [clip for clip in clips if clip.name in names], [clip for clip in clips if clip.name not in names]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Train a mini voice language model.")
    for name in ("data", "tokenizer", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(1)
    training = Training(Recipe(options.data, options.tokenizer, options.out, options.minutes, options.seed))
    training.run()


if __name__ == "__main__":
    main()
