"""How far a bundle's answers are from torch's: at worst, over batches and subsets of sensors."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from fusionkit.core.levels import Window
from fusionkit.core.modality import Array
from fusionkit.evaluation.bundled import answer
from fusionkit.export.graph import Deployed, ExportError, flatten
from fusionkit.runtime import BundleError, Session

MOST_SUBSETS = 64


@dataclass(frozen=True)
class Difference:
    """The largest difference of one output in batches of one size.

    Attributes:
        output: a task, or whose features.
        batch: how many windows at once.
        largest: relative to 1 or the answer, whichever is larger.
        sensors: of the subset where it was; the others were absent.
        cases: how many subsets were compared.
    """

    output: str
    batch: int
    largest: float
    sensors: tuple[str, ...]
    cases: int = 1


@dataclass(frozen=True)
class Parity:
    """Every output in every size of batch."""

    rows: tuple[Difference, ...]

    @property
    def largest(self) -> float:
        """Of all."""
        return max((row.largest for row in self.rows), default=0.0)

    @property
    def cases(self) -> int:
        """How many answers were compared."""
        return sum(row.cases for row in self.rows)

    def as_dict(self) -> list[dict[str, Any]]:
        """A row each, as plain data."""
        return [
            {"output": r.output, "batch": r.batch, "largest": r.largest, "sensors": list(r.sensors), "cases": r.cases}
            for r in self.rows
        ]


def compare(deployed: Deployed, session: Session, inputs: Mapping[str, Window], tolerance: float) -> Parity:
    """Answers of torch and of the bundle, for batch 1 and N and for every non-empty subset of sensors.

    Raises:
        ExportError: they differ by more than ``tolerance``.
    """
    rows = []
    for batch in dict.fromkeys((1, len(next(iter(inputs.values())).present))):
        worst: dict[str, tuple[float, tuple[str, ...]]] = {}
        chosen = subsets(list(inputs))
        for subset in chosen:
            given = {n: some(inputs[n], slice(batch), here=n in subset) for n in inputs}
            with torch.no_grad():
                wanted = deployed(*flatten(given, deployed.sensors))
            try:
                got = answer(session, given)
            except BundleError as error:
                raise ExportError(
                    f"the bundle must answer batch {batch} with sensors {', '.join(subset)}, but {error}"
                ) from None
            for task, tensor in zip(deployed.tasks, wanted, strict=True):
                difference = far(got[task], tensor.numpy())
                if not difference <= tolerance:
                    raise ExportError(
                        f"{task}: the bundle must answer as torch does to {tolerance:g}, but differs by "
                        f"{difference:.3g} (batch {batch}, sensors {', '.join(subset)})"
                    )
                if task not in worst or difference > worst[task][0]:
                    worst[task] = difference, subset
        rows += [Difference(task, batch, *found, cases=len(chosen)) for task, found in worst.items()]
    return Parity(tuple(rows))


def subsets(names: Sequence[str]) -> list[tuple[str, ...]]:
    """Every non-empty subset; above six sensors each alone, all but each one, and all."""
    found = [c for size in range(1, len(names) + 1) for c in itertools.combinations(names, size)]
    if len(found) > MOST_SUBSETS:
        found = [c for c in found if len(c) in (1, len(names) - 1, len(names))]
    return found


def far(got: Array, wanted: Array) -> float:
    """The largest difference, relative to 1 or what is wanted, whichever is larger; nan where one of both is NaN.

    Of 0.5 from 0.4, 0.1; of 30 from 20, 0.5.
    """
    true = np.asarray(wanted, np.float64)
    alike = np.isnan(true) & np.isnan(got)
    difference = np.abs(got - true) / np.maximum(1, np.abs(true))
    return float(np.max(np.where(alike, 0, difference), initial=0))


def some(window: Window, rows: slice, *, here: bool) -> Window:
    """Some windows of a batch, with the sensor or without it."""
    cut = Window(*(None if part is None else part[rows] for part in window))  # type: ignore[arg-type]
    return cut if here else cut._replace(present=torch.zeros_like(cut.present))
