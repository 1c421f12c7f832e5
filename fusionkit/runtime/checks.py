"""What a value of a manifest may be: checks, put together, that give the value back or say what is wrong with it."""

import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from types import MappingProxyType
from typing import Any, TypeVar, get_type_hints

from fusionkit.runtime.errors import BundleError

MOST_CHARACTERS = 10_000

Check = Callable[[str, Any], Any]
Described = TypeVar("Described")


def refuse(where: str, rule: str, got: Any) -> BundleError:
    """What to raise of a value at ``where`` that breaks its rule."""
    said = repr(got) if isinstance(got, str | int | float | bool | None) else f"a JSON {type(got).__name__}"
    return BundleError(f"manifest.json: {where} must be {rule}, but got {said[:60]}")


def text(where: str, value: Any) -> str:
    """Any text, of at most `MOST_CHARACTERS`."""
    if not isinstance(value, str) or len(value) > MOST_CHARACTERS:
        raise refuse(where, "text", value)
    return value


def name(where: str, value: Any) -> str:
    """Text of 1 to 200 characters that can be printed."""
    if not isinstance(value, str) or not value.isprintable() or not 1 <= len(value) <= 200:
        raise refuse(where, "a name", value)
    return value


def digest(where: str, value: Any) -> str:
    """A SHA-256."""
    if not isinstance(value, str) or len(value) != 64 or set(value) - set("0123456789abcdef"):
        raise refuse(where, "64 hexadecimal digits", value)
    return value


def dtype(where: str, value: Any) -> str:
    """A number's type, ``<f4``."""
    if not isinstance(value, str) or not re.fullmatch("[<>|][biuf][1248]", value):
        raise refuse(where, "a dtype as NumPy writes it", value)
    return value


def truth(where: str, value: Any) -> bool:
    """True or false, which 1 and 0 are not."""
    if not isinstance(value, bool):
        raise refuse(where, "true or false", value)
    return value


def one_of(*known: Any) -> Check:
    """One of these, and of its type."""

    def check(where: str, value: Any) -> Any:
        if isinstance(value, bool) or not any(type(value) is type(one) and value == one for one in known):
            raise refuse(where, f"one of {list(known)}", value)
        return value

    return check


def whole(least: int, most: int = 2**53) -> Check:
    """A whole number from ``least`` to ``most``."""

    def check(where: str, value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise refuse(where, f"a whole number from {least} to {most}", value)
        return value

    return check


def number(least: float, most: float = 1e12, *, above: bool = False) -> Check:
    """A finite number from ``least``, or above it, to ``most``."""

    def check(where: str, value: Any) -> float:
        right = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= most
        if not right or value < least or (above and value == least):
            raise refuse(where, f"a number {'above' if above else 'from'} {least:g} to {most:g}", value)
        return float(value)

    return check


def maybe(check: Check) -> Check:
    """Null, or what ``check`` lets pass."""
    return lambda where, value: None if value is None else check(where, value)


def several(check: Check, *, least: int = 0, most: int = 100_000) -> Check:
    """A list of what ``check`` lets pass."""

    def checked(where: str, value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list | tuple) or not least <= len(value) <= most:
            raise refuse(where, f"a list of {least} to {most} items", value)
        return tuple(check(f"{where}[{place}]", item) for place, item in enumerate(value))

    return checked


def by(key: Check, check: Check, *, least: int = 0, most: int = 10_000) -> Check:
    """An object whose keys pass ``key`` and whose values pass ``check``."""

    def checked(where: str, value: Any) -> Mapping[str, Any]:
        if not isinstance(value, Mapping) or not least <= len(value) <= most:
            raise refuse(where, f"an object of {least} to {most} items", value)
        return MappingProxyType({key(f"a key of {where}", k): check(f"{where}.{k}", v) for k, v in value.items()})

    return checked


def plain(where: str, value: Any) -> Mapping[str, Any]:
    """Plain JSON whose keys somebody else checks."""
    return MappingProxyType(dict(by(text, lambda _, item: item)(where, value)))


def of(described: type[Described]) -> Check:
    """An object with the keys of a dataclass: all of those without a default, and no other."""
    known = {key: hint.__metadata__[0] for key, hint in get_type_hints(described, include_extras=True).items()}
    options = fields(described)  # type: ignore[arg-type]
    needed = [one.name for one in options if one.default is MISSING and one.default_factory is MISSING]

    def check(where: str, value: Any) -> Described:
        if not isinstance(value, Mapping):
            raise refuse(where, "an object", value)
        unknown = sorted(str(key) for key in value if key not in known)
        if unknown:
            raise BundleError(f"manifest.json: {where} has no key {unknown[0][:60]!r}; known: {sorted(known)}")
        lacking = [key for key in needed if key not in value]
        if lacking:
            raise BundleError(f"manifest.json: {where} must have the key {lacking[0]!r}, but has not")
        prefix = f"{where}." if where != "it" else ""
        return described(**{key: known[key](f"{prefix}{key}", item) for key, item in value.items()})

    return check
