"""Predict from a bundle with NumPy and ONNX Runtime."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime

from fusionkit.runtime.bundle import Bundle, read_bundle
from fusionkit.runtime.errors import BundleError
from fusionkit.runtime.manifest import Sensor, Task

if TYPE_CHECKING:
    from fusionkit.runtime.filters import Chain

Array = np.ndarray[Any, Any]
NOWHERE = "/fusionkit-bundles-have-no-external-data"


class Session:
    """A loaded bundle. A sensor that is not given counts as unplugged.

    Args:
        bundle: what `read_bundle` gave.
        threads: threads for one prediction; 1 is best for a loop with one window at a time.

    Example:
        >>> session = Session.load("model.fusion")
        >>> session.predict({"eeg": window})["state"]  # doctest: +SKIP
    """

    def __init__(self, bundle: Bundle, threads: int = 1) -> None:
        self.manifest = bundle.manifest
        self.files = bundle.files
        self.sensors: Mapping[str, Sensor] = self.manifest.sensors
        self.tasks: Mapping[str, Task] = self.manifest.tasks
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 4  # what goes wrong is told by the error alone
        # weights lie in the graph: a graph that names files of the machine instead finds none
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", NOWHERE)
        try:
            self._session = onnxruntime.InferenceSession(
                bundle.files["model.onnx"], options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # noqa: BLE001 - ONNX Runtime has many error classes and no public root
            raise BundleError(f"{bundle.path}: model.onnx must load, but {str(error).splitlines()[0]}") from None
        self._inputs = {node.name: node for node in self._session.get_inputs()}
        self._tokenizers: dict[str, Any] = {}

    @staticmethod
    def load(path: str | Path, threads: int = 1) -> "Session":
        """Open a bundle.

        Raises:
            BundleError: it breaks a rule.
        """
        return Session(read_bundle(path), threads)

    def predict(
        self,
        windows: Mapping[str, Any],
        *,
        lengths: Mapping[str, Array] | None = None,
        statistics: Mapping[str, tuple[Array, Array]] | None = None,
        present: Mapping[str, Array] | None = None,
    ) -> dict[str, Array]:
        """Answer every task for one window or a batch.

        Args:
            windows: by sensor, a window in the manifest's layout with or without a batch axis; text may be a string
                or a list of strings. Sensors left out are unplugged. Where the manifest says ``align``, windows are
                aligned first, see `fusionkit.runtime.alignment`.
            lengths: real samples of each window, where windows are padded; default all.
            statistics: shift and scale ``(batch, channel, subchannel)`` of sensors that are normalised by group.
            present: by sensor, whether each sample has it; default where a window is given.

        Returns:
            By task: probabilities ``(batch, class)``, per-label probabilities ``(batch, label)``, or values ``(batch, 1)``.

        Raises:
            BundleError: an unknown sensor, another shape than the manifest's, or statistics that are not given.
        """
        unknown = sorted({*windows, *(lengths or ()), *(statistics or ()), *(present or ())} - set(self.sensors))
        if unknown:
            raise BundleError(f"sensors must be among {sorted(self.sensors)}, but got {unknown}")
        arrays, real = {}, {}
        for name, value in windows.items():
            arrays[name], real[name] = self._window(name, value)
        if not arrays:
            raise BundleError(f"at least one sensor must be given, of {sorted(self.sensors)}")
        batch = len(next(iter(arrays.values())))
        feed: dict[str, Array] = {}
        for name, sensor in self.sensors.items():
            shape = [1 if size is None else size for size in sensor.shape]
            given = name in arrays
            values = arrays.get(name)
            if values is None:
                values = np.zeros((batch, *self._padded(sensor, shape)), dtype=sensor.dtype)
            if len(values) != batch:
                raise BundleError(f"{name}: a batch must have {batch} windows like the others, but has {len(values)}")
            here = np.full(batch, given)
            if present is not None and name in present:
                here = here & self._per_window(name, "present", present[name], batch, bool)
            feed[name], feed[f"{name}_present"] = values, here
            if f"{name}_length" in self._inputs:
                length = real.get(name, np.zeros(batch, np.int64))
                if lengths is not None and name in lengths:
                    length = np.minimum(self._per_window(name, "lengths", lengths[name], batch, np.int64), length)
                feed[f"{name}_length"] = length
            if sensor.statistics:
                feed.update(self._statistics(name, sensor, batch, bool(here.any()), statistics or {}))
        try:
            outputs = self._session.run(list(self.tasks), {name: feed[name] for name in self._inputs})
        except Exception as error:  # noqa: BLE001 - ONNX Runtime has many error classes and no public root
            raise BundleError(f"the graph must take these windows, but {str(error).splitlines()[0]}") from None
        return dict(zip(self.tasks, outputs, strict=True))

    def chain(self, name: str, *, bank: bool = True) -> "Chain":
        """A fresh chain of the causal steps from the channels of one sensor's stream to its windows.

        The stream has the channels of the manifest in their order, at its ``sample_rate`` by the chain's ``ratio``:
        for a sensor of 128 Hz and a chain that halves the rate, 256 Hz. A channel that comes off must be NaN in the
        stream, which is NaN in the window and counts as not measured: zeros would ring in the filters.

        Args:
            name: of the sensor.
            bank: False leaves out the filters of bands, as the calibration segment of ``align`` must; windows that
                went through them are aligned all the same.

        Raises:
            BundleError: no such sensor, its steps break a rule, or it was preprocessed as no stream can be.
        """
        from fusionkit.runtime.filters import Chain  # SciPy's filters take a second to import

        if name not in self.sensors:
            raise BundleError(f"no sensor named {name!r}; known: {sorted(self.sensors)}")
        steps = self.sensors[name].chain
        if steps is None:
            raise BundleError(f"{name}: a stream needs causal steps, but this sensor looked ahead when it was trained")
        whole = Chain(steps)
        return whole if bank else Chain([step for step in steps if step["step"] != "bank"])

    def explain(self) -> str:
        """Say in a few lines what goes in and what comes out."""
        lines = [f"{self.manifest.name}: made by fusionkit {self.manifest.versions.get('fusionkit', '?')}"]
        for name, sensor in self.sensors.items():
            rate = f", {sensor.sample_rate:g} Hz" if sensor.sample_rate else ""
            lines.append(
                f"  in  {name} ({sensor.kind}): {sensor.layout} {list(sensor.shape)}{rate} {sensor.unit}".rstrip()
            )
        for name, task in self.tasks.items():
            lines.append(f"  out {name} ({task.kind}): {', '.join(task.classes) or 'a value'}")
        return "\n".join(lines)

    def _window(self, name: str, value: Any) -> tuple[Array, Array]:
        sensor = self.sensors[name]
        array = np.asarray(value)
        if sensor.kind == "text" and array.dtype.kind == "U" and array.ndim < 2:
            return self._tokens(name, [str(sentence) for sentence in np.atleast_1d(array)])
        if array.dtype.kind not in "biuf":
            raise BundleError(f"{name}: a window must hold numbers, but got {array.dtype}")
        if array.ndim == len(sensor.shape):
            array = array[None]
        wanted = sensor.shape
        fits = array.ndim == len(wanted) + 1 and all(
            w is None or w == g for w, g in zip(wanted, array.shape[1:], strict=True)
        )
        if not fits:
            raise BundleError(
                f"{name}: a window must have shape {list(wanted)} ({sensor.layout}), but got {list(array.shape[1:])}"
            )
        array = np.ascontiguousarray(array, dtype=sensor.dtype)
        return array, np.full(len(array), array.shape[-1], np.int64)

    def _tokens(self, name: str, sentences: list[str]) -> tuple[Array, Array]:
        if name not in self._tokenizers:
            from tokenizers import Tokenizer

            self._tokenizers[name] = Tokenizer.from_str(self.files[f"files/{name}/tokenizer.json"].decode())
        limit = self.sensors[name].longest
        ids = [encoding.ids[:limit] for encoding in self._tokenizers[name].encode_batch(sentences)]
        real = np.array([len(row) for row in ids], np.int64)
        padded = np.zeros((len(ids), max(1, int(real.max(initial=1)))), np.int64)
        for row, tokens in enumerate(ids):
            padded[row, : len(tokens)] = tokens
        return padded, real

    @staticmethod
    def _per_window(name: str, what: str, values: Any, batch: int, dtype: Any) -> Array:
        """One value for each window, or one for all."""
        array = np.asarray(values, dtype)
        if array.shape not in ((), (1,), (batch,)):
            raise BundleError(f"{name}: {what} must be one for each of {batch} windows, but got {list(array.shape)}")
        return np.ascontiguousarray(np.broadcast_to(array, (batch,)))

    @staticmethod
    def _padded(sensor: Sensor, shape: list[int]) -> list[int]:
        return [sensor.longest if size is None else size for size in sensor.shape] if shape else shape

    def _statistics(
        self,
        name: str,
        sensor: Sensor,
        batch: int,
        needed: bool,
        statistics: Mapping[str, tuple[Array, Array]],
    ) -> dict[str, Array]:
        assert sensor.statistics is not None
        shape = (batch, *sensor.statistics)
        if name in statistics:
            shift, scale = (np.asarray(part, np.float32) for part in statistics[name])
            shift, scale = (part[None] if part.ndim == 2 else part for part in (shift, scale))
            for part in (shift, scale):
                if part.ndim != 3 or part.shape[0] not in (1, batch) or part.shape[1:] != shape[1:]:
                    raise BundleError(
                        f"{name}: shift and scale must have shape {list(shape)}, but got {list(part.shape)}"
                    )
            return {
                f"{name}_shift": np.ascontiguousarray(np.broadcast_to(shift, shape)),
                f"{name}_scale": np.ascontiguousarray(np.broadcast_to(scale, shape)),
            }
        if needed:
            raise BundleError(
                f"{name}: shift and scale {list(sensor.statistics)} of the wearer must be given (statistics=)"
            )
        return {f"{name}_shift": np.zeros(shape, np.float32), f"{name}_scale": np.ones(shape, np.float32)}
