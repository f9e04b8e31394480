"""Docstrings and signatures as Markdown, in the forms that this project writes them.

A paragraph of a docstring is prose, an example (indented), or a list of definitions (`name   what it means`,
names two or more spaces before their meaning, or alone on a line with the meaning indented below).
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

_DEFINITION: Final = re.compile(r"([A-Za-z_][\w.]*(?:, ?[A-Za-z_][\w.]*)*) {2,}(\S.*)")
_ONLY_NAMES: Final = re.compile(r"[A-Za-z_]\w*(, [A-Za-z_]\w*)*,?")
# How module docstrings tell developers what a module decides; no user needs it.
_FOR_DEVELOPERS: Final = frozenset(
    {"Decides", "Does", "Not", "Reads", "Writes", "Tells", "Rule", "Leaves", "Takes"}
)
WIDTH: Final = 96


def markdown(docstring: str | None) -> str:
    """A docstring as Markdown."""
    text = "\n\n".join(_paragraphs(inspect.cleandoc(docstring or "")))
    return text.replace("\n```\n\n```python\n", "\n\n")  # an example with a blank line in it is one


def about_module(docstring: str | None) -> str:
    """What a module's docstring tells its users: without what it decides and leaves to others."""
    text = inspect.cleandoc(docstring or "")
    kept = [part for part in text.split("\n\n") if part.split(" ", 1)[0] not in _FOR_DEVELOPERS]
    return markdown("\n\n".join(kept))


def first_sentence(docstring: str | None) -> str:
    """For tables of contents."""
    first = inspect.cleandoc(docstring or "").partition("\n\n")[0].replace("\n", " ")
    found = re.match(r".*?[.;](?= |$)", first)
    return escaped((found[0] if found else first).rstrip(".;"))


def _paragraphs(text: str) -> Iterator[str]:
    for part in re.split(r"\n{2,}", text):
        lines = part.split("\n")
        if lines[0].startswith("    "):
            yield "```python\n" + inspect.cleandoc("\n" + part) + "\n```"
        elif any(_DEFINITION.fullmatch(line) for line in lines if not line.startswith(" ")):
            yield "\n".join(_definitions(lines))
        else:
            yield escaped(" ".join(line.strip() for line in lines))


def _definitions(lines: list[str]) -> Iterator[str]:
    names, meaning = "", ""
    for line in lines:
        found = _DEFINITION.fullmatch(line)
        if found is None and line.startswith(" "):
            meaning = f"{meaning} {line.strip()}"
            continue
        if meaning:
            yield _definition(names, meaning)
            names, meaning = "", ""
        if found is not None:
            names, meaning = f"{names} {found[1]}", found[2]
        elif _ONLY_NAMES.fullmatch(line):
            names = f"{names} {line}"
        else:
            raise ValueError(f"neither names nor, two spaces behind them, what they mean: {line!r}")
    yield _definition(names, meaning)


def _definition(names: str, meaning: str) -> str:
    shown = ", ".join(f"`{name}`" for name in re.findall(r"[\w.]+", names))
    return f"- {shown}: {escaped(meaning.strip())}"


def escaped(text: str) -> str:
    """What Markdown would take for its own outside of code is text."""
    pieces = re.split(r"(`[^`]*`)", text)
    return "".join(piece if piece.startswith("`") else re.sub(r"([<*])", r"\\\1", piece) for piece in pieces)


def in_table(text: str) -> str:
    """A cell: on one line, its bars no borders."""
    return " ".join(text.split()).replace("|", "\\|")


def signature(name: str, function: Callable[..., Any], *, prefix: str = "") -> str:
    """A call as it is written, on one line or one parameter a line."""
    of = _as_written(function)
    shown = [part for part in _parameters(of) if part != "self"]
    result = "" if of.return_annotation is of.empty else f" -> {_annotation(of.return_annotation)}"
    if result == " -> None":
        result = ""
    whole = f"{prefix}{name}({', '.join(shown)}){result}"
    if len(whole) > WIDTH:
        whole = f"{prefix}{name}(\n" + "".join(f"    {part},\n" for part in shown) + f"){result}"
    return f"```python\n{whole}\n```"


def _as_written(function: Callable[..., Any]) -> inspect.Signature:
    """Its signature; of a record (msgspec.Struct) with the types as they stand in the class."""
    of = inspect.signature(function)
    if not hasattr(function, "__struct_fields__"):
        return of
    written = {name: kind for each in reversed(function.__mro__) for name, kind in _own(each).items()}  # type: ignore[attr-defined]
    return of.replace(
        parameters=[one.replace(annotation=written[one.name]) for one in of.parameters.values()]
    )


def _own(kind: type) -> Mapping[str, Any]:
    found: Mapping[str, Any] = vars(kind).get("__annotations__", {})
    return found


def _parameters(of: inspect.Signature) -> Iterator[str]:
    star = False
    for one in of.parameters.values():
        if one.kind is one.VAR_POSITIONAL:
            star = True
        if one.kind is one.KEYWORD_ONLY and not star:
            star = True
            yield "*"
        mark = {one.VAR_POSITIONAL: "*", one.VAR_KEYWORD: "**"}.get(one.kind, "")
        typed = "" if one.annotation is one.empty else f": {_annotation(one.annotation)}"
        default = "" if one.default is one.empty else _default(one.default)
        yield f"{mark}{one.name}{typed}" + (
            f" = {default}" if typed and default else default and f"={default}"
        )


def _annotation(annotation: Any) -> str:
    annotation = getattr(annotation, "__forward_arg__", annotation)
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    return re.sub(r"\b(?:core|supervisor\.[\w.]+|sandbox\.[\w.]+|msgspec|typing)\.(?=[A-Z])", "", text)


def _default(value: Any) -> str:
    if inspect.isfunction(value) or inspect.isclass(value):
        return str(value.__name__)
    if isinstance(value, str):
        return '"' + repr(value)[1:-1] + '"'
    text = repr(value)
    return "..." if text.startswith("<") else text


def types_of(annotations: Mapping[str, Any]) -> str:
    """Names and types, a line each."""
    return (
        "```python\n"
        + "\n".join(f"{name}: {_annotation(kind)}" for name, kind in annotations.items())
        + "\n```"
    )


def classes_named(annotation: Any, names: Mapping[str, Any]) -> Iterator[type]:
    """The classes of ours that an annotation, as it is written, speaks of."""
    for name in re.findall(r"[A-Za-z_]\w*", _annotation(annotation)):
        found = names.get(name)
        if inspect.isclass(found) and found.__module__.startswith("supervisor."):
            yield found
