"""Scripts: outputs whose course is laid down beforehand, and in which the model fills only the patches.

A small model cannot learn in hours where in a long prompt it stands. A script puts what belongs together side by
side: a few letters and the patches that say them, a few patches of a source and the same patches in another voice.
The output's length is known, so it always ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vivavoce.model.errors import ModelError
from vivavoce.model.grid import Groups, concatenate, speech_groups, text_groups
from vivavoce.model.lm_config import LMConfig, SpecialIds

LEAD = 1  # blocks by which the text runs ahead of the speech, as sounds depend on what follows


@dataclass(frozen=True)
class Script:
    """Groups that come whatever the model says; where `free`, the patch is the model's.

    Attributes:
        groups: T groups; the codes of free ones are of no matter.
        free: bool[T].
    """

    groups: Groups
    free: Tensor

    def __len__(self) -> int:
        return len(self.groups)

    def filled(self, patches: Tensor) -> Groups:
        """The script with these patches int64[n, group_size, channels] in its free places."""
        codes = self.groups.codes.clone()
        codes[self.free] = patches
        return Groups(self.groups.text, codes)


def speech_script(ids: Sequence[int], patches: int, block: int, config: LMConfig, special: SpecialIds) -> Script:
    """`<|sostm|>`, then text ids and blocks of patches in turn, the text spread evenly over the speech, `<|eostm|>`."""
    if patches < 1:
        raise ModelError("a script needs at least one patch")
    blocks = -(-patches // block)
    parts, said = [_text([special.sostm], config)], 0
    for number in range(blocks):
        until = min(len(ids), -(-len(ids) * (number + 1 + LEAD) // blocks))
        if until > said:
            parts.append(_text(ids[said:until], config))
            said = until
        parts.append(_free(min(block, patches - number * block), config, special))
    return _join([*parts, _text([special.eostm], config)])


def conversion_script(source: Tensor, block: int, config: LMConfig, special: SpecialIds) -> Script:
    """Blocks of source patches, each followed by as many patches of output.

    Args:
        source: codes int64[codebooks, frames].
        block: patches in a block.
        config: sizes of the language model.
        special: its special ids.
    """
    given = speech_groups(source, config, special.empty)
    parts: list[Script] = []
    for start in range(0, len(given), block):
        part = Groups(given.text[start : start + block], given.codes[start : start + block])
        parts += [_text([special.sosp], config), Script(part, torch.zeros(len(part), dtype=torch.bool))]
        parts += [_text([special.eosp, special.sostm], config), _free(len(part), config, special)]
        parts.append(_text([special.eostm], config))
    return _join(parts)


def _text(ids: Sequence[int], config: LMConfig) -> Script:
    return Script(text_groups(ids, config), torch.zeros(len(ids), dtype=torch.bool))


def _free(count: int, config: LMConfig, special: SpecialIds) -> Script:
    return Script(text_groups([special.empty] * count, config), torch.ones(count, dtype=torch.bool))


def _join(parts: Sequence[Script]) -> Script:
    return Script(concatenate([part.groups for part in parts]), torch.cat([part.free for part in parts]))
