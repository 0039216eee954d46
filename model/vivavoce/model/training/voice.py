"""The language model: next groups of speech with a reference voice, of conversions, of words heard, of speech going on.

The published recipe's two stages. Understanding: transcriptions alone, only text ids are taught. Joint: everything
trains, the channels weigh 12-8-6-4-2-2-1-1. What differs: where text is to be spoken, it is given (see
`vivavoce.model.script`), so that of text ids only the choice between the next one and a patch is taught; some of the
codes that the model is shown are wrong, as they will be when it goes on from its own; and the backbone must name the
phones of the patch that comes. Without the last, thousands of steps go by in which the codes are guessed from the codes
before them and the text is not looked at.
"""

from __future__ import annotations

import json
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from vivavoce.model.checkpoint import SINGLE_FILE, fit_weights, load_config, load_weights
from vivavoce.model.grid import Groups
from vivavoce.model.lm_config import LMConfig, SpecialIds
from vivavoce.model.patch_lm import PatchLM
from vivavoce.model.prompts import PromptBuilder, load_profile
from vivavoce.model.text_tokenizer import TextTokenizer
from vivavoce.model.tokenizer_config import TokenizerConfig
from vivavoce.model.training.phones import CLASSES, SLOTS, UNKNOWN
from vivavoce.model.training.voice_corpus import Corpus
from vivavoce.model.training.voice_examples import SHARES, Example, Examples, phone_tokenizer

CHANNEL_WEIGHTS = (12.0, 8.0, 6.0, 4.0, 2.0, 2.0, 1.0, 1.0)  # stage 2 of the report
WORDS_WEIGHT = 0.5  # of the words of transcriptions
UNDERSTANDING = {"transcription": 1.0}  # tasks of stage 1
PACE_WEIGHT = 0.5  # of the choice between the next text id and a patch; the report's text weighs 100 of 136
NOISE = 0.25  # share of wrong codes, at most: each example has a share of its own below it
PROFILE = "mini"
PHONES_WEIGHT = 0.5  # of naming the phones of the next patch
PART = 12  # rows computed at once: a batch is sorted by length first, as longer parts hold more padding


@dataclass(frozen=True)
class Recipe:
    """What a step is made of; `stage` 1 teaches text ids alone, 2 everything."""

    data: tuple[Path, ...]
    tokenizer: Path
    seed: int = 1
    rows: int = 24
    bf16: bool = True
    stage: int = 2


def mini_config(codebooks: tuple[int, ...], vocabulary: int) -> dict[str, Any]:
    """`config.json` of the mini language model over these codebooks, at most eight of them."""
    sizes = codebooks[: len(CHANNEL_WEIGHTS)]
    return {
        "model_type": "qwen2", "vocab_size": vocabulary, "hidden_size": 320, "intermediate_size": 896,
        "num_hidden_layers": 7, "num_attention_heads": 5, "num_key_value_heads": 5, "head_dim": 64,
        "max_position_embeddings": 2048, "rope_theta": 10000.0, "rms_norm_eps": 1e-6, "tie_word_embeddings": False,
        "speech_vocab_size": "-".join(str(size + 1) for size in sizes),
        "speech_zeroemb_idx": "-".join(str(size) for size in sizes),
        "delay_pattern": "-".join(str(channel) for channel in range(len(sizes))),
        "group_size": 4, "audio_channels": len(sizes),
        "local_dim": 192, "local_layers": 4, "local_attn_heads": 4, "local_ffn_dim": 512,
        "input_local_layers": 2, "input_local_dim": 192, "input_full_attention": True,
    }  # fmt: skip


class Pupil(nn.Module):
    """What is trained: the language model, and a head that names the phones of the next patch and is thrown away."""

    def __init__(self, lm: PatchLM) -> None:
        super().__init__()
        self.lm = lm
        slots = SLOTS * lm.config.group_size
        self.phones = nn.Linear(lm.config.backbone.width, slots * (len(CLASSES) + 1))


def batch_loss(pupil: Pupil, batch: list[Example], shown: Tensor | None = None) -> dict[str, Tensor]:
    """Losses of a batch: mean cross-entropies in nats per id, as far as the batch has what they judge.

    `c0`.. of the channels' codes, `phones` of the patches, `pace` of readings, `words` of transcriptions.

    Args:
        pupil: the language model and its phone head.
        batch: examples of any lengths.
        shown: codes int64[rows, longest, group_size, channels] that the model is shown instead of the true ones.
    """
    model = pupil.lm
    text, codes, target = padded(model, batch)
    seen = codes if shown is None else shown
    embedded = model.embed_groups(Groups(text.flatten(), seen.flatten(0, 1)))
    hidden = model.model(embedded.view(*text.shape, -1))
    logits, start = model.heads(hidden[:, :-1])
    wanted, patches = target[:, 1:], text[:, 1:] == model.special.empty
    speaks, writes = wanted & patches, wanted & ~patches
    losses: dict[str, Tensor] = {}
    transcribes = writes & ~speaks.any(1, keepdim=True)
    if bool(transcribes.any()):
        losses["words"] = F.cross_entropy(logits[transcribes].float(), text[:, 1:][transcribes])
    reads = wanted & speaks.any(1, keepdim=True) & writes.any(1, keepdim=True)
    if bool(reads.any()):
        losses["pace"] = pace_loss(model, logits, text, reads)
    if not bool(speaks.any()):
        return losses
    phones = torch.stack([_filled(example.phones, text.shape[1], UNKNOWN) for example in batch]).to(model.device)
    losses["phones"] = _phones_loss(pupil.phones(hidden[:, :-1][speaks]), phones[:, 1:][speaks])
    taught = channel_losses(model, start[speaks], codes[:, 1:][speaks], seen[:, 1:][speaks])
    return losses | {f"c{channel}": loss for channel, loss in enumerate(taught)}


