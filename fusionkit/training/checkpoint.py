"""One safetensors file a checkpoint: model, optimiser and random state, written so that it is whole or not there."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from fusionkit.core.errors import DataError


def write_atomically(path: Path, content: bytes) -> None:
    """Write under a temporary name, flush to disk, rename: a reader sees the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        error.filename, error.filename2 = str(path), None  # the name that the user knows
        raise
    finally:
        temporary.unlink(missing_ok=True)


def save_tensors(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Save tensors and JSON facts in one file."""
    flat = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    write_atomically(path, safetensors.torch.save(flat, {"fusionkit": json.dumps(facts)}))


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `save_tensors` wrote.

    Raises:
        DataError: the file is missing, truncated or of another kind.
    """
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            facts = json.loads((file.metadata() or {})["fusionkit"])
            return {name: file.get_tensor(name) for name in file.keys()}, facts  # noqa: SIM118
    except FileNotFoundError:
        raise DataError(f"{path}: a checkpoint must exist, but there is no such file") from None
    except (SafetensorError, KeyError, ValueError) as error:
        raise DataError(f"{path}: a checkpoint must be a whole safetensors file of fusionkit, but {error}") from None


def optimiser_tensors(optimiser: torch.optim.Optimizer, called: str = "optimiser") -> dict[str, Tensor]:
    """The optimiser's tensors under flat names ``<called>.<parameter>.<name>``."""
    state = optimiser.state_dict()["state"]
    return {f"{called}.{index}.{name}": value for index, entry in state.items() for name, value in entry.items()}


def restore_optimiser(
    optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor], called: str = "optimiser"
) -> None:
    """Put back what `optimiser_tensors` gave; hyper-parameters stay as they are built."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith(f"{called}."):
            index, name = key.removeprefix(f"{called}.").split(".", 1)
            state.setdefault(int(index), {})[name] = value
    groups = optimiser.state_dict()["param_groups"]
    optimiser.load_state_dict({"state": state, "param_groups": groups})


def model_tensors(model: nn.Module) -> dict[str, Tensor]:
    """The model's weights and buffers under flat names ``model.<name>``."""
    return {f"model.{name}": value for name, value in model.state_dict().items()}


def restore_model(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Put back what `model_tensors` gave.

    Raises:
        DataError: the weights belong to another model.
    """
    weights = {name.removeprefix("model."): value for name, value in tensors.items() if name.startswith("model.")}
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise DataError(f"weights must fit the recipe's model, but {' '.join(str(error).split())[:300]}") from None


def random_tensors(generator: torch.Generator) -> dict[str, Tensor]:
    """The state of every random stream that training draws from."""
    states = {"random.cpu": torch.get_rng_state(), "random.generator": generator.get_state()}
    if torch.cuda.is_available():
        states["random.cuda"] = torch.cuda.get_rng_state()
    return states


def restore_random(generator: torch.Generator, tensors: Mapping[str, Tensor]) -> None:
    """Put back what `random_tensors` gave."""
    torch.set_rng_state(tensors["random.cpu"])
    generator.set_state(tensors["random.generator"])
    if "random.cuda" in tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors["random.cuda"])
