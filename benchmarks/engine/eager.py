"""The baseline: how one writes this model with `transformers`, eagerly, on the very weights that the engine runs.

Three `Qwen2Model`s; the backbone's keys and values are in a `DynamicCache`, so are the patch decoder's within a patch;
a patch is a Python loop over steps and channels, as in the published model's own code. All rows have prompts of equal
length and share every call: a batch that never waits for anybody, which is more than `transformers` gives in serving.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache, Qwen2Config, Qwen2Model
from transformers.models.qwen2.modeling_qwen2 import Qwen2RotaryEmbedding

from vivavoce.model.grid import Groups
from vivavoce.model.lm_config import StackConfig
from vivavoce.model.patch_lm import PatchLM
from vivavoce.model.qwen import QwenStack


class EagerLM:
    """A `PatchLM` run greedily by `transformers`; every group is a patch. The weights are shared, not copied."""

    def __init__(self, lm: PatchLM) -> None:
        self._lm = lm
        self._backbone = _qwen(lm.model)
        self._encoder = _qwen(lm.input_local_transformer)
        self._decoder = _qwen(lm.local_transformer)
        self._config = lm.config
        size = lm.config.group_size
        # An explicit mask of zeros: every frame of a patch sees all of its frames.
        self._open = torch.zeros((1, 1, size, size), device=lm.device, dtype=lm.lm_head.weight.dtype)
        self._cache: Any = None
        self._state = torch.empty(0)

    @torch.inference_mode()
    def start(self, prompts: list[Groups]) -> None:
        """Take in prompts of equal length, one per row."""
        self._cache = DynamicCache()
        text = torch.stack([prompt.text for prompt in prompts]).to(self._lm.device)
        codes = torch.stack([prompt.codes for prompt in prompts]).to(self._lm.device)
        embedded = self._lm.model.embed_tokens(text)
        spoken = text == self._lm.special.empty
        if bool(spoken.any()):
            embedded[spoken] = self._embed(codes[spoken])
        self._run(embedded)

    @torch.inference_mode()
    def step(self) -> Tensor:
        """The next patch of every row: int64[rows, group_size, channels]."""
        # What the model would say as text; that speech goes on is given, for both systems.
        self._lm.lm_head(self._state).argmax(-1)
        patches = self._patches(self._lm.hidden_states_downcast(self._state))
        self._run(self._embed(patches)[:, None])
        return patches

    def _run(self, embedded: Tensor) -> None:
        out = self._backbone(inputs_embeds=embedded, past_key_values=self._cache, use_cache=True)
        self._state = out.last_hidden_state[:, -1]

    def _embed(self, patches: Tensor) -> Tensor:
        frames = self._lm.embed_codes(patches).sum(2)
        mask = self._open if self._config.encoder_sees_all else None
        encoded = self._encoder(inputs_embeds=frames, attention_mask=mask, use_cache=False).last_hidden_state
        return self._lm.speech_group_downcast(encoded.flatten(1))  # type: ignore[no-any-return]

    def _patches(self, start: Tensor) -> Tensor:
        config, lm = self._config, self._lm
        codes = torch.tensor(config.zero_ids, device=start.device).repeat(len(start), config.group_size, 1)
        cache, x = DynamicCache(), start
        for step in range(config.decoder_steps):
            out = self._decoder(inputs_embeds=x[:, None], past_key_values=cache, use_cache=True)
            state, x = out.last_hidden_state[:, -1], torch.zeros_like(start)
            for channel, delay in enumerate(config.delays):
                frame = step - delay
                if not 0 <= frame < config.group_size:
                    continue
                logits = lm.local_transformer_lm_heads[channel](state)
                logits[:, config.zero_ids[channel]] = -torch.inf
                drawn = logits.argmax(-1)
                codes[:, frame, channel] = drawn
                x = x + lm.to_local(lm.speech_embeddings[channel](drawn))
        return codes


def _qwen(stack: QwenStack) -> Any:  # noqa: ANN401 - transformers' models are not typed
    """A `Qwen2Model` with a stack's own tensors; it is given embeddings, so that it has none."""
    config = _configuration(stack.config)
    with torch.device("meta"):
        model = Qwen2Model(config)
    model.embed_tokens = nn.Identity()
    own = {name: weight for name, weight in stack.state_dict().items() if not name.startswith("embed_tokens.")}
    model.load_state_dict(own, assign=True)
    model.rotary_emb = Qwen2RotaryEmbedding(config).to(stack.norm.weight.device)
    return model.requires_grad_(False).train(mode=False)


def _configuration(shape: StackConfig) -> Qwen2Config:
    config = Qwen2Config(  # `head_dim` is read, and not declared
        vocab_size=1,
        hidden_size=shape.width,
        intermediate_size=shape.ffn,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_dim,
        max_position_embeddings=shape.context,
        rms_norm_eps=shape.norm_eps,
        rope_parameters={"rope_type": "default", "rope_theta": shape.rope_theta},
    )
    config._attn_implementation = "sdpa"
    return config
