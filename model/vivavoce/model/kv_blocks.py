"""Keys and values of all rows in blocks of one store, and attention that reads them where they lie.

A row is promised as many blocks as it can come to need when it joins, so that none runs out of them midway, and takes
them one by one as it grows, the lowest first: what is in use lies together. A step attends to every block in use on its
own (Flash-Decoding, Dao et al. 2023) and then joins each row's parts by their log-sum-exp. A block is computed alike
whoever owns its neighbours, and a part that is not there has the weight zero, so that a row's numbers depend neither on
the lengths of other rows nor on where its blocks lie.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from vivavoce.model.errors import ModelError
from vivavoce.model.graphs import Recordings
from vivavoce.model.lm_config import StackConfig
from vivavoce.model.packed import Attend

BLOCK = 64  # positions: 10 s of speech


class BlocksShort(ModelError):
    """A row needs more blocks than are free."""


@dataclass(eq=False)
class RowCache:
    """What a row holds in the store.

    Attributes:
        promised: blocks that it may take in all.
        blocks: those taken, in order of position.
        length: positions written.
    """

    promised: int
    blocks: list[int] = field(default_factory=list)
    length: int = 0

    def places(self, start: int, stop: int) -> tuple[list[int], list[int]]:
        """Block of each position from start to stop, and the place in it."""
        positions = range(start, stop)
        return [self.blocks[each // BLOCK] for each in positions], [each % BLOCK for each in positions]


def blocks_for(positions: int) -> int:
    """Blocks that hold so many positions."""
    return -(-positions // BLOCK)


@dataclass(frozen=True)
class Places:
    """Where a step reads and writes; all tensors, so that a CUDA graph can be given others of the same shapes.

    Attributes:
        position: int64[rows], of the group that is taken in.
        block, place: int64[rows], where its keys and values go.
        owner: int64[used], a row for each block in use.
        closed: [used, 1, 1, BLOCK], added to scores: 0 up to the block's last position, -inf beyond.
        parts: int64[rows, most blocks of a row], filled up with the row's first.
        absent: [rows, most blocks, 1, 1], added to log-sum-exps: -inf where filled up.
    """

    position: Tensor
    block: Tensor
    place: Tensor
    owner: Tensor
    closed: Tensor
    parts: Tensor
    absent: Tensor

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """All of them, in order."""
        return self.position, self.block, self.place, self.owner, self.closed, self.parts, self.absent


class BlockPool:
    """The store of one batch. Not for several threads.

    Args:
        config: of the stack whose keys and values these are.
        blocks: in all.
        like: a tensor of their type and device.
        recordings: of calls that read and write this store; None: calls take the shapes they need.
    """

    def __init__(self, config: StackConfig, blocks: int, like: Tensor, recordings: Recordings | None = None) -> None:
        self.config = config
        self.blocks = blocks
        self.recordings = recordings
        # Untouched memory is not resident on a CPU: a block costs nothing until it is first taken.
        shape = (config.layers, blocks, 2, config.kv_heads, BLOCK, config.head_dim)
        self._store = like.new_empty(shape)
        self._free = list(range(blocks))
        self._promised = 0  # and not yet taken

    @property
    def free(self) -> int:
        """Blocks that nobody holds and nobody is promised."""
        return len(self._free) - self._promised

    def promise(self, positions: int) -> RowCache:
        """Set blocks aside for a row of at most so many positions.

        Raises:
            BlocksShort: there are not as many.
        """
        needed = blocks_for(positions)
        if needed > self.free:
            raise BlocksShort(f"{positions} positions need {needed} blocks, {self.free} are free")
        self._promised += needed
        return RowCache(needed)

    def grow(self, cache: RowCache, positions: int) -> None:
        """Take the blocks that a row needs for so many positions."""
        while len(cache.blocks) < blocks_for(positions):
            block = heapq.heappop(self._free)
            self._promised -= 1
            self._store[:, block].zero_()  # what is not written yet is multiplied by zero, which needs a finite number
            cache.blocks.append(block)

    def give_back(self, cache: RowCache) -> None:
        """Free all that a row holds or was promised."""
        self._promised -= cache.promised - len(cache.blocks)
        for block in cache.blocks:
            heapq.heappush(self._free, block)
        cache.blocks, cache.promised = [], 0

    def places(self, caches: Sequence[RowCache]) -> Places:
        """Plan a step that takes in one group of each row; the same row may come twice and does the same twice."""
        for cache in caches:
            self.grow(cache, cache.length + 1)
        used = 1 + max(max(cache.blocks) for cache in caches)
        most = max(len(cache.blocks) for cache in caches)
        if self.recordings is not None:  # few shapes: each is recorded once
            used, most = min(_power(used), self.blocks), _power(most)
        owner, filled, parts = [0] * used, [BLOCK] * used, []
        for row, cache in enumerate(caches):
            for number, block in enumerate(cache.blocks):
                owner[block], filled[block] = row, min(BLOCK, cache.length + 1 - number * BLOCK)
            parts.append(cache.blocks + cache.blocks[:1] * (most - len(cache.blocks)))
        counts = torch.tensor([len(cache.blocks) for cache in caches])
        return Places(
            self._put([cache.length for cache in caches]),
            self._put([cache.blocks[cache.length // BLOCK] for cache in caches]),
            self._put([cache.length % BLOCK for cache in caches]),
            self._put(owner),
            self._barrier(torch.arange(BLOCK) >= torch.tensor(filled)[:, None])[:, None, None],
            self._put(parts),
            self._barrier(torch.arange(most) >= counts[:, None])[:, :, None, None],
        )

    def attend(self, at: Places) -> Attend:
        """Attention of a step: each row to its own positions, the new one included."""
        heads, kv_heads, head_dim = self.config.heads, self.config.kv_heads, self.config.head_dim
        rows, used, most = len(at.block), len(at.owner), at.parts.shape[1]
        absent = at.absent

        def attend(layer: int, qkv: Tensor) -> Tensor:
            store = self._store[layer]
            store.permute(0, 3, 1, 2, 4)[at.block, at.place] = qkv[:, heads:].view(rows, 2, kv_heads, head_dim)
            query = qkv[:, :heads].reshape(rows, kv_heads, -1, head_dim).index_select(0, at.owner)
            mixed, weight = _attend_part(query, store[:used, 0], store[:used, 1], at.closed)
            mixed = mixed.index_select(0, at.parts.flatten())
            if most == 1:
                return mixed.reshape(rows, -1)
            weight = weight.index_select(0, at.parts.flatten()).view(rows, most, kv_heads, -1) + absent
            shares = weight.softmax(1).to(mixed.dtype)
            return (mixed.view(rows, most, kv_heads, -1, head_dim) * shares[..., None]).sum(1).view(rows, -1)

        return attend

    def attend_prompts(self, parts: Sequence[tuple[RowCache, int]]) -> Attend:
        """Attention of parts of prompts (their row, groups in the part), one behind the other."""
        heads, kv_heads = self.config.heads, self.config.kv_heads
        turning, grouped = heads + kv_heads, heads != kv_heads
        block, place = [], []
        for cache, new in parts:
            self.grow(cache, cache.length + new)
            blocks, places = cache.places(cache.length, cache.length + new)
            block += blocks
            place += places
        blocks_of_all, places_of_all = self._put(block), self._put(place)
        masks = [self._sight(cache.length, new) for cache, new in parts]
        sizes = [new for _, new in parts]

        def attend(layer: int, qkv: Tensor) -> Tensor:
            store = self._store[layer]
            store.permute(0, 3, 1, 2, 4)[blocks_of_all, places_of_all] = qkv[:, heads:].view(len(qkv), 2, kv_heads, -1)
            mixed = []
            for (cache, new), mask, part in zip(parts, masks, torch.split(qkv, sizes), strict=True):
                own = part.transpose(0, 1)[None]
                keys, values = own[:, heads:turning], own[:, turning:]
                if cache.length:
                    held = store[cache.blocks].permute(1, 2, 0, 3, 4).flatten(2, 3)[:, None, :, : cache.length + new]
                    keys, values = held.unbind(0)
                found = F.scaled_dot_product_attention(
                    own[:, :heads], keys, values, attn_mask=mask, is_causal=mask is None, enable_gqa=grouped
                )
                mixed.append(found[0].transpose(0, 1).flatten(1))
            return torch.cat(mixed)

        return attend

    def _sight(self, past: int, new: int) -> Tensor | None:
        """What a part sees of what came before it, and of itself; None where nothing came before."""
        if not past:
            return None
        return torch.ones((new, past + new), dtype=torch.bool, device=self._store.device).tril(past)

    def _put(self, numbers: Sequence[int] | Sequence[Sequence[int]]) -> Tensor:
        return torch.tensor(numbers, dtype=torch.int64).to(self._store.device)

    def _barrier(self, closed: Tensor) -> Tensor:
        barrier = torch.zeros(closed.shape, dtype=self._store.dtype)
        return barrier.masked_fill_(closed, -torch.inf).to(self._store.device)


def _power(least: int) -> int:
    """The next power of two."""
    return 1 << (least - 1).bit_length()


def _attend_part(query: Tensor, keys: Tensor, values: Tensor, closed: Tensor) -> tuple[Tensor, Tensor]:
    """Attention within each block, and the log-sum-exp of its scores.

    Args:
        query: [blocks, kv_heads, queries, head_dim].
        keys, values: [blocks, kv_heads, BLOCK, head_dim].
        closed: [blocks, 1, 1, BLOCK], added to the scores.

    Returns:
        [blocks, kv_heads, queries, head_dim] and float32[blocks, kv_heads, queries].
    """
    if query.device.type == "cpu":  # one fused call; elsewhere its like accept not every shape
        mixed, weight = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            query, keys, values, 0.0, False, attn_mask=closed
        )
        return mixed, weight
    scores = (query @ keys.transpose(-1, -2)).float() * query.shape[-1] ** -0.5 + closed
    weight = scores.logsumexp(-1)
    return (scores - weight[..., None]).exp().to(values.dtype) @ values, weight
