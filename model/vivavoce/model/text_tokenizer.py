"""Text ids of a checkpoint folder: a thin, typed wrapper of the `tokenizers` package."""

from __future__ import annotations

from pathlib import Path

from tokenizers import Tokenizer

from vivavoce.model.checkpoint import CheckpointError

FILE = "tokenizer.json"


class TextTokenizer:
    """Byte-pair text tokenizer as published with a checkpoint (`tokenizer.json`)."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        # Names of special ids in a user's words are words: a text must not be able to end a turn or start speech.
        self._tokenizer.encode_special_tokens = True

    @classmethod
    def from_pretrained(cls, folder: Path | str) -> TextTokenizer:
        """Read `tokenizer.json` of a checkpoint folder.

        Raises:
            CheckpointError: the file is missing or no tokenizer.
        """
        path = Path(folder) / FILE
        if not path.is_file():
            raise CheckpointError(f"{folder}: no {FILE} in this folder")
        try:
            return cls(Tokenizer.from_file(str(path)))
        except Exception as error:  # the package raises bare Exception
            raise CheckpointError(f"{path}: {error}") from error

    def encode_plain(self, text: str) -> list[int]:
        """Ids of a text; names of special ids inside it stay ordinary text."""
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def decode(self, ids: list[int]) -> str:
        """Text of ids, special ones left out."""
        return str(self._tokenizer.decode(ids, skip_special_tokens=True))

    def find(self, name: str) -> int | None:
        """Id of a special token by its name, None where the vocabulary lacks it."""
        found: int | None = self._tokenizer.token_to_id(name)
        return found

    def special(self, name: str) -> int:
        """Id of a special token by its name.

        Raises:
            CheckpointError: the vocabulary lacks it.
        """
        found = self.find(name)
        if found is None:
            raise CheckpointError(f"{FILE}: no special token {name}")
        return found