def _phones_loss(scores: Tensor, phones: Tensor) -> Tensor:
    """Cross-entropy over slots whose phone is known; 0 where there is none."""
    per_slot = scores.float().view(phones.numel(), -1)
    total = F.cross_entropy(per_slot, phones.flatten(), ignore_index=UNKNOWN, reduction="sum")
    return total / (phones != UNKNOWN).sum().clamp(min=1)


def padded(model: PatchLM, batch: list[Example]) -> tuple[Tensor, Tensor, Tensor]:
    """Text int64[rows, longest], codes int64[rows, longest, group_size, channels] and target bool[rows, longest]."""
    longest = max(len(example.groups) for example in batch)
    text = torch.stack([_filled(example.groups.text, longest, model.special.eot) for example in batch])
    codes = torch.stack([_filled(example.groups.codes, longest, 0) for example in batch])
    target = torch.stack([_filled(example.target, longest, 0) for example in batch])
    return text.to(model.device), codes.to(model.device), target.to(model.device)


def _filled(row: Tensor, length: int, value: int) -> Tensor:
    filled = row.new_full((length, *row.shape[1:]), value)
    filled[: len(row)] = row
    return filled


def pace_loss(model: PatchLM, logits: Tensor, text: Tensor, reads: Tensor) -> Tensor:
    """Cross-entropy of the choice between the next text id and a patch, where it is the model's.

    It is the model's in a reading, whose text ids are targets too; in a conversion's script only patches are.
    """
    empty = model.special.empty
    ids = text[:, 1:]
    last = ids.shape[1] - 1
    # The place of the text id that comes at a group or, where that is a patch, next after it.
    places = torch.where(ids == empty, last, torch.arange(last + 1, device=ids.device))
    following = ids.gather(1, places.flip(1).cummin(1).values.flip(1))
    pair = torch.stack((logits.gather(-1, following[..., None])[..., 0], logits[..., empty]), dim=-1)
    return F.cross_entropy(pair[reads].float(), (ids[reads] == empty).long())


def channel_losses(model: PatchLM, start: Tensor, patches: Tensor, shown: Tensor) -> Tensor:
    """Mean cross-entropy float32[channels] of the true codes; arguments as `taught_logits`."""
    logits = taught_logits(model, start, shown)
    return torch.stack(
        [F.cross_entropy(one.float().flatten(0, 1), patches[..., c].flatten()) for c, one in enumerate(logits)]
    )


def taught_logits(model: PatchLM, start: Tensor, patches: Tensor) -> list[Tensor]:
    """Logits of the patch decoder for every code of a patch, shown the codes before it.

    Args:
        model: the language model.
        start: [n, decoder width], the state before each patch.
        patches: int64[n, group_size, channels], the codes shown.

    Returns:
        Per channel [n, group_size, codes].
    """
    config = model.config
    embedded = torch.stack([table(patches[..., c]) for c, table in enumerate(model.speech_embeddings)], dim=2)
    local = model.to_local(embedded)
    inputs = local.new_zeros(len(start), config.decoder_steps, start.shape[1])
    inputs[:, 0] = start
    for channel, delay in enumerate(config.delays):
        # What is drawn at step s is the input of step s + 1; the last step's draw is nobody's input.
        count = min(config.group_size, config.decoder_steps - 1 - delay)
        inputs[:, delay + 1 : delay + 1 + count] += local[:, :count, channel]
    states = model.local_transformer(inputs)
    heads = zip(model.local_transformer_lm_heads, config.delays, strict=True)
    return [head(states[:, delay : delay + config.group_size]) for head, delay in heads]


