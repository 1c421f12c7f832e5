"""Predict from a bundle with NumPy and ONNX Runtime."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fusionkit.runtime.bundle import Bundle, read_bundle
from fusionkit.runtime.calibrated import calibrate, conformal_sets
from fusionkit.runtime.errors import BundleError
from fusionkit.runtime.explain import explain
from fusionkit.runtime.graph import open_graph
from fusionkit.runtime.manifest import Sensor, Task
from fusionkit.runtime.reference import read_arrays
from fusionkit.runtime.signature import check_signature
from fusionkit.runtime.text import Vocabulary
from fusionkit.runtime.window import check_channels, check_rate, check_unit, check_values, take_window

if TYPE_CHECKING:
    from fusionkit.runtime.filters import Chain
    from fusionkit.runtime.wearer import Wearer

Array = np.ndarray[Any, Any]


class Session:
    """A loaded bundle. A sensor that is not given counts as unplugged.

    Args:
        bundle: what `read_bundle` gave.
        threads: threads for one prediction; 1 is best for a loop with one window at a time.

    Attributes:
        manifest: what the bundle says of itself.
        sensors: of it, by name.
        tasks: of it, by name.
        files: all others of the bundle.

    Raises:
        BundleError: it has no graph, or one that ONNX Runtime refuses or that takes or gives something else than the
            manifest says.

    Example:
        >>> session = Session.load("model.fusion")  # doctest: +SKIP
        >>> session.predict({"eeg": window})["state"]  # doctest: +SKIP
    """

    def __init__(self, bundle: Bundle, threads: int = 1) -> None:
        self.manifest = bundle.manifest
        self.files = bundle.files
        self.sensors: Mapping[str, Sensor] = self.manifest.sensors
        self.tasks: Mapping[str, Task] = self.manifest.tasks
        self._where = str(bundle.path)
        if "model.onnx" not in bundle.files:
            raise BundleError(f"{bundle.path}: a bundle must have a model.onnx, but has none")
        self._graph = open_graph(bundle.files["model.onnx"], f"{bundle.path}: model.onnx", threads)
        check_signature(self._graph, self.manifest, f"{bundle.path}: model.onnx")
        self._inputs = frozenset(self.manifest.inputs)
        self._outputs = list(self.tasks)
        self._vocabularies: dict[str, Vocabulary] = {}
        self._absent: dict[tuple[str, int], dict[str, Array]] = {}
        wearer = self.wearer()
        self._worn = {} if wearer is None else wearer.statistics

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
        lengths: Mapping[str, Any] | None = None,
        statistics: Mapping[str, tuple[Any, Any]] | None = None,
        present: Mapping[str, Any] | None = None,
        units: Mapping[str, str] | None = None,
        rates: Mapping[str, float] | None = None,
        channels: Mapping[str, Sequence[str]] | None = None,
        calibrated: bool = False,
    ) -> dict[str, Array]:
        """Answer every task for one window or a batch.

        A number that is not finite marks a channel that was not measured, where the manifest says that the sensor
        ``lacks`` channels (EEG); of other sensors such a window is refused. No answer is ever NaN.

        Args:
            windows: by sensor, a window in the manifest's layout with or without a batch axis; text may be a string
                or a list of strings, of which blank ones are absent. Sensors left out are unplugged. Where the
                manifest says ``align``, windows are aligned first, see `fusionkit.runtime.alignment`.
            lengths: real samples of each window, where windows are padded; default all.
            statistics: shift and scale ``(batch, channel, subchannel)`` of sensors that are normalised by group; default
                those of the wearer whom the bundle was fitted to, if there is one.
            present: by sensor, whether each window is there; default where one is given.
            units: of the windows as the caller knows them, to be checked; ``uV`` for ``V`` is refused.
            rates: likewise, hertz.
            channels: likewise, names in order.
            calibrated: answer at the temperature of the manifest.

        Returns:
            By task: probabilities ``(batch, class)``, per-label probabilities ``(batch, label)``, or values ``(batch, 1)``.

        Raises:
            BundleError: an unknown sensor, another shape, dtype, unit, rate or order of channels than the manifest's,
                a window that cannot be believed, statistics that are not given, or no temperature.
        """
        self._check_names(windows, lengths, statistics, present, units, rates, channels)
        for name, unit in (units or {}).items():
            check_unit(name, self.sensors[name], unit)
        for name, rate in (rates or {}).items():
            check_rate(name, self.sensors[name], rate)
        for name, given in (channels or {}).items():
            check_channels(name, self.sensors[name], given)
        taken = {name: self._take(name, value) for name, value in windows.items()}
        if not taken:
            raise BundleError(f"at least one sensor must be given, of {sorted(self.sensors)}")
        batch = len(next(iter(taken.values()))[0])
        feed: dict[str, Array] = {}
        for name, sensor in self.sensors.items():
            if name not in taken:
                feed.update(self._nothing(name, sensor, batch))
                continue
            values, real, here = taken[name]
            if len(values) != batch:
                raise BundleError(f"{name}: a batch must have {batch} windows like the others, but has {len(values)}")
            if present is not None and name in present:
                here = here & _per_window(name, "present", present[name], batch, bool)
            timed = f"{name}_length" in self._inputs
            if lengths is not None and name in lengths:
                said = _per_window(name, "lengths", lengths[name], batch, np.int64)
                if timed:
                    real = _shorter(name, said, real)
            feed[name] = check_values(name, sensor, values, real if timed else None, here)
            feed[f"{name}_present"] = here
            if timed:
                feed[f"{name}_length"] = real
            if sensor.statistics is not None:
                feed.update(
                    self._statistics(name, sensor.statistics, here, (statistics or {}).get(name, self._worn.get(name)))
                )
        answers = self._run(feed, batch)
        if calibrated:
            return {name: calibrate(name, self.tasks[name], answer) for name, answer in answers.items()}
        return answers

    def sets(
        self, answers: Mapping[str, Array], coverage: float = 0.9, *, calibrated: bool = False
    ) -> dict[str, Array]:
        """Which classes ``(batch, class)`` cannot be ruled out, of every task whose sets the manifest has.

        The right class is in as many sets as ``coverage`` says, as far as new people are like those of the
        calibration groups.

        Args:
            answers: what `predict` gave.
            coverage: one that the manifest has.
            calibrated: whether `predict` gave calibrated ones.

        Raises:
            BundleError: no task has sets of that coverage.
        """
        found = {}
        for name, answer in answers.items():
            if name not in self.tasks:
                raise BundleError(f"no task named {name!r}; known: {sorted(self.tasks)}")
            task = self.tasks[name]
            if task.conformal:
                probabilities = answer if calibrated else calibrate(name, task, answer)
                found[name] = conformal_sets(name, task, probabilities, coverage)
        if not found:
            raise BundleError(
                f"sets need calibration groups (data.split.calibration), but of {sorted(answers)} the bundle has none"
            )
        return found

    def check(self, tolerance: float = 1e-4) -> float:
        """Ask the reference inputs of the bundle, and say how far the answers are from those where it was made.

        Args:
            tolerance: largest difference allowed, relative to 1 or the answer, if larger.

        Raises:
            BundleError: the bundle has no references, or answers otherwise here.
        """
        where = f"{self._where}: reference.npz"
        if "reference.npz" not in self.files:
            raise BundleError(f"{where} must be there to be checked, but is not")
        arrays = read_arrays(self.files["reference.npz"], where)
        given: dict[str, dict[str, Array]] = {
            "input": {},
            "output": {},
            "length": {},
            "present": {},
            "shift": {},
            "scale": {},
        }
        for key, array in arrays.items():
            kind, _, name = key.partition("_")
            if kind not in given:
                raise BundleError(f"{where}: names must begin with one of {sorted(given)}, but got {key[:60]!r}")
            given[kind][name] = array
        if set(given["output"]) != set(self.tasks) or not given["input"]:
            raise BundleError(f"{where} must have inputs and an answer of every task, but has {sorted(arrays)}"[:300])
        statistics = {
            name: (
                given["shift"].get(name, np.zeros(sensor.statistics)),
                given["scale"].get(name, np.ones(sensor.statistics)),
            )
            for name, sensor in self.sensors.items()
            if sensor.statistics is not None
        }
        answers = self.predict(given["input"], lengths=given["length"], present=given["present"], statistics=statistics)
        largest = 0.0
        for name, answer in answers.items():
            wanted = given["output"][name].astype(np.float64)
            if wanted.shape != answer.shape:
                raise BundleError(f"{where}: {name} must be {list(answer.shape)}, but is {list(wanted.shape)}")
            far = float(np.max(np.abs(answer - wanted) / np.maximum(1, np.abs(wanted)), initial=0))
            if not far <= tolerance:
                raise BundleError(
                    f"{where}: {name} must be answered as where the bundle was made to {tolerance:g}, but differs by {far:.3g}"
                )
            largest = max(largest, far)
        return largest

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

    def wearer(self) -> "Wearer | None":
        """A copy of whom the bundle was fitted to (``fusionkit adapt``); None where it was fitted to nobody.

        Raises:
            BundleError: the bundle's ``wearer.npz`` is not of its sensors.
        """
        from fusionkit.runtime.wearer import Wearer

        if "wearer.npz" not in self.files:
            return None
        return Wearer.from_bytes(self, self.files["wearer.npz"], f"{self._where}: wearer.npz")

    def explain(self) -> str:
        """Say what goes in and what comes out: windows, units, rates, classes, calibration, versions, size, latency."""
        return explain(self.manifest, len(self.files), sum(map(len, self.files.values())))

    def _check_names(self, *given: Mapping[str, Any] | None) -> None:
        for names in given:
            if names and not names.keys() <= self.sensors.keys():
                unknown = sorted(str(name) for name in names if name not in self.sensors)
                raise BundleError(f"sensors must be among {sorted(self.sensors)}, but got {unknown}")

    def _take(self, name: str, value: Any) -> tuple[Array, Array, Array]:
        """Windows of one sensor, how many samples of each are real, and which are there."""
        sensor = self.sensors[name]
        sentences = _sentences(value) if sensor.layout == "token" else None
        if sentences is None:
            windows = take_window(name, sensor, value)
            return windows, np.full(len(windows), windows.shape[-1], np.int64), np.ones(len(windows), bool)
        if name not in self._vocabularies:
            file = f"files/{name}/tokenizer.json"
            if file not in self.files:
                raise BundleError(f"{name}: a text must be given as token ids, for the bundle has no {file}")
            self._vocabularies[name] = Vocabulary(self.files[file], f"{self._where}: {file}")
        ids, real = self._vocabularies[name](name, sentences, sensor.shape[0])
        return ids, real, real > 0

    def _nothing(self, name: str, sensor: Sensor, batch: int) -> dict[str, Array]:
        """Inputs of a sensor that is not there; made once and kept, for nothing writes to them."""
        if (name, batch) not in self._absent:
            if len(self._absent) >= 2 * len(self.sensors):  # batches of ever other sizes
                self._absent.clear()
            longest = sensor.longest if sensor.window is None else sensor.window.samples
            shape = (batch, *(size or longest for size in sensor.shape))
            made = {name: np.zeros(shape, sensor.dtype), f"{name}_present": np.zeros(batch, bool)}
            if f"{name}_length" in self._inputs:
                made[f"{name}_length"] = np.zeros(batch, np.int64)
            if sensor.statistics is not None:
                made[f"{name}_shift"] = np.zeros((batch, *sensor.statistics), np.float32)
                made[f"{name}_scale"] = np.ones((batch, *sensor.statistics), np.float32)
            self._absent[name, batch] = made
        return self._absent[name, batch]

    def _run(self, feed: dict[str, Array], batch: int) -> dict[str, Array]:
        try:
            outputs = self._graph.run(self._outputs, feed)
        except Exception as error:  # noqa: BLE001 - ONNX Runtime has many error classes and no public root
            said = " ".join(str(error).split())[:200]
            raise BundleError(f"the graph must take these windows, but {said}") from None
        for (name, task), output in zip(self.tasks.items(), outputs, strict=True):
            if output.shape != (batch, len(task.classes) or 1) or not np.isfinite(output).all():
                raise BundleError(
                    f"{name}: the graph must answer {[batch, len(task.classes) or 1]} finite numbers, but gave "
                    f"{list(output.shape)}{'' if np.isfinite(output).all() else ' with some that are not'}"
                )
        return dict(zip(self.tasks, outputs, strict=True))

    @staticmethod
    def _statistics(name: str, shape: tuple[int, int], here: Array, given: tuple[Any, Any] | None) -> dict[str, Array]:
        wanted = (len(here), *shape)
        if given is None:
            if here.any():
                raise BundleError(f"{name}: shift and scale {list(shape)} of the wearer must be given (statistics=)")
            given = np.zeros(shape), np.ones(shape)
        shift, scale = (np.asarray(part, np.float32) for part in given)
        for part in (shift, scale):
            if (
                part.ndim not in (2, 3)
                or part.shape[-2:] != shape
                or (part.ndim == 3 and len(part) not in (1, len(here)))
            ):
                raise BundleError(f"{name}: shift and scale must have shape {list(wanted)}, but got {list(part.shape)}")
        if not np.isfinite(shift).all() or not (np.isfinite(scale) & (scale > 0)).all():
            raise BundleError(f"{name}: shift must be finite and scale above 0, but one is not")
        return {
            f"{name}_shift": np.ascontiguousarray(np.broadcast_to(shift, wanted)),
            f"{name}_scale": np.ascontiguousarray(np.broadcast_to(scale, wanted)),
        }


def _sentences(value: Any) -> list[str] | None:
    """Sentences, if it is some."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, np.ndarray) and value.dtype.kind == "U" and value.ndim < 2:
        return [str(sentence) for sentence in np.atleast_1d(value)]
    if isinstance(value, list | tuple) and value and all(isinstance(sentence, str) for sentence in value):
        return list(value)
    return None


def _per_window(name: str, what: str, values: Any, batch: int, dtype: Any) -> Array:
    """One value for each window, or one for all."""
    array = np.asarray(values)
    if array.shape not in ((), (1,), (batch,)):
        raise BundleError(f"{name}: {what} must be one for each of {batch} windows, but got {list(array.shape)}")
    if array.dtype.kind not in ("b" if dtype is bool else "iu"):
        rule = "true or false" if dtype is bool else "whole numbers"
        raise BundleError(f"{name}: {what} must be {rule}, but got {array.dtype}")
    return np.ascontiguousarray(np.broadcast_to(array, (batch,)), dtype)


def _shorter(name: str, said: Array, real: Array) -> Array:
    """Lengths that windows can have."""
    if (said < 0).any() or (said > real).any():
        row = int(np.argmax((said < 0) | (said > real)))
        raise BundleError(
            f"{name}: a length must be from 0 to the {real[row]} samples of its window, but got {said[row]}"
        )
    return said
