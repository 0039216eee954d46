"""The lint of the one door: model audio becomes bytes for a user only through `vivavoce.release`.

What it refuses, in all four areas, by the syntax tree:

- `encode`: naming `vivavoce.sound.encode` (or what it is made of) anywhere but in `vivavoce.release`. Whoever can
  write a sound file can serve one. Aliases, relative imports, star imports and `getattr` are followed.
- `proof`: making `Released`, `Marked`, `Deposited`, a chunk of a stream or an `Output` row, or touching the token that
  makes them, anywhere but in `vivavoce.release`. These types say that a sound was marked and permitted.
- `output`: naming objects under `outputs/`, or an output's `object_key`, anywhere but in `vivavoce.release`.
- `writer`: importing another library that writes sound files, outside `vivavoce.sound` and the model's and the mark's
  training, which serve nobody.
- `answer`: in the platform, an HTTP answer of raw bytes (`Response`, `StreamingResponse`, `FileResponse`, an ASGI body)
  outside a function that takes a `Released`; or `.data` of something in a module that knows the release, likewise.
  JSON, plain text and HTML are no sound; so is an answer without content, or with a literal `text/...` type.

An exception is written down where it is made, on the line or the line above, with its reason:

    kept = store.list("outputs")  # door: lists names to find orphans, reads none of them

An exception without a reason of at least three words is a violation too. Run it: `python -m tests.lints.one_door`.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
AREAS = ("platform", "model", "safety", "workers")

_DOOR = "vivavoce.release"
_SOUND = "vivavoce.sound"
_ENCODE = re.compile(
    r"vivavoce\.sound\.(encode(\.(encode|_\w+))?|(lossy|chunked)(\.\w+)?|_\w+|\*)|vivavoce\.sound\.(encode|lossy)\.\*"
)
_PROOFS = re.compile(
    r"vivavoce\.release\.(\w+\.)?(Released|ReleasedChunk|Marked|MarkedChunk|Deposited)|vivavoce\.ledger\.tables\.Output"
)
_TOKEN = re.compile(r"vivavoce\.release\.sealed(\..*)?")
_WRITERS = re.compile(r"(soundfile|av|wave|mutagen|pydub|torchcodec|scipy\.io|aifc|sunau)(\..*)?")
_MAY_WRITE = ("vivavoce.sound", "vivavoce.model", "vivavoce.watermark.training")
_RAW_ANSWERS = re.compile(
    r"(fastapi|starlette)(\.responses|\.sse)?\.(Response|StreamingResponse|FileResponse|EventSourceResponse)"
)
_NAMED = "objects of outputs are named by vivavoce.release alone"
_ESCAPE = re.compile(r"#\s*door:(.*)")
_REASON_WORDS = 3


@dataclass(frozen=True, order=True)
class Violation:
    """One place that is against the rule."""

    path: str
    line: int
    rule: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: [{self.rule}] {self.message}"


def check_areas(root: Path = ROOT) -> list[Violation]:
    """Check every module of the four areas."""
    found: list[Violation] = []
    for area in AREAS:
        for path in sorted((root / area).rglob("*.py")):
            module = ".".join(path.relative_to(root / area).with_suffix("").parts).removesuffix(".__init__")
            source = path.read_text(encoding="utf-8")
            found += check(source, module, str(path.relative_to(root)), package=path.name == "__init__.py")
    return found


def check(source: str, module: str, path: str = "<planted>", *, package: bool = False) -> list[Violation]:
    """Check one module's source."""
    visitor = _Visitor(module, package)
    visitor.visit(ast.parse(source))
    escapes = {
        number: match.group(1).split()
        for number, line in enumerate(source.splitlines(), 1)
        if (match := _ESCAPE.search(line))
    }
    found = {
        Violation(path, number, "escape", "an exception needs a reason that a reader can judge")
        for number, words in escapes.items()
        if len(words) < _REASON_WORDS
    }
    for line, rule, message in visitor.found:
        reason = escapes.get(line, escapes.get(line - 1, []))
        if len(reason) < _REASON_WORDS:
            found.add(Violation(path, line, rule, message))
    return sorted(found)


