"""The one door to torchaudio, which opens also where torchaudio's compiled extension cannot be loaded."""

import importlib
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any, NoReturn


def load_torchaudio() -> Any:
    """Import torchaudio; beside a torch that its extension does not fit, without that extension.

    PyPI's torchaudio 2.11 is linked against CUDA and raises at import beside a CPU-only torch. Nothing used
    here needs its compiled part (resampling, mel filter banks and spectrograms are plain torch), so where the
    real import fails, a stub ``torchaudio._extension`` is placed in `sys.modules` first, which says that there is
    no extension. Where the real one loads, nothing is changed. What does need the extension (forced alignment, the
    fast IIR filter) then falls back to plain torch or raises as torchaudio's own builds without it do.

    Raises:
        ImportError: torchaudio is not installed, or does not import even so.

    Example:
        >>> load_torchaudio().functional.resample  # doctest: +ELLIPSIS
        <function resample at ...>
    """
    try:
        return importlib.import_module("torchaudio")
    except ModuleNotFoundError as error:
        if error.name == "torchaudio":
            raise
        _forget()
    except (OSError, ImportError, RuntimeError):  # no such library; no such symbol; another CUDA version
        _forget()
    stub = _extension()
    sys.modules[stub.__name__] = stub
    try:
        torchaudio = importlib.import_module("torchaudio")
    except BaseException:
        _forget()
        raise
    torchaudio._extension = stub  # type: ignore[attr-defined]
    return torchaudio


def _forget() -> None:
    """Take a half-imported torchaudio out of `sys.modules`, so that the next import starts anew."""
    for name in [name for name in sys.modules if name == "torchaudio" or name.startswith("torchaudio.")]:
        del sys.modules[name]


def _extension() -> ModuleType:
    """A ``torchaudio._extension`` that has nothing."""
    stub = ModuleType("torchaudio._extension", "Stands in for the compiled part of torchaudio.")

    def fail_if_no_align(function: Callable[..., Any]) -> Callable[..., NoReturn]:
        def fail(*_: Any, **__: Any) -> NoReturn:
            raise RuntimeError(f"{function.__name__} needs torchaudio's compiled extension, which did not load")

        return fail

    names: dict[str, Any] = {
        "_IS_TORCHAUDIO_EXT_AVAILABLE": False,
        "_IS_ALIGN_AVAILABLE": False,
        "_check_cuda_version": lambda: None,
        "_load_lib": lambda name: False,
        "fail_if_no_align": fail_if_no_align,
    }
    for name, value in names.items():
        setattr(stub, name, value)
    return stub
