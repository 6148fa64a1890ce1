"""What a configuration may name: of the package, registered in this process, and from entry points of other packages.

A registry is read when it is asked, not when a module is imported, so that what is registered later is known
everywhere. A plug-in that cannot be used is named in one warning and left out; all else works.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import logging
import pkgutil
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Annotated, Any, Generic, TypeVar, Union

from pydantic import BaseModel, Field, GetCoreSchemaHandler, TypeAdapter
from pydantic_core import CoreSchema, core_schema

from toposampler.errors import UserError

T = TypeVar("T")
Class = TypeVar("Class", bound=BaseModel)

PACKAGE, REGISTERED = "toposampler", "registered here"
"""where an entry comes from, if from no distribution"""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Entry(Generic[T]):
    """One thing that can be named."""

    name: str
    value: T
    origin: str
    """the package itself, `registered here`, or the distribution whose entry point it is"""

    @property
    def about(self) -> str:
        """The first line of its docstring; of a class, with its paper, that of its module if the class has none."""
        text = inspect.getdoc(self.value) or ""
        return text.strip().partition("\n")[0]


class Registry(ABC, Generic[T]):
    """Things of one kind by their names.

    Args:
        noun: what one of them is called in messages.
        group: entry points of other packages that are of this kind, such as `toposampler.systems`.
        own: those of the package, by name; asked once, when the registry is first read.
    """

    def __init__(self, noun: str, group: str, own: Callable[[], Iterable[tuple[str, T]]] = tuple) -> None:
        self.noun, self.group, self._own = noun, group, own
        self._registered: dict[str, Entry[T]] = {}
        self._found: dict[str, Entry[T]] | None = None

    @abstractmethod
    def checked(self, thing: object, name: str | None) -> tuple[str, T]:
        """`thing` and what it is to be called: `name`, or as it calls itself. Raises UserError if it is none of these.

        The message reads on from what the thing is ("... is no subclass of ...").
        """

    def register(self, thing: object, name: str | None = None) -> None:
        """Have `thing` known in this process. What was defined by the same name in the same module is replaced, so that
        a cell of a notebook can be run again.

        Raises UserError if it is not of this kind, or if its name is taken.
        """
        try:
            name, value = self.checked(thing, name)
        except UserError as error:
            raise UserError(f"{_described(thing)} {error}") from None
        taken = self._by_name().get(name)
        if taken is not None and not _same_place(taken.value, value):
            raise UserError(
                f"the {self.noun} {name!r} of {_described(value)} is taken: {_described(taken.value)} has it"
            )
        origin = taken.origin if taken is not None else REGISTERED
        self._registered[name] = Entry(name, value, origin)

    def entries(self) -> list[Entry[T]]:
        """All of them: the package's own, then others in the order they came."""
        return list(self._by_name().values())

    def find(self, name: str) -> T:
        """What goes by `name`. Raises UserError, naming what is close and what there is."""
        known = self._by_name()
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"Did you mean {close[0]!r}? " if close else ""
            raise UserError(f"the {self.noun} {name!r} is not known. {hint}There are {', '.join(known) or 'none'}")
        return known[name].value

    def registered(self) -> list[tuple[str, T]]:
        """What only this process has been told of, by name: another process must be told it too."""
        return [(entry.name, entry.value) for entry in self._registered.values()]

    def _by_name(self) -> dict[str, Entry[T]]:
        if self._found is None:
            own = {name: Entry(name, value, PACKAGE) for name, value in self._own()}
            self._found = own  # for a plug-in that registers something itself while it is loaded
            self._found = own | self._plugged_in(own)
        return self._found | self._registered

    def _plugged_in(self, own: dict[str, Entry[T]]) -> dict[str, Entry[T]]:
        """What the entry points of the group load, but for those that fail."""
        found: dict[str, Entry[T]] = {}
        for point in sorted(entry_points(group=self.group), key=lambda point: (point.name, point.value)):
            origin = _distribution(point)
            try:
                thing = point.load()
                name, value = self.checked(thing, None if isinstance(thing, type) else point.name)
                taken = {**own, **found}.get(name)
                if taken is not None and taken.value is not value:
                    raise UserError(f"the name {name!r} is taken by {_described(taken.value)} of {taken.origin}")
            except Exception as error:  # whatever a foreign module raises while it is imported
                fault = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
                log.warning("the %s %s = %s of %s is left out: %s", self.noun, point.name, point.value, origin, fault)
            else:
                found.setdefault(name, Entry(name, value, origin))
        return found


