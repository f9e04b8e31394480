"""Typed job data: what a processor names as its type is made of what a producer sent, or the job has failed.

Decides   who validates, and the sentence that says which member is wrong and how
Not here  that such a job fails without another attempt (`attempt.py`), and what JSON is (`codec.py`)

A type is validated by the library that made it, which the user's module has then imported: msgspec for a
`Struct`, pydantic for a model. A dataclass is validated by whichever of the two is there, and otherwise here,
as strictly, for what JSON can say. Nothing is imported for it.
"""

from __future__ import annotations

import dataclasses
import sys
import types
import typing
from collections.abc import Callable
from typing import Any

from sandbox.errors import LoadError
from sandbox.job import Job
from sandbox.processors import Processor

Reader = Callable[[Any], Any]
Check = Callable[[Any, str], Any]

MOST_ERRORS = 3  # of those that pydantic finds


class WrongData(ValueError):
    """The message names the member, as `$.sizes[0]`, and what is wrong with it."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path}: {problem}")


def with_reader(processor: Processor) -> Processor:
    """The processor with what makes its data, if it names a type; `LoadError` for one that cannot be."""
    kind = processor.data_type
    if kind is None:
        kind = _annotated(processor)
        if kind is None or not _is_known(kind):
            return processor  # `Job[dict[str, int]]` is for type checkers alone
    return dataclasses.replace(processor, read_data=_reader_of(kind, processor.target), data_type=kind)


def name_of(kind: Any) -> str:
    return getattr(kind, "__name__", None) or str(kind)


# --- which type -----------------------------------------------------------------------------------------


def _annotated(processor: Processor) -> Any:
    """The X of `job: Job[X]`, the function's first parameter; None when it says nothing of the kind."""
    code = getattr(processor.function, "__code__", None)
    if code is None or not code.co_varnames:
        return None
    hint = getattr(processor.function, "__annotations__", {}).get(code.co_varnames[0])
    if isinstance(hint, str):
        if "Job[" not in hint:
            return None
        try:
            # Not get_type_hints: what else is annotated is none of our business, and may not be there.
            hint = eval(hint, getattr(processor.function, "__globals__", {}))
        except (NameError, AttributeError, TypeError, SyntaxError) as error:
            raise LoadError(
                f"{processor.target}: the annotation {hint} cannot be read ({error}); what it names must be "
                "there when the module runs, so import it outside `if TYPE_CHECKING`, or say "
                "@processor(..., data=...)"
            ) from None
    if typing.get_origin(hint) is not Job:
        return None
    return typing.get_args(hint)[0]


def _is_known(kind: Any) -> bool:
    return isinstance(kind, type) and (
        dataclasses.is_dataclass(kind)
        or _is_of(kind, "msgspec", "Struct")
        or _is_of(kind, "pydantic", "BaseModel")
    )


def _is_of(kind: type, module: str, base: str) -> bool:
    found = getattr(sys.modules.get(module), base, None)
    return isinstance(found, type) and issubclass(kind, found)


# --- who validates --------------------------------------------------------------------------------------


def _reader_of(kind: Any, target: str) -> Reader:
    if not _is_known(kind):
        raise LoadError(
            f"{target}: data={name_of(kind)} is no type for job data; that is a dataclass, a msgspec.Struct "
            "or a pydantic model"
        )
    if _is_of(kind, "msgspec", "Struct"):
        return _by_msgspec(kind)
    if _is_of(kind, "pydantic", "BaseModel") or hasattr(kind, "__pydantic_validator__"):
        return _by_pydantic(kind)
    if "msgspec" in sys.modules:
        return _by_msgspec(kind)
    if "pydantic" in sys.modules:
        return _by_pydantic(kind)
    check = _Checks(target).of(kind, name_of(kind))
    return lambda data: check(data, "$")


def _by_msgspec(kind: Any) -> Reader:
    msgspec = sys.modules["msgspec"]

    def read(data: Any) -> Any:
        try:
            return msgspec.convert(data, kind)
        except msgspec.ValidationError as error:
            problem, _, path = str(error).partition(" - at `")
            raise WrongData(path.rstrip("`") or "$", problem) from None

    return read


def _by_pydantic(kind: Any) -> Reader:
    pydantic = sys.modules["pydantic"]
    adapter = pydantic.TypeAdapter(kind)

    def read(data: Any) -> Any:
        try:
            return adapter.validate_python(data)
        except pydantic.ValidationError as error:
            found = error.errors(include_url=False, include_context=False, include_input=False)
            first, *more = [(_path(each["loc"]), each["msg"]) for each in found[:MOST_ERRORS]]
            rest = "".join(f"; {path}: {problem}" for path, problem in more)
            left = len(found) - MOST_ERRORS
            raise WrongData(first[0], first[1] + rest + (f"; and {left} more" if left > 0 else "")) from None

    return read


