"""Features of windows, which a wearer's statistics are taken of: the bundle's second graph of a sensor."""

from typing import TYPE_CHECKING, Any

import numpy as np

from fusionkit.runtime.errors import BundleError
from fusionkit.runtime.given import check_lengths, per_window
from fusionkit.runtime.graph import open_graph

if TYPE_CHECKING:
    import onnxruntime

    from fusionkit.runtime.session import Session

Array = np.ndarray[Any, Any]


class FeatureGraphs:
    """The graphs ``features/<sensor>.onnx`` of a bundle, opened when they are first asked.

    Args:
        session: of the bundle.
    """

    def __init__(self, session: "Session") -> None:
        self.session = session
        self._open: dict[str, onnxruntime.InferenceSession] = {}

    def __call__(self, name: str, windows: Array, lengths: Array | None = None) -> tuple[Array, Array]:
        """Features ``(batch, step, channel, subchannel)``, and which steps are real; NaN where nothing was measured.

        Args:
            name: a sensor that is normalised by its wearer.
            windows: one window of any length, or a batch of them, aligned where the manifest asks for it.
            lengths: real samples of each; default all.

        Raises:
            BundleError: the sensor has no such graph, windows are of another shape, or a length is beyond its window.
        """
        sensor = self.session.sensors.get(name)
        if sensor is None or sensor.statistics is None:
            raise BundleError(f"{name}: a sensor must be normalised by its wearer to take statistics, but is not")
        values = np.asarray(windows)
        if values.ndim == len(sensor.shape):
            values = values[None]
        wanted = list(sensor.shape[:-1])
        if values.ndim != len(sensor.shape) + 1 or list(values.shape[1:-1]) != wanted or not values.shape[-1]:
            raise BundleError(
                f"{name}: windows must have shape {[*wanted, 'time']} ({sensor.layout}), but got {list(values.shape[1:])}"
            )
        if values.dtype.kind != "f":
            raise BundleError(f"{name}: windows must hold floating-point numbers, but got {values.dtype}")
        real = np.full(len(values), values.shape[-1], np.int64)
        length = real
        if lengths is not None:
            length = check_lengths(name, per_window(name, "lengths", lengths, len(values), np.int64), real)
        if name not in self._open:
            content = self.session.files.get(f"features/{name}.onnx")
            if content is None:
                raise BundleError(f"{name}: a bundle must have features/{name}.onnx to take statistics by, but has not")
            self._open[name] = open_graph(content, f"features/{name}.onnx")
        feed = {
            name: np.ascontiguousarray(values, np.float32),
            f"{name}_length": length,
        }
        try:
            features, mask = self._open[name].run(["features", "mask"], feed)
        except Exception as error:  # noqa: BLE001 - ONNX Runtime has many error classes and no public root
            raise BundleError(
                f"features/{name}.onnx must take these windows, but {str(error).splitlines()[0]}"
            ) from None
        if features.shape[2:] != tuple(sensor.statistics) or mask.shape != features.shape[:2]:
            raise BundleError(
                f"features/{name}.onnx must give features of {list(sensor.statistics)}, but gives {list(features.shape[2:])}"
            )
        return features, mask
