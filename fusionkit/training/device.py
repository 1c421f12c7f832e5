"""Where and how precisely to compute."""

import torch

from fusionkit.core.errors import ConfigError


def pick_device(name: str, key: str = "train.device") -> torch.device:
    """``auto`` takes CUDA, then MPS, then the CPU; any other name is torch's own.

    Args:
        name: what was asked for.
        key: where it was asked for.

    Raises:
        ConfigError: that device is not there.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ConfigError(f"{key} must name a device of this machine, but {name!r} is not usable: {reason}") from None
    return device


def pick_precision(name: str, device: torch.device) -> torch.dtype | None:
    """The autocast type: ``auto`` is bfloat16 on CUDA devices that compute in it, else none (float32).

    On CPUs bfloat16 autocast made the same training step twice as slow, so ``auto`` never takes it there.
    """
    if name == "auto":
        return torch.bfloat16 if device.type == "cuda" and torch.cuda.is_bf16_supported() else None
    return {"float32": None, "bfloat16": torch.bfloat16}[name]
