"""Prompts as data: a profile says, task by task, how text and audio become the grid that a model was trained on.

Profiles are JSON files in `profiles/`: those of the published instruct and base checkpoints, and that of the mini
checkpoint. The same code runs them all. A task's `prompt` is a list of pieces:

- a string: text; `<|names|>` of special ids are ids, `{text}` and `{transcript}` are filled in. What is filled in
  never becomes a special id, whatever it says.
- `{"audio": "source"}`: `<|sosp|>`, the patches of that audio, `<|eosp|>`. Audio: `source` (what is to be converted or
  understood), `reference`, `disguised` (the reference in another timbre, the source of an example).
- `{"stream": "reference"}`: the interleaved stream of a reference and its transcript.
- `{"each_reference": [...]}`: these pieces for every reference clip.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from torch import Tensor

from vivavoce.model.checkpoint import CheckpointError
from vivavoce.model.errors import ModelError
from vivavoce.model.grid import Groups, concatenate, speech_groups, text_groups
from vivavoce.model.lm_config import LMConfig, SpecialIds
from vivavoce.model.sampling import Sampling, TaskSampling
from vivavoce.model.script import Reading, Script, conversion_script
from vivavoce.model.spoken import spoken
from vivavoce.model.text_tokenizer import TextTokenizer

FOLDER = Path(__file__).parent / "profiles"
INTERLEAVE = 5  # text tokens, then patches, in a stream
_SPECIAL = re.compile(r"(<\|\w+\|>)")
_SLOT = re.compile(r"\{(text|transcript)\}")

Output = Literal["stream", "script", "reading", "text"]
Value = TypeVar("Value")


@dataclass(frozen=True)
class ReferenceCodes:
    """A reference clip as a prompt needs it: codes int64[codebooks, frames]."""

    codes: Tensor
    transcript: str
    disguised: Tensor | None = None


@dataclass(frozen=True)
class Material:
    """What fills a prompt's pieces."""

    text: str = ""
    source: Tensor | None = None
    references: tuple[ReferenceCodes, ...] = ()


@dataclass(frozen=True)
class Task:
    """How one thing is asked of a model.

    Attributes:
        prompt: pieces, see the module.
        output: `stream`: text and patches as the model goes on; `text`: text only; `script`: patches beside those of
            a source; `reading`: the text in its order, the pace the model's. See the module `script`.
        sampling: how ids are drawn.
        stop: names of the ids that end the output.
        pace: least and most seconds of output per character of the text, or per second of the source; a script
            takes the first.
        block: patches in a block of a script.
    """

    prompt: tuple[Any, ...]
    output: Output
    sampling: TaskSampling
    stop: tuple[str, ...]
    pace: tuple[float, float]
    block: int

    def wants(self, audio: str) -> bool:
        """Whether the prompt uses this audio anywhere."""
        return f'"{audio}"' in json.dumps(self.prompt)

    @property
    def opens_speech(self) -> bool:
        """The prompt's last id is `<|sostm|>`: the output begins inside speech."""
        last = self.prompt[-1]
        return isinstance(last, str) and last.endswith("<|sostm|>")


@dataclass(frozen=True)
class Profile:
    """The prompts of one kind of checkpoint.

    Attributes:
        spoken: text is given as phones, see the module `spoken`.
        capitalise: text that is all upper or all lower case is capitalised, as the checkpoint was trained on sentences.
        reference_seconds: reference audio that a prompt takes at most, over all clips.
    """

    name: str
    spoken: bool
    capitalise: bool
    reference_seconds: float
    tasks: Mapping[str, Task]

    def task(self, name: str) -> Task:
        """A task by its name.

        Raises:
            ModelError: this kind of checkpoint cannot do it.
        """
        if name not in self.tasks:
            raise ModelError(f"a checkpoint of profile {self.name} does not do {name}")
        return self.tasks[name]


def load_profile(name: str) -> Profile:
    """Read a profile by its name.

    Raises:
        CheckpointError: there is none of this name.
    """
    path = FOLDER / f"{name}.json"
    if not re.fullmatch(r"[a-z0-9-]+", name) or not path.is_file():
        raise CheckpointError(f"no prompt profile is called {name!r}")
    data = json.loads(path.read_text(encoding="utf-8"))
    tasks = {key: _task(value) for key, value in data["tasks"].items()}
    return Profile(name, data.get("spoken", False), data["capitalise"], data["reference_seconds"], tasks)


def _task(data: Mapping[str, Any]) -> Task:
    sampling = TaskSampling(Sampling(**data["sampling"]["text"]), Sampling(**data["sampling"]["local"]))
    least, most = data.get("pace", (0.0, 0.0))
    return Task(
        tuple(data["prompt"]), data["output"], sampling, tuple(data["stop"]), (least, most), data.get("block", 1)
    )


