"""The errors of the mark."""


class MarkError(Exception):
    """A mark could not be made or looked for. `code` is for machines, `detail` for people."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail
