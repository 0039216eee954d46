"""The command line. Each area brings its commands as entry points; this package finds them and imports no area."""

from vivavoce.cli.main import main

__all__ = ["main"]
