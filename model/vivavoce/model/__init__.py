"""The voice model: an audio tokenizer and a patch language model over its codes.

Both load a checkpoint folder as published, and neither knows anything of the platform around them.
"""

from vivavoce.model.errors import ModelError
from vivavoce.model.patch_lm import PatchLM
from vivavoce.model.tokenizer import AudioTokenizer, DecoderStream

__all__ = ["AudioTokenizer", "DecoderStream", "ModelError", "PatchLM"]
