"""Files that are replaced whole, and are on the disk when that is said."""

from __future__ import annotations

import os
from pathlib import Path


def replace_file(path: Path, data: bytes) -> None:
    """Put a file in place, with the folders above it; a crash or a power cut leaves the old file or the new one."""
    changed = [path.parent, *(parent.parent for parent in path.parents if not parent.exists())]
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.part")
    with draft.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    # The names too: what is written next may rely on this file.
    for folder in changed:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