class _Visitor(ast.NodeVisitor):
    def __init__(self, module: str, package: bool) -> None:
        self.module, self.package = module, package
        self.found: list[tuple[int, str, str]] = []
        self._names: dict[str, str] = {}
        self._functions: list[ast.FunctionDef | ast.AsyncFunctionDef] = []
        self._answering: set[ast.keyword] = set()
        self._inside_door = _within(module, _DOOR)
        self._inside_sound = _within(module, _SOUND)
        self._platform = _within(module, "vivavoce.api", "vivavoce.console", "vivavoce.cli")

    def visit_Module(self, node: ast.Module) -> None:
        # Imports first, those in functions too: a name may be used above the line that binds it.
        for child in ast.walk(node):
            if isinstance(child, ast.Import | ast.ImportFrom):
                self._bind(child)
        self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        # Where a route's own signature says that it returns an answer, that answer was made, and checked, elsewhere.
        if node.returns is not None and _RAW_ANSWERS.fullmatch(self._dotted(node.returns) or ""):
            routes = (decorator for decorator in node.decorator_list if isinstance(decorator, ast.Call))
            self._answering |= {keyword for route in routes for keyword in route.keywords}
        self._functions.append(node)
        self.generic_visit(node)
        self._functions.pop()

    visit_AsyncFunctionDef = visit_FunctionDef  # noqa: N815 - ast's own name

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        if self._platform and any(_RAW_ANSWERS.fullmatch(self._dotted(base) or "") for base in node.bases):
            self._report(node, "answer", "a kind of raw answer; take a Released in a function instead")
        self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> None:
        self._check_reference(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        self._check_reference(node)
        owner = (_last_name(node.value) or "").lower()
        if node.attr == "object_key" and "output" in owner and not self._inside_door:
            self._report(node, "output", "an output's object is read by vivavoce.release alone")
        if node.attr == "data" and self._platform and self._knows_release() and not self._takes_released():
            self._report(node, "answer", "bytes of the release outside a function that takes a Released")
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, str) and not self._inside_door:
            text = node.value
            if text.startswith("outputs/"):
                self._report(node, "output", _NAMED)
            if text == "http.response.body" and self._platform and not self._takes_released():
                self._report(node, "answer", "a raw ASGI body outside a function that takes a Released")

    def visit_Assign(self, node: ast.Assign) -> None:
        if _is_outputs(node.value) and not self._inside_door:
            self._report(node, "output", _NAMED)
        self.generic_visit(node)

    def visit_Expr(self, node: ast.Expr) -> None:
        if not isinstance(node.value, ast.Constant):  # a docstring may speak of anything
            self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        called = self._dotted(node.func) or ""
        if not self._inside_door and (_PROOFS.fullmatch(called) or called == "object.__new__"):
            self._report(node, "proof", f"{called} is made by vivavoce.release alone")
        if called == "getattr" and _within(self._dotted(node.args[0]) or "", _SOUND, _DOOR) and not self._inside_door:
            self._report(node, "encode", "a name of the door by getattr, which nobody can follow")
        if called in ("importlib.import_module", "__import__") and not self._inside_door:
            named = node.args[0].value if node.args and isinstance(node.args[0], ast.Constant) else ""
            if _within(str(named), _SOUND, _DOOR) or _WRITERS.fullmatch(str(named)):
                self._report(node, "encode", "a module of the door by its name, which nobody can follow")
        if _last_name(node.func) == "list" and any(map(_is_outputs, node.args)) and not self._inside_door:
            self._report(node, "output", _NAMED)
        if self._platform and _RAW_ANSWERS.fullmatch(called) and not self._takes_released() and _has_content(node):
            self._report(node, "answer", f"{called} with content, outside a function that takes a Released")
        self.generic_visit(node)

    def visit_keyword(self, node: ast.keyword) -> None:
        raw = node.arg in ("response_class", "default_response_class") and _RAW_ANSWERS.fullmatch(
            self._dotted(node.value) or ""
        )
        if raw and self._platform and node not in self._answering:
            self._report(node.value, "answer", "a route that answers with the raw bytes it returns")
        self.generic_visit(node)

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self._check_import(node, alias.name)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        for alias in node.names:
            self._check_import(node, f"{self._source_of(node)}.{alias.name}")

    def _check_import(self, node: ast.AST, dotted: str) -> None:
        if not self._inside_door and not self._inside_sound and _ENCODE.fullmatch(dotted):
            self._report(node, "encode", f"{dotted} is for vivavoce.release alone")
        if not self._inside_door and _TOKEN.fullmatch(dotted):
            self._report(node, "proof", "the token of the proofs stays in vivavoce.release")
        if _WRITERS.fullmatch(dotted) and not _within(self.module, *_MAY_WRITE):
            self._report(node, "writer", f"{dotted} writes sound files; read them by vivavoce.sound")

    def _check_reference(self, node: ast.Name | ast.Attribute) -> None:
        dotted = self._dotted(node) or ""
        if not self._inside_door and not self._inside_sound and _ENCODE.fullmatch(dotted):
            self._report(node, "encode", f"{dotted} is for vivavoce.release alone")
        if not self._inside_door and _TOKEN.fullmatch(dotted):
            self._report(node, "proof", "the token of the proofs stays in vivavoce.release")

    def _bind(self, node: ast.Import | ast.ImportFrom) -> None:
        if isinstance(node, ast.ImportFrom):
            source = self._source_of(node)
            self._names |= {alias.asname or alias.name: f"{source}.{alias.name}" for alias in node.names}
            return
        for alias in node.names:
            first = alias.name.partition(".")[0]
            self._names[alias.asname or first] = alias.name if alias.asname else first

    def _source_of(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        parts = self.module.split(".")
        kept = parts[: len(parts) - node.level + (1 if self.package else 0)]
        return ".".join([*kept, *([node.module] if node.module else [])])

    def _dotted(self, node: ast.AST) -> str | None:
        if isinstance(node, ast.Name):
            return self._names.get(node.id, node.id)
        if isinstance(node, ast.Attribute):
            owner = self._dotted(node.value)
            return f"{owner}.{node.attr}" if owner else None
        return None

    def _knows_release(self) -> bool:
        return any(_within(dotted, _DOOR) for dotted in self._names.values())

    def _takes_released(self) -> bool:
        return any("Released" in ast.unparse(kind) for function in self._functions for kind in _annotations(function))

    def _report(self, node: ast.AST, rule: str, message: str) -> None:
        self.found.append((getattr(node, "lineno", 1), rule, message))


def _within(module: str, *packages: str) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def _annotations(function: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[ast.expr]:
    arguments = function.args
    for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs):
        if argument.annotation is not None:
            yield argument.annotation


def _is_outputs(node: ast.AST) -> bool:
    """Whether this is the name of the folder; elsewhere the word may be the key of some JSON."""
    return isinstance(node, ast.Constant) and node.value == "outputs"


def _last_name(node: ast.AST) -> str | None:
    if isinstance(node, ast.Name):
        return node.id
    return node.attr if isinstance(node, ast.Attribute) else None


def _has_content(call: ast.Call) -> bool:
    """Whether an answer may carry bytes: it has content, and no literal type says that it is text."""
    named = {keyword.arg: keyword.value for keyword in call.keywords}
    content = call.args[0] if call.args else named.get("content", named.get("path"))
    if None not in named and (content is None or (isinstance(content, ast.Constant) and not content.value)):
        return False
    kind = named.get("media_type")
    return not (isinstance(kind, ast.Constant) and str(kind.value).startswith("text/"))


def main() -> int:
    """Print what is against the rule; returns 1 if anything is."""
    found = check_areas()
    for violation in found:
        print(violation)  # noqa: T201 - a command's output
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