def _path(parts: tuple[int | str, ...]) -> str:
    return "$" + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts)


# --- dataclasses, with the standard library alone ---------------------------------------------------------


class _Checks:
    """Checks made of annotations, each (value, path) to the value as its type. One for each dataclass."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._made: dict[type, Check] = {}

    def of(self, kind: Any, where: str) -> Check:
        origin, inside = typing.get_origin(kind), typing.get_args(kind)
        if kind is Any or kind is object:
            return lambda value, path: value
        if kind is None or kind is type(None):
            return _plain("null", lambda value: value is None)
        if kind in _SCALARS:
            return _plain(*_SCALARS[kind])
        if origin in (typing.Union, types.UnionType):
            return _union([self.of(one, where) for one in inside], kind)
        if origin is typing.Literal:
            return _plain(" or ".join(map(repr, inside)), lambda value: _is_one_of(value, inside))
        if kind is list or origin is list:
            return _list_of(self.of(inside[0] if inside else Any, where))
        if kind is dict or (origin is dict and inside[0] is str):
            return _dict_of(self.of(inside[1] if inside else Any, where))
        if isinstance(kind, type) and dataclasses.is_dataclass(kind):
            return self._dataclass(kind)
        raise LoadError(
            f"{self._target}: {where} is of type {name_of(kind)}, which is not checked without help; import "
            "msgspec or pydantic in the module, or name a type that JSON has"
        )

    def _dataclass(self, kind: Any) -> Check:
        if kind in self._made:
            return self._made[kind]
        members: dict[str, tuple[bool, Check]] = {}

        def check(value: Any, path: str) -> Any:
            if not isinstance(value, dict):
                raise WrongData(path, f"expected an object, got {_said(value)}")
            given = {}
            for name, (needed, of_member) in members.items():
                if name in value:
                    given[name] = of_member(value[name], f"{path}.{name}")
                elif needed:
                    raise WrongData(f"{path}.{name}", "it is missing")
            try:
                return kind(**given)
            except (TypeError, ValueError) as error:  # of its __post_init__
                raise WrongData(path, str(error) or type(error).__name__) from None

        self._made[kind] = check  # before its members, one of which may be of this type
        try:
            hints = typing.get_type_hints(kind)
        except (NameError, AttributeError, TypeError) as error:
            raise LoadError(
                f"{self._target}: the annotations of {name_of(kind)} cannot be read: {error}"
            ) from None
        for field in dataclasses.fields(kind):
            if field.init:
                needed = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
                members[field.name] = (needed, self.of(hints[field.name], f"{name_of(kind)}.{field.name}"))
        return check


def _is_one_of(value: Any, known: tuple[Any, ...]) -> bool:
    return any(type(value) is type(one) and value == one for one in known)


_SCALARS: dict[Any, tuple[str, Callable[[Any], bool]]] = {
    str: ("text", lambda value: isinstance(value, str)),
    bool: ("true or false", lambda value: isinstance(value, bool)),
    int: ("a whole number", lambda value: isinstance(value, int) and not isinstance(value, bool)),
    float: ("a number", lambda value: isinstance(value, int | float) and not isinstance(value, bool)),
}


def _plain(what: str, is_it: Callable[[Any], bool]) -> Check:
    def check(value: Any, path: str) -> Any:
        if not is_it(value):
            raise WrongData(path, f"expected {what}, got {_said(value)}")
        return value

    return check


def _list_of(item: Check) -> Check:
    def check(value: Any, path: str) -> Any:
        if not isinstance(value, list):
            raise WrongData(path, f"expected a list, got {_said(value)}")
        return [item(each, f"{path}[{place}]") for place, each in enumerate(value)]

    return check


def _dict_of(item: Check) -> Check:
    def check(value: Any, path: str) -> Any:
        if not isinstance(value, dict):
            raise WrongData(path, f"expected an object, got {_said(value)}")
        return {key: item(each, f"{path}.{key}") for key, each in value.items()}

    return check


def _union(members: list[Check], kind: Any) -> Check:
    def check(value: Any, path: str) -> Any:
        deepest: WrongData | None = None
        for member in members:
            try:
                return member(value, path)
            except WrongData as error:
                # A sentence about a part of the value says more than one about the whole.
                if not str(error).startswith(f"{path}: ") or deepest is None:
                    deepest = error
        if deepest is not None and not str(deepest).startswith(f"{path}: "):
            raise deepest
        raise WrongData(path, f"expected {str(kind).replace('typing.', '')}, got {_said(value)}")

    return check


def _said(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "an object"
    return "a list" if isinstance(value, list) else "text" if isinstance(value, str) else "a number"
