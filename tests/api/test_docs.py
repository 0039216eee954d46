"""What the documents tell people to type works."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.api.live import Service

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("document", ["docs/api.md", "README.md"])
def test_the_examples_run(document: str, service: Service, tmp_path: Path) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    assert blocks
    program = "\n".join(blocks).replace("http://127.0.0.1:8000", service.address).replace("vv_...", service.key)
    environment = os.environ | {"VIVAVOCE_URL": service.address, "VIVAVOCE_KEY": service.key}
    done = subprocess.run(
        [sys.executable, "-c", program.replace('"speech.mp3"', repr(str(tmp_path / "speech.mp3")))],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