class PromptBuilder:
    """Builds prompts of one profile for one language model."""

    def __init__(self, profile: Profile, config: LMConfig, special: SpecialIds, tokenizer: TextTokenizer) -> None:
        self.profile = profile
        self._config = config
        self._special = special
        self._tokenizer = tokenizer

    def build(self, task: Task, material: Material) -> Groups:
        """The prompt of a task.

        Raises:
            ModelError: the task wants audio that the material lacks.
        """
        text = self._text(material.text) if material.text else ""
        return concatenate(self._pieces(task.prompt, material, text, None))

    def stop_ids(self, task: Task) -> frozenset[int]:
        """Ids that end a task's output; names that a vocabulary lacks are left out."""
        return frozenset(found for name in task.stop if (found := self._tokenizer.find(name)) is not None)

    def script(self, task: Task, source: Tensor) -> Script:
        """The course of a conversion of codes int64[codebooks, frames]."""
        return conversion_script(source, task.block, self._config, self._special)

    def reading(self, text: str, most_patches: int) -> Reading:
        """A text to be read in so many patches at most.

        Raises:
            ModelError: nothing in the text can be spoken.
        """
        ids = self.token_ids(self._text(text))
        return Reading((*ids, self._special.eot, self._special.eostm), self._special.empty, most_patches)

    def token_ids(self, text: str) -> list[int]:
        """Ids of a text in the form that the checkpoint reads."""
        return self._tokenizer.encode_plain(text)

    def _text(self, text: str) -> str:
        if self.profile.spoken:
            return "".join(spoken(text))
        return _capitalised(text) if self.profile.capitalise else text

    def _pieces(
        self, pieces: Sequence[Any], material: Material, text: str, reference: ReferenceCodes | None
    ) -> list[Groups]:
        groups: list[Groups] = []
        for piece in pieces:
            if isinstance(piece, str):
                groups.append(text_groups(self._ids(piece, text, reference), self._config))
            elif "each_reference" in piece:
                for one in material.references:
                    groups += self._pieces(piece["each_reference"], material, text, one)
            elif "stream" in piece:
                groups += self._stream(_given(reference, "reference"))
            else:
                groups += self._audio(piece["audio"], material, reference)
        return groups

    def _ids(self, template: str, text: str, reference: ReferenceCodes | None) -> list[int]:
        values = {"text": text, "transcript": "" if reference is None else reference.transcript}
        ids: list[int] = []
        for part in _SPECIAL.split(template):
            if _SPECIAL.fullmatch(part):
                ids.append(self._tokenizer.special(part))
            elif part:
                # One pass, so that braces in what is filled in stay what they are.
                ids += self._tokenizer.encode_plain(_SLOT.sub(lambda slot: values[slot[1]], part))
        return ids

    def _audio(self, name: str, material: Material, reference: ReferenceCodes | None) -> list[Groups]:
        if name == "source":
            codes = _given(material.source, name)
        elif name == "reference":
            codes = _given(reference, name).codes
        else:
            codes = _given(_given(reference, "reference").disguised, name)
        return [
            text_groups([self._special.sosp], self._config),
            speech_groups(codes, self._config, self._special.empty),
            text_groups([self._special.eosp], self._config),
        ]

    def _stream(self, reference: ReferenceCodes) -> list[Groups]:
        ids = [*self._tokenizer.encode_plain(reference.transcript), self._special.eot]
        speech = speech_groups(reference.codes, self._config, self._special.empty)
        groups = [text_groups([self._special.sostm], self._config)]
        for start in range(0, max(len(ids), len(speech)), INTERLEAVE):
            part = slice(start, start + INTERLEAVE)
            if ids[part]:
                groups.append(text_groups(ids[part], self._config))
            if len(speech.text[part]):
                groups.append(Groups(speech.text[part], speech.codes[part]))
        return [*groups, text_groups([self._special.eostm], self._config)]


def played(groups: Groups, special: SpecialIds, *, speaking: bool) -> Tensor:
    """Codes int64[channels, frames] of the speech groups of an output that lie between `<|sostm|>` and `<|eostm|>`.

    Args:
        groups: the output.
        special: the special ids.
        speaking: the output begins inside speech.
    """
    kept: list[int] = []
    for index, text_id in enumerate(groups.text.tolist()):
        if text_id == special.sostm:
            speaking = True
        elif text_id == special.eostm:
            speaking = False
        elif text_id == special.empty and speaking:
            kept.append(index)
    return groups.codes[kept].flatten(0, 1).T


def _given(value: Value | None, what: str) -> Value:
    if value is None:
        raise ModelError(f"the prompt needs {what} audio")
    return value


def _capitalised(text: str) -> str:
    return text.capitalize() if text.isupper() or text.islower() else text
