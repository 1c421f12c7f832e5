"""Ask a bundle about a loader's windows."""

from collections.abc import Mapping

import numpy as np

from fusionkit.core.levels import Window
from fusionkit.core.modality import Array
from fusionkit.heads.task import Task
from fusionkit.runtime import Session


def answer(session: Session, windows: Mapping[str, Window]) -> dict[str, Array]:
    """What a bundle says, by task, to windows with their statistics."""
    return session.predict(
        {name: window.values.numpy() for name, window in windows.items()},
        lengths={name: window.length.numpy() for name, window in windows.items()},
        present={name: window.present.numpy() for name, window in windows.items()},
        statistics={
            name: (window.shift.numpy(), window.scale.numpy())
            for name, window in windows.items()
            if window.shift is not None and window.scale is not None
        },
    )


def as_prediction(task: Task, values: Array) -> Array:
    """An answer as metrics want it: a bundle gives the yes of every label, metrics take (no, yes)."""
    values = values.astype(np.float64)
    return np.stack([1 - values, values], -1) if task.kind == "multi_label" else values
