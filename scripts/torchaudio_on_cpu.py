"""Make torchaudio importable beside a CPU build of torch, and say what was done.

torchaudio 2.11 on the package index is a CUDA build: beside a CPU torch its compiled extension fails to load. Without
the extension it falls back to pure Python, which has all that `vivavoce.model.audio` uses. On a CUDA host nothing is
touched.
"""

from importlib.metadata import distribution
from pathlib import Path

import torch


def main() -> None:
    """Set the extension aside where no CUDA runtime can satisfy it."""
    if torch.version.cuda is not None:
        print(f"torchaudio: left as it is, torch {torch.__version__} has CUDA {torch.version.cuda}")
        return
    library = Path(str(distribution("torchaudio").locate_file("torchaudio/lib")))
    moved = []
    for extension in sorted(library.glob("*.so")):
        extension.rename(extension.with_suffix(".so.aside"))
        moved.append(extension.name)
    print(f"torchaudio: CPU-only torch, set aside {', '.join(moved)}" if moved else "torchaudio: already set aside")


if __name__ == "__main__":
    main()
