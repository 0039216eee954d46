"""A package of its own name: some libraries install a `tests` of theirs, which would be found instead."""
