"""The second graph of a sensor: windows in, features out, which a wearer's statistics are taken of."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from fusionkit.core.levels import Window
from fusionkit.core.modality import FrontEnd
from fusionkit.export.graph import BATCH, ExportError, SensorInput, free_axes, to_onnx
from fusionkit.export.parity import Difference, far
from fusionkit.runtime.graph import open_graph
from fusionkit.training.trained import Trained


class FeatureMaker(nn.Module):
    """A front end with plain tensors in and out: what shift and scale are statistics of, smoothing within a window done."""

    def __init__(self, front_end: FrontEnd) -> None:
        super().__init__()
        self.front_end = front_end

    def forward(self, values: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        """Features ``(batch, step, channel, subchannel)``, and which steps are real."""
        features, mask = self.front_end(values, length)
        return features.float(), mask


def feature_graphs(
    trained: Trained, sensors: Mapping[str, SensorInput], windows: Mapping[str, Window], opset: int
) -> dict[str, bytes]:
    """The graph of every sensor that is normalised by a wearer's statistics.

    Args:
        trained: the model.
        sensors: what its graph takes.
        windows: of every sensor, twice as long as usual where time may vary.
        opset: version of the operators.

    Raises:
        ExportError: torch cannot export one with time that varies, as a calibration segment needs.
    """
    made = {}
    for name, sensor in sensors.items():
        if sensor.statistics is None:
            continue
        example = [windows[name].values[:2].clone(), windows[name].length[:2].clone()]
        shapes = {"values": free_axes(sensor), "length": {0: BATCH}}
        maker = FeatureMaker(trained.model.front_end(name)).eval()
        try:
            made[name] = to_onnx(
                maker,
                example,
                inputs=[name, f"{name}_length"],
                outputs=["features", "mask"],
                shapes=shapes,
                opset=opset,
            )
        except ExportError as error:
            raise ExportError(f"the front end of {name}: {error}") from error
    return made


def compare_features(
    trained: Trained, graphs: Mapping[str, bytes], windows: Mapping[str, Window], tolerance: float
) -> list[Difference]:
    """How far every sensor's features are from torch's, for batch 1 and N; what was not measured must be NaN in both.

    Raises:
        ExportError: they differ by more than ``tolerance``, or other steps are real.
    """
    found = []
    for name, graph in graphs.items():
        session, window = open_graph(graph, f"features/{name}.onnx"), windows[name]
        maker = FeatureMaker(trained.model.front_end(name)).eval()
        for batch in (1, len(window.present)):
            values, length = window.values[:batch], window.length[:batch]
            with torch.no_grad():
                features, mask = (part.numpy() for part in maker(values, length))
            got, real = session.run(["features", "mask"], {name: values.numpy(), f"{name}_length": length.numpy()})
            if not np.array_equal(mask, real):
                raise ExportError(f"features of {name} must have the steps that torch gives, but have others")
            largest = far(got[real], features[mask])
            if not largest <= tolerance:
                raise ExportError(
                    f"features of {name} must be as torch's to {tolerance:g}, but differ by {largest:.3g} (batch {batch})"
                )
            found.append(Difference(f"features of {name}", batch, largest, (name,)))
    return found