class Speaking:
    """Training of the language model as a task of the training loop."""

    def __init__(
        self, recipe: Recipe, config: dict[str, Any] | None = None, device: torch.device | str = "cpu"
    ) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe, self.device = recipe, torch.device(device)
        codec = TokenizerConfig.parse(load_config(recipe.tokenizer))
        self.text = phone_tokenizer()
        self.published = config or mini_config(codec.codebook_sizes, self.text.get_vocab_size())
        shape = LMConfig.parse(self.published)
        wrapped = TextTokenizer(self.text)
        names = ("sosp", "eosp", "sostm", "eostm", "eot", "empty")
        special = SpecialIds(**{name: wrapped.special(f"<|{name}|>") for name in names})
        self.lm = PatchLM(shape, special)
        _initialise(self.lm)
        self.model = Pupil(self.lm).to(self.device)
        builder = PromptBuilder(load_profile(PROFILE), shape, special, wrapped)
        corpora = [Corpus(folder, recipe.tokenizer) for folder in recipe.data]
        shares = UNDERSTANDING if recipe.stage == 1 else SHARES
        examples = partial(Examples, corpora, builder, shape, special, codec.frame_rate, shares)
        self.examples = examples()
        self._held_out = partial(examples, held_out=True)

    def begin_with(self, folder: Path) -> None:
        """Take the weights of a checkpoint folder of the same shape.

        Raises:
            CheckpointError: they do not fit.
        """
        with torch.no_grad():
            fit_weights(self.lm, load_weights(folder), folder)

    def losses(self, random: np.random.Generator, step: int) -> dict[str, Tensor]:  # noqa: ARG002 - the loop's protocol
        """Weighted losses of a batch."""
        batch = sorted((self.examples.draw(random) for _ in range(self.recipe.rows)), key=lambda one: len(one.groups))
        found = [self.measured(batch[first : first + PART], random) for first in range(0, len(batch), PART)]
        means, losses = _means(found), {}
        if "words" in means:
            losses["words heard"] = WORDS_WEIGHT * means["words"]
        if "pace" in means:
            losses["spoken pace"] = PACE_WEIGHT * means["pace"]
        if "phones" in means:
            weights = CHANNEL_WEIGHTS[: self.lm.config.channels]
            weighted = torch.stack([weight * means[f"c{channel}"] for channel, weight in enumerate(weights)])
            losses |= {"codes": weighted.sum() / sum(weights), "spoken phones": PHONES_WEIGHT * means["phones"]}
        return losses | {f"_{name}": value for name, value in means.items()}

    def measured(self, batch: list[Example], random: np.random.Generator | None) -> dict[str, Tensor]:
        """Losses of a batch; with a source of chance some codes are shown wrongly."""
        shown = None if random is None else self._noisy(padded(self.lm, batch)[1], random)
        # Short rows of narrow heads: the fused CPU kernel's backward takes longer than plain matrix products.
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.recipe.bf16), self._attention():
            return batch_loss(self.model, batch, shown)

    def _attention(self) -> AbstractContextManager[None]:
        return sdpa_kernel(SDPBackend.MATH) if self.device.type == "cpu" else nullcontext()

    def _noisy(self, codes: Tensor, random: np.random.Generator) -> Tensor:
        sizes = np.array(self.lm.config.zero_ids)
        drawn = torch.from_numpy(random.integers(0, sizes, codes.shape)).to(codes)
        shares = random.uniform(0, NOISE, (len(codes), 1, 1, 1))
        wrong = torch.from_numpy(random.random(codes.shape) < shares).to(codes.device)
        real = codes != torch.from_numpy(sizes).to(codes)  # the "zero" ids of text groups stay
        return torch.where(wrong & real, drawn, codes)

    @torch.inference_mode()
    def evaluate(self, count: int, seed: int = 0) -> dict[str, float]:
        """Mean losses on `count` examples of held-out voices and sentences."""
        examples, random = self._held_out(), np.random.default_rng(seed)
        batch = sorted((examples.draw(random) for _ in range(count)), key=lambda one: len(one.groups))
        found = [self.measured(batch[first : first + 8], None) for first in range(0, count, 8)]
        return {name: float(value) for name, value in _means(found).items()}

    def state_dict(self) -> dict[str, Any]:
        """Nothing is needed to go on beside the weights."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state_dict`."""

    def export(self, average: dict[str, Tensor], folder: Path) -> None:
        """Write the checkpoint folder: configuration, text tokenizer, weights in float16."""
        (folder / "config.json").write_text(json.dumps(self.published, indent=2) + "\n", encoding="utf-8")
        self.text.save(str(folder / "tokenizer.json"))
        kept = {name.removeprefix("lm."): tensor for name, tensor in average.items() if name.startswith("lm.")}
        weights = {name: tensor.half().contiguous() for name, tensor in kept.items()}
        save_file(weights, folder / f"{SINGLE_FILE}.new", metadata={"format": "pt"})
        (folder / f"{SINGLE_FILE}.new").replace(folder / SINGLE_FILE)


def _means(found: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Each loss's mean over the parts of a batch that have it."""
    names = dict.fromkeys(name for one in found for name in one)
    return {name: torch.stack([one[name] for one in found if name in one]).mean() for name in names}


def _initialise(model: PatchLM) -> None:
    for weight in model.parameters():
        if weight.dim() > 1:
            torch.nn.init.normal_(weight, std=0.02 if weight.shape[0] > 1024 else weight.shape[-1] ** -0.5 / 2)
