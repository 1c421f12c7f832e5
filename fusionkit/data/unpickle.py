"""Pickles of NumPy arrays and Python's own types, read without running anything that a pickle asks for."""

import io
import math
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np

from fusionkit.core.errors import DataError, located

DEPTH = 100
_TYPES = re.compile(r"b1|[iu][1248]|f(2|4|8|16)|c(8|16|32)|[SU][1-9]\d{0,8}")


def unpickle_file(path: Path) -> Any:
    """What a pickle file holds, as `unpickle` reads it.

    Raises:
        DataError: there is no such file, or it breaks a rule of `unpickle`; the message names it.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None
    with located(str(path)):
        return unpickle(content)


def unpickle(content: bytes) -> Any:
    """What a pickle of any protocol (0 to 5) holds: NumPy arrays of numbers or text, and Python's own types.

    A pickle is a program that names functions and calls them. Here no name is looked up in a module: the few that
    NumPy's own pickles need stand for parts of this file, which keep what they are given until all is read and only
    then make arrays of it; every other name is refused. NumPy's ``__setstate__`` is never called, so a forged type
    cannot pass bytes off as pointers. Text of Python 2 becomes ``str`` by Latin-1. Arrays are read-only views.

    Memory stays within a small multiple of the pickle, since every array must fit its bytes and the memo is a
    dictionary. Time does not: keys made of nested tuples may take long to hash.

    Raises:
        DataError: it is truncated, no pickle, nested deeper than ``DEPTH``, holds objects or asks for anything else
            to be called; the message names that.
    """
    try:
        return _settle(_Reader(io.BytesIO(content), encoding="latin1").load(), {}, 0)
    except DataError:
        raise
    except Exception as error:  # a crafted pickle raises whatever it likes
        reason = (str(error).splitlines() or [""])[0] or type(error).__name__
        raise DataError(f"must be a whole pickle, but reading it failed: {reason}") from error


class _Dtype:
    """A type of number or text that a pickle describes."""

    __slots__ = ("value",)

    def __init__(self, name: object, *flags: object) -> None:
        del flags
        if not isinstance(name, str) or not _TYPES.fullmatch(name):
            raise DataError(f"arrays of a pickle must hold numbers or text, but got the type {name!r}")
        self.value = np.dtype(name)

    def __setstate__(self, state: object) -> None:
        match state:
            case (int(), "<" | ">" | "=" | "|" as order, None, None, None, *_):
                self.value = self.value.newbyteorder(order)
            case _:
                raise DataError("arrays of a pickle must hold numbers or text, but got a type with fields")


class _Array:
    """An array that a pickle describes: shape, type and bytes."""

    __slots__ = ("content", "dtype", "order", "shape")

    def __init__(self, subtype: object = None, shape: object = None, code: object = None) -> None:
        del subtype, shape, code  # stand-ins, until the state comes
        self.dtype, self.shape, self.content = object(), object(), object()
        self.order: Literal["C", "F"] = "C"

    def __setstate__(self, state: object) -> None:
        match state:
            case (int(), shape, dtype, fortran, content) | (shape, dtype, fortran, content):
                self.shape, self.dtype, self.content = shape, dtype, content
                self.order = "F" if fortran else "C"
            case _:
                raise DataError("an array of a pickle must have a shape, a type and bytes, but lacks one")

    @classmethod
    def of_buffer(cls, content: object, dtype: object, shape: object, order: object, *rest: object) -> "_Array":
        """As protocol 5 describes an array."""
        if rest or order not in ("C", "F"):
            raise DataError(f"an array of a pickle must lie in order C or F, but got {order!r}")
        made = cls()
        made.__setstate__((shape, dtype, order == "F", content))
        return made

    @classmethod
    def of_scalar(cls, dtype: object, content: object) -> "_Scalar":
        """One number."""
        made = _Scalar()
        made.__setstate__(((), dtype, False, content))
        return made

    def settle(self) -> Any:
        """The array itself."""
        content = self.content.encode("latin1") if isinstance(self.content, str) else self.content
        if not isinstance(self.dtype, _Dtype) or not isinstance(content, bytes | bytearray):
            raise DataError("an array of a pickle must hold numbers or text, but holds objects")
        if not isinstance(self.shape, tuple) or not all(isinstance(n, int) and n >= 0 for n in self.shape):
            raise DataError(f"an array of a pickle must have a shape, but got {self.shape!r:.40}")
        dtype = self.dtype.value
        if math.prod(self.shape) * dtype.itemsize != len(content):
            raise DataError(
                f"an array of a pickle must have the bytes of its shape, but {len(content)} are not {self.shape} "
                f"of {dtype}"
            )
        return np.ndarray(self.shape, dtype, bytes(content), order=self.order)


class _Scalar(_Array):
    """A NumPy number."""

    __slots__ = ()

    def settle(self) -> Any:
        return super().settle()[()]


class _Call:
    """A name that a pickle may use; what it is called with never reaches a function of another library."""

    __slots__ = ("make", "name")

    def __init__(self, name: str, make: Callable[..., object] | None) -> None:
        self.name, self.make = name, make

    def __call__(self, *arguments: object) -> object:
        if self.make is None:
            raise DataError(f"a pickle may not call {self.name}")
        return self.make(*arguments)

    def __setstate__(self, state: object) -> None:
        raise DataError(f"a pickle may not change {self.name}")


def _encode(text: object = "", encoding: object = "latin1") -> bytes:
    """Bytes, as protocols before 3 write them: Latin-1 text."""
    if isinstance(text, bytes | bytearray):
        return bytes(text)
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise DataError("bytes of a pickle must be Latin-1 text, but are not")
    return text.encode("latin1")


def _complex(real: object, imaginary: object) -> complex:
    if not isinstance(real, float) or not isinstance(imaginary, float):
        raise DataError("a complex number of a pickle must have two real ones, but has not")
    return complex(real, imaginary)


def _members(items: object) -> list[object]:
    if not isinstance(items, list | tuple):
        raise DataError("a set of a pickle must be given as a list, but is not")
    return list(items)


_ALLOWED: dict[tuple[str, str], Callable[..., object] | None] = {
    ("numpy", "ndarray"): None,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _encode,
    **{
        (f"numpy.{core}.{module}", name): make
        for core in ("core", "_core")
        for module, name, make in (
            ("multiarray", "_reconstruct", _Array),
            ("multiarray", "scalar", _Array.of_scalar),
            ("numeric", "_frombuffer", _Array.of_buffer),
        )
    },
    **{
        (module, name): make
        for module in ("builtins", "__builtin__")
        for name, make in (
            ("bytes", _encode),
            ("bytearray", lambda *given: bytearray(_encode(*given))),
            ("complex", _complex),
            ("set", lambda items=(): set(_members(items))),
            ("frozenset", lambda items=(): frozenset(_members(items))),
        )
    },
}


class _Reader(pickle._Unpickler):  # not the C one, whose memo takes as much memory as a pickle says
    def find_class(self, module: str, name: str) -> Any:
        """The stand-in for a name; nothing is imported."""
        if (module, name) not in _ALLOWED:
            raise DataError(
                f"a pickle may hold NumPy arrays and Python's own types alone, but it asks for {module}.{name}"
            )
        return _Call(f"{module}.{name}", _ALLOWED[module, name])


def _settle(value: Any, done: dict[int, tuple[Any, Any]], depth: int) -> Any:
    """Make arrays of what stands for them, inside of containers too; each object once (``done``, by identity)."""
    if isinstance(value, _Call | _Dtype):
        raise DataError("a pickle must hold values, but holds a function or a type")
    if not isinstance(value, _Array | dict | list | tuple | set | frozenset):
        return value
    if depth > DEPTH:
        raise DataError(f"a pickle may not be nested deeper than {DEPTH}, but is")
    if id(value) in done:
        return done[id(value)][1]
    made: Any = value
    if isinstance(value, _Array):
        made = value.settle()
    elif isinstance(value, tuple):
        made = tuple(_settle(part, done, depth + 1) for part in value)
    else:
        done[id(value)] = (value, value)  # it may hold itself
        if isinstance(value, dict):
            items = [(_settle(key, done, depth + 1), _settle(part, done, depth + 1)) for key, part in value.items()]
            value.clear()
            value.update(items)
        elif isinstance(value, list):
            value[:] = [_settle(part, done, depth + 1) for part in value]
        else:
            made = type(value)(_settle(part, done, depth + 1) for part in value)
    done[id(value)] = (value, made)
    return made
