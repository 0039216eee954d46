"""The layout keeps its promises: namespace packages stay namespaces, and each area installs alone."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
AREAS = ("platform", "model", "safety", "workers")


def test_no_area_root_is_a_package() -> None:
    """`platform/__init__.py` would shadow Python's own `platform`; one in `vivavoce/` would hide the other areas."""
    found = [
        path
        for area in AREAS
        for path in (ROOT / area / "__init__.py", ROOT / area / "vivavoce" / "__init__.py")
        if path.exists()
    ]
    assert found == []


def test_python_platform_is_not_shadowed_from_the_repository_root() -> None:
    """A script run from the root still gets the standard library's module."""
    code = "import platform; print(platform.system())"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip()


def test_all_areas_share_one_namespace() -> None:
    """`vivavoce` has four homes and no file of its own."""
    import vivavoce

    assert getattr(vivavoce, "__file__", None) is None
    # An editable install may add a home without code: the migrations, which a wheel carries inside `vivavoce.ledger`.
    homes = {Path(path).parent for path in vivavoce.__path__ if list(Path(path).rglob("__init__.py"))}
    assert homes == {ROOT / area for area in AREAS}
