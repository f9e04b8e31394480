"""Targets to processors: imports the user's module and finds what it serves.

A TARGET is `module` (its decorated functions) or `module:function` (decorated or plain). Every mistake is one
sentence; only an exception inside the user's own module keeps its traceback.
"""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from types import ModuleType
from typing import Any

from sandbox import processors, typed
from sandbox.errors import LoadError
from sandbox.failures import message_of, stack_of
from sandbox.processors import Processor


class ModuleBroken(LoadError):
    """The user's module raised while it was imported; `traceback` is its own, without our frames."""

    def __init__(self, message: str, traceback: str) -> None:
        self.traceback = traceback
        super().__init__(message)


def load(targets: Sequence[tuple[str, str | None]]) -> list[Processor]:
    """The processors of all targets, each once. Raises `LoadError`.

    targets   each with the queue of its plain function; a decorated one has its own.
    """
    if not targets:
        raise LoadError("no target: name a module or module:function")
    found: list[Processor] = []
    brought_by: list[int] = []
    for number, (target, queue) in enumerate(targets):
        for each in _load_one(target, queue):
            if each not in found:
                refuse_uncallable(
                    each.target, each.function, "a processor is called with one argument, the job"
                )
                _refuse_twice(found, each)
                found.append(each)
                brought_by.append(number)
    return [
        replace(typed.with_reader(each), target_number=number)
        for each, number in zip(found, brought_by, strict=True)
    ]


def function_of(target: str) -> Any:
    """What `module:function` names. Raises `LoadError`."""
    module_name, colon, path = target.partition(":")
    _check_form(target, module_name, colon, path)
    if not colon:
        raise LoadError(f"{target!r} names no function: write {target}:function")
    return _resolve(_import(module_name), path)


def _load_one(target: str, queue: str | None) -> list[Processor]:
    module_name, colon, path = target.partition(":")
    _check_form(target, module_name, colon, path)
    module = _import(module_name)
    if not colon:
        return _decorated_of(module)
    function = _resolve(module, path)
    decorated = [each for each in processors.registered() if each.function is function]
    if decorated:
        return decorated
    if not callable(function):
        raise LoadError(f"{target} is {_kind_of(function)}, not a function")
    if not queue:
        raise LoadError(
            f'{target} has no queue: name one with --queue, or write @processor("queue") above the function'
        )
    return [Processor(queue=queue, name=None, function=function, target=target)]


def _check_form(target: str, module_name: str, colon: str, path: str) -> None:
    stem, extension = os.path.splitext(module_name)
    if extension == ".py" or os.sep in module_name:
        path_of = stem if extension == ".py" else module_name
        as_module = ".".join(part for part in path_of.split(os.sep) if part.strip("."))
        raise LoadError(f"{target!r} looks like a file; a target is a module: write {as_module}{colon}{path}")
    good = all(part.isidentifier() for part in module_name.split("."))
    if colon:
        good = good and all(part.isidentifier() for part in path.split("."))
    if not good:
        raise LoadError(f"{target!r} is no target: write module or module:function")


def _import(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except LoadError:
        raise
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if missing == name or name.startswith(missing + "."):
            raise LoadError(_no_module(name, missing)) from None
        raise _broken(name, error) from None
    except BaseException as error:  # the border: SystemExit at import is the module's mistake too
        raise _broken(name, error) from None


def _broken(name: str, error: BaseException) -> ModuleBroken:
    kind = type(error).__name__
    words = message_of(error)
    said = words if words.startswith(kind) else f"{kind}: {words}"
    return ModuleBroken(f"importing {name} raised {said}", stack_of(error))


def _no_module(name: str, missing: str) -> str:
    sentence = f"there is no module {missing!r}"
    if missing != name:
        sentence += f" (of target {name})"
    parent, _, last = missing.rpartition(".")
    near = _near(last, _modules_beside(parent))
    if near:
        return f"{sentence}; did you mean {parent + '.' if parent else ''}{near}?"
    return f"{sentence} in {os.getcwd()} or among the installed packages"


def _modules_beside(parent: str) -> list[str]:
    # At the top it would cost each template some milliseconds for a sentence it seldom says.
    import pkgutil

    if not parent:
        return [each.name for each in pkgutil.iter_modules([os.getcwd()])]
    package = sys.modules.get(parent)
    return [each.name for each in pkgutil.iter_modules(getattr(package, "__path__", []))]


def _near(name: str, known: Iterable[str]) -> str | None:
    import difflib  # as above

    return next(iter(difflib.get_close_matches(name, list(known), n=1)), None)


def _resolve(module: ModuleType, path: str) -> Any:
    found: Any = module
    walked = module.__name__
    for part in path.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            near = _near(part, [each for each in dir(found) if not each.startswith("_")])
            hint = f"; did you mean {near}?" if near else ""
            raise LoadError(f"{walked} has no function {part!r}{hint}") from None
        walked = f"{walked}:{part}" if found is not module and ":" not in walked else f"{walked}.{part}"
    return found


def _decorated_of(module: ModuleType) -> list[Processor]:
    """What the module or its package defines, and what it has imported by name from elsewhere."""
    name = module.__name__
    visible = {id(value) for value in vars(module).values()}
    found = [
        each
        for each in processors.registered()
        if each.function.__module__ == name
        or each.function.__module__.startswith(name + ".")
        or id(each.function) in visible
    ]
    if not found:
        plain = [key for key, value in vars(module).items() if _is_plain_function(name, key, value)]
        hint = f", or name a function: {name}:{plain[0]} --queue QUEUE" if plain else ""
        raise LoadError(f'{name} has no processors: write @processor("queue") above a function{hint}')
    return found


def _is_plain_function(module_name: str, key: str, value: Any) -> bool:
    return (
        not key.startswith("_")
        and callable(value)
        and not isinstance(value, type)
        and getattr(value, "__module__", None) == module_name
    )


def _kind_of(value: Any) -> str:
    return "a module" if isinstance(value, ModuleType) else f"of type {type(value).__name__}"


def refuse_uncallable(target: str, function: Any, rule: str) -> None:
    """I10: a function that can only raise TypeError would fail every job of its queue, one by one."""
    try:
        # Not what a decorator has wrapped: only the decorator knows how that is called.
        signature = inspect.signature(function, follow_wrapped=False)
    except (TypeError, ValueError):
        return  # written in C, and it does not tell
    try:
        signature.bind(None)
    except TypeError:
        raise LoadError(f"{target} is written {signature}, but {rule}") from None


def _refuse_twice(found: Iterable[Processor], new: Processor) -> None:
    for each in found:
        if (each.queue, each.name) == (new.queue, new.name):
            raise processors.refuse_second(each, new)
