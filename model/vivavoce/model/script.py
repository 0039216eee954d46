"""Outputs whose course is not wholly the model's: a text that is read, and a script in which only patches are filled.

A small model cannot learn in hours where in a long prompt it stands. A script puts what belongs together side by
side: phones and the patch in which they begin, a few patches of a source and the same patches in another voice.
The output's length is bounded, so it always ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vivavoce.model.grid import Groups, concatenate, speech_groups, text_groups
from vivavoce.model.lm_config import LMConfig, SpecialIds

MOST_PATCHES = 6  # in a row, just under a second, before the next text id must come
MOST_IDS = 10  # in a row before a patch must come


@dataclass(frozen=True)
class Reading:
    """A text that is read: its ids come in their order, and the model decides at each group whether the next one comes
    or a patch. So it sets the pace and the length, can neither leave out nor add a word, and always ends.

    Attributes:
        ids: the text's ids, then `<|eot|>` and `<|eostm|>`.
        empty: the id of a patch.
        most_patches: patches after which the reading is cut off.
    """

    ids: tuple[int, ...]
    empty: int
    most_patches: int

    def open_ids(self, text: Sequence[int]) -> tuple[int, ...]:
        """Ids that may come after those generated so far."""
        said = sum(one != self.empty for one in text)
        if said == len(self.ids):
            return (self.empty,)
        recent = [one == self.empty for one in text[-max(MOST_PATCHES, MOST_IDS) :]]
        if len(recent) >= MOST_PATCHES and all(recent[-MOST_PATCHES:]):
            return (self.ids[said],)
        if len(recent) >= MOST_IDS and not any(recent[-MOST_IDS:]):
            return (self.empty,)
        return (self.ids[said], self.empty)

    def cut_after(self, text: Sequence[int]) -> bool:
        """Whether the ids generated so far hold all the patches that may be."""
        return sum(one == self.empty for one in text) >= self.most_patches

    @property
    def most_groups(self) -> int:
        """Groups that the longest way through the text has."""
        return len(self.ids) + min(self.most_patches, len(self.ids) * MOST_PATCHES)


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


def reading_groups(
    ids: Sequence[int],
    starts: Sequence[float],
    patches: Groups,
    patch_seconds: float,
    config: LMConfig,
    special: SpecialIds,
) -> Groups:
    """A reading as it is taught: each text id stands just before the patch in which its sound begins.

    Args:
        ids: of the text alone.
        starts: seconds into the speech, one per id, ascending.
        patches: the speech.
        patch_seconds: seconds in a patch.
        config: sizes of the language model.
        special: its special ids.
    """
    parts, said = [], 0
    for number in range(len(patches)):
        until = said
        while until < len(ids) and starts[until] < (number + 1) * patch_seconds and until - said < MOST_IDS:
            until += 1
        parts.append(text_groups(ids[said:until], config))
        if until == len(ids) and said < until:
            parts.append(text_groups([special.eot], config))
        parts.append(Groups(patches.text[number : number + 1], patches.codes[number : number + 1]))
        said = until
    late = [*ids[said:], special.eot, special.eostm] if said < len(ids) else [special.eostm]
    return concatenate([*parts, text_groups(late, config)])


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