class ClassRegistry(Registry[type[Class]]):
    """Sections of a configuration that are distinguished by their `name`: subclasses of `base`.

    Args:
        noun, group: see `Registry`.
        base: of all classes. A subclass with abstract methods left is a mere base.
        package: the name of the package whose modules hold the package's own classes, one or more each.
    """

    def __init__(self, noun: str, group: str, base: type[Class], package: str) -> None:
        super().__init__(noun, group, lambda: ((name_of(class_), class_) for class_ in self.own()))
        self._base, self._package = base, package

    def own(self) -> tuple[type[Class], ...]:
        """The classes of the package, found in its modules; by name, whatever was imported first."""
        package = importlib.import_module(self._package)
        for module in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"{self._package}.{module.name}")
        inside = f"{self._package}."
        classes = (class_ for class_ in _below(self._base) if class_.__module__.startswith(inside))
        return tuple(sorted((class_ for class_ in classes if not inspect.isabstract(class_)), key=name_of))

    def classes(self) -> tuple[type[Class], ...]:
        """All that there are now."""
        return tuple(entry.value for entry in self.entries())

    def checked(self, thing: object, name: str | None) -> tuple[str, type[Class]]:
        """See `Registry.checked`."""
        base = self._base.__name__
        if not isinstance(thing, type) or not issubclass(thing, self._base):
            raise UserError(f"is no subclass of {base}, as a {self.noun} must be")
        if inspect.isabstract(thing):
            lacking = ", ".join(sorted(thing.__abstractmethods__))
            raise UserError(f"lacks {lacking}, which a {self.noun} must have")
        own = name_of(thing)
        if not isinstance(own, str) or not re.fullmatch(r"[A-Za-z][\w.-]*", own):
            raise UserError(
                'has no name that a configuration could give: declare name: Literal["my_name"] = "my_name", of '
                "letters, digits, '_', '.' and '-'"
            )
        if name not in (None, own):
            raise UserError(f"calls itself {own!r}, and cannot be registered as {name!r}")
        return own, thing


class Functions(Registry[Callable[..., Any]]):
    """Functions that are given a name when they are registered."""

    def checked(self, thing: object, name: str | None) -> tuple[str, Callable[..., Any]]:
        """See `Registry.checked`."""
        if not callable(thing):
            raise UserError(f"is no function, as a {self.noun} must be")
        return function_name(self.noun, name), thing


def function_name(noun: str, name: str | None) -> str:
    """`name`, if a `noun` can be registered by it. Raises UserError, as `Registry.checked` does, otherwise."""
    if name is None or not re.fullmatch(r"[A-Za-z][\w.-]*", name):
        raise UserError(
            f"cannot be registered as {name!r}: the name of a {noun} is of letters, digits, '_', '.' and '-', and "
            "starts with a letter"
        )
    return name


class OneOf(Generic[Class]):
    """Marks a field that holds one of the classes of a registry, as they are when a configuration is read."""

    def __init__(self, registry: ClassRegistry[Class]) -> None:
        self._registry = registry
        self._reader: tuple[tuple[type[Class], ...], TypeAdapter[Any]] | None = None

    def sections(self) -> list[type[Class]]:
        """The classes that there are now."""
        return list(self._registry.classes())

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Validation by a union of the classes, distinguished by `name`; pydantic's error places are the union's."""
        return core_schema.no_info_plain_validator_function(self._read)

    def _read(self, content: Any) -> Any:
        classes = self._registry.classes()
        if self._reader is None or self._reader[0] != classes:
            union: Any = Annotated[Union[classes], Field(discriminator="name")]  # noqa: UP007 (a tuple of types)
            self._reader = classes, TypeAdapter(union)
        return self._reader[1].validate_python(content)


def name_of(class_: type[BaseModel]) -> Any:
    """What a configuration calls `class_`."""
    return class_.model_fields["name"].get_default() if "name" in class_.model_fields else None


def _below(base: type[Class]) -> Iterator[type[Class]]:
    """All subclasses of `base`, each once, those of a class behind it."""
    found: dict[type[Class], None] = {}
    for child in base.__subclasses__():
        found |= dict.fromkeys([child, *_below(child)])
    return iter(found)


def _described(thing: object) -> str:
    """`thing` as a message calls it: its module and name, if it has them."""
    if name := getattr(thing, "__qualname__", None):
        return f"{getattr(thing, '__module__', '?')}:{name}"
    return repr(thing)[:80]


def _same_place(one: object, other: object) -> bool:
    return one is other or (_described(one) == _described(other) and hasattr(one, "__qualname__"))


def _distribution(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else f"entry point {point.group}"
