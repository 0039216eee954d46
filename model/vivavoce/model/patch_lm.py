"""The RVQ patch language model.

The architecture of MiMo-Audio (technical report "MiMo-Audio: Audio Language Models are Few-Shot Learners", 2025).
What is special about it:

- A position is a group: one text id, or one patch of `group_size` frames x `channels` RVQ codes. The text id
  `<|empty|>` says that a group is a patch.
- Patches are read by a small transformer of their own (patch encoder), within the patch only; its outputs are laid
  side by side and projected to the backbone's width.
- The backbone is a Qwen2 stack; its head gives the next text id.
- Patches are written by a second small transformer (patch decoder), started with the backbone's projected state.
  Channel c is `delays[c]` steps late, so a coarse code is known before the finer ones of its frame are drawn.

Differences from Qwen2: group inputs, two stacks more, and no sliding window.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vivavoce.model.checkpoint import fit_weights, load_weights
from vivavoce.model.errors import ModelError
from vivavoce.model.generation import Decoder, row_generators
from vivavoce.model.grid import Groups, split_grid
from vivavoce.model.lm_config import LMConfig, SpecialIds, read_lm_folder
from vivavoce.model.qwen import Backbone, QwenStack
from vivavoce.model.rows import Continuation
from vivavoce.model.sampling import GREEDY, Sampler, Sampling, TaskSampling


class PatchLM(nn.Module):
    """Patch encoder, backbone and patch decoder, with the published parameter names."""

    def __init__(self, config: LMConfig, special: SpecialIds) -> None:
        super().__init__()
        self.config = config
        self.special = special
        width, encoder, decoder = config.backbone.width, config.encoder.width, config.decoder.width
        self.model = Backbone(config.backbone, config.vocab)
        self.lm_head = nn.Linear(width, config.vocab, bias=False)
        if config.tied:
            self.lm_head.weight = self.model.embed_tokens.weight
        self.input_local_transformer = QwenStack(config.encoder)
        self.local_transformer = QwenStack(config.decoder)
        self.speech_embeddings = nn.ModuleList(nn.Embedding(size, encoder) for size in config.code_sizes)
        self.local_transformer_lm_heads = nn.ModuleList(
            nn.Linear(decoder, size, bias=False) for size in config.code_sizes
        )
        self.speech_embeddings_to_local = nn.Linear(encoder, decoder, bias=False) if encoder != decoder else None
        self.speech_group_downcast = nn.Linear(encoder * config.group_size, width, bias=False)
        self.hidden_states_downcast = nn.Linear(width, decoder, bias=False)

    @classmethod
    def from_pretrained(
        cls, folder: Path | str, device: torch.device | str = "cpu", dtype: torch.dtype | None = None
    ) -> PatchLM:
        """Load a checkpoint folder (published layout, or that of the reference vectors) for inference.

        Args:
            folder: holds `config.json`, safetensors, and in the published layout `tokenizer.json`.
            device: where the weights go.
            dtype: type of the weights; None: float32 on a CPU, as stored elsewhere.

        Raises:
            CheckpointError: a file or tensor is missing or does not fit.
        """
        config, special = read_lm_folder(folder)
        weights = load_weights(folder)
        if config.tied and "model.embed_tokens.weight" in weights:
            weights["lm_head.weight"] = weights["model.embed_tokens.weight"]
        device = torch.device(device)
        if dtype is None:
            stored = next(iter(weights.values())).dtype if weights else torch.float32
            dtype = torch.float32 if device.type == "cpu" else stored
        with torch.device("meta"):
            model = cls(config, special)
        model = model.to(dtype).to_empty(device=device)
        fit_weights(model, weights, folder)
        return model.requires_grad_(False).eval()

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.lm_head.weight.device

    def embed(self, grid: Tensor) -> Tensor:
        """Input of the backbone for a grid int64[1 + channels, group_size * T]: [T, width].

        Raises:
            ModelError: a bad grid.
        """
        groups = split_grid(grid, self.config)
        return self.embed_groups(groups)

    def hidden(self, grid: Tensor) -> Tensor:
        """Output of the backbone after its final norm for a grid: [T, width]."""
        return torch.as_tensor(self.model(self.embed(grid)[None])[0])

    def forward(self, grid: Tensor) -> tuple[Tensor, Tensor]:
        """Text logits[T, vocab] and the patch decoder's start states[T, decoder width] for a grid."""
        return self.heads(self.hidden(grid))

    def heads(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Text logits and start states of the patch decoder from the backbone's output[..., width]."""
        return self.lm_head(hidden), self.hidden_states_downcast(hidden)

    def embed_groups(self, groups: Groups) -> Tensor:
        """Input of the backbone for T groups: [T, width]; only speech groups pass the patch encoder."""
        text, codes = groups.text.to(self.device), groups.codes.to(self.device)
        is_speech = text == self.special.empty
        embedded = self.model.embed_tokens(text).masked_fill(is_speech[:, None], 0.0)
        patches = codes[is_speech]
        if not len(patches):
            return torch.as_tensor(embedded)
        frames = self.embed_codes(patches).sum(2)
        encoded = self.input_local_transformer(frames, causal=not self.config.encoder_sees_all)
        speech = self.speech_group_downcast(encoded.flatten(1))
        return torch.as_tensor(embedded.index_put((is_speech.nonzero(as_tuple=True)[0],), speech.to(embedded.dtype)))

    def embed_codes(self, codes: Tensor) -> Tensor:
        """Embeddings of codes[..., channels]: [..., channels, encoder width]; a channel's "zero" id embeds to zero."""
        columns = [
            table(codes[..., channel]).masked_fill((codes[..., channel] == zero)[..., None], 0.0)
            for channel, (table, zero) in enumerate(zip(self.speech_embeddings, self.config.zero_ids, strict=True))
        ]
        return torch.stack(columns, dim=-2)

    def code_tables(self) -> list[Tensor]:
        """Embedding table [size, encoder width] of each channel."""
        return [table.get_parameter("weight") for table in self.speech_embeddings]

    def to_local(self, embedded: Tensor) -> Tensor:
        """Bring code embeddings to the patch decoder's width."""
        return embedded if self.speech_embeddings_to_local is None else self.speech_embeddings_to_local(embedded)

    def decode_patches(self, start: Tensor, sampler: Sampler, uniform: Tensor) -> Tensor:
        """Draw one patch per row, one step after the other anew: what `PatchDecoder` computes, to be read and compared.

        Args:
            start: [rows, decoder width], from `hidden_states_downcast`.
            sampler: how each row draws its codes.
            uniform: float64[rows, group_size, channels] in [0, 1).

        Returns:
            int64[rows, group_size, channels].
        """
        config = self.config
        codes = torch.tensor(config.zero_ids, device=start.device).repeat(len(start), config.group_size, 1)
        inputs = [start]
        for step in range(config.decoder_steps):
            state = self.local_transformer(torch.stack(inputs, dim=1))[:, -1]
            x = torch.zeros_like(start)
            for channel, delay in enumerate(config.delays):
                frame = step - delay
                if not 0 <= frame < config.group_size:
                    continue
                logits = self.local_transformer_lm_heads[channel](state)
                forbidden = F.one_hot(codes.new_tensor(config.zero_ids[channel]), logits.shape[-1]).bool()
                drawn = sampler.pick(logits, uniform[:, frame, channel], forbidden)
                codes[:, frame, channel] = drawn
                x = x + self.to_local(self.speech_embeddings[channel](drawn))
            inputs.append(x)
        return codes

    def generate(
        self,
        grids: Tensor | Iterable[Tensor],
        max_new_groups: int,
        sampling: Sampling | TaskSampling | None = None,
        stop_ids: Collection[int] | None = None,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        min_new_groups: int = 0,
    ) -> list[Tensor]:
        """Continue one or many prompts, together, each as if it were alone.

        Args:
            grids: one prompt int64[1 + channels, group_size * T], or several of any lengths.
            max_new_groups: groups to generate at most, at least 1.
            sampling: how text ids and codes are drawn; one `Sampling` stands for both, None for greedy.
            stop_ids: text ids that end a row; None: `<|eostm|>`.
            generator: source of chance. One per prompt, or one for all: then every prompt draws from a copy of its
                state, so that a member of a batch equals its own single run.
            min_new_groups: stop ids cannot come before so many groups.

        Returns:
            Per prompt its continuation alone, the group of the stop id included: int64[1 + channels, group_size * n]
            on the CPU.

        Raises:
            ModelError: a bad grid, more groups than the context holds, or weights that give no finite numbers.
        """
        prompts = [grids] if isinstance(grids, Tensor) and grids.dim() == 2 else list(grids)
        if not isinstance(sampling, TaskSampling):
            sampling = TaskSampling(sampling or GREEDY, sampling or GREEDY)
        stops = frozenset((self.special.eostm,) if stop_ids is None else stop_ids)
        decoder = Decoder(self, max(1, len(prompts)))
        rows = [
            decoder.join(Continuation(prompt, max_new_groups, sampling, stops, own, min_new_groups))
            for prompt, own in zip(prompts, row_generators(generator, len(prompts)), strict=True)
        ]
        while decoder.rows:
            decoder.step()
        if isinstance(generator, torch.Generator) and len(rows) > 1 and rows[0].continuation.generator is not None:
            generator.set_state(rows[0].continuation.generator.get_state())
        for row in rows:
            if row.error is not None:
                raise row.error
        if any(row.finished == "broken" for row in rows):
            raise ModelError("the model's output is not finite")
        return [row.grid() for row in rows]
