"""Predict from a bundle with NumPy and ONNX Runtime."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fusionkit.runtime.bundle import Bundle, read_bundle
from fusionkit.runtime.calibrated import calibrate, conformal_sets
from fusionkit.runtime.errors import BundleError
from fusionkit.runtime.explain import explain
from fusionkit.runtime.given import check_lengths, per_wearer, per_window, sentences
from fusionkit.runtime.graph import open_graph
from fusionkit.runtime.manifest import Sensor, Task
from fusionkit.runtime.reference import check_references
from fusionkit.runtime.signature import check_signature, take_answers
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
        graph: ``model.onnx``, open in ONNX Runtime.

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
        self.graph = open_graph(bundle.files["model.onnx"], f"{bundle.path}: model.onnx", threads)
        check_signature(self.graph, self.manifest, f"{bundle.path}: model.onnx")
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
        self._check_names(units, rates, channels)
        for name, unit in (units or {}).items():
            check_unit(name, self.sensors[name], unit)
        for name, rate in (rates or {}).items():
            check_rate(name, self.sensors[name], rate)
        for name, given in (channels or {}).items():
            check_channels(name, self.sensors[name], given)
        answers = self._run(self.feed(windows, lengths=lengths, statistics=statistics, present=present))
        if calibrated:
            return {name: calibrate(name, self.tasks[name], answer) for name, answer in answers.items()}
        return answers

    def feed(
        self,
        windows: Mapping[str, Any],
        *,
        lengths: Mapping[str, Any] | None = None,
        statistics: Mapping[str, tuple[Any, Any]] | None = None,
        present: Mapping[str, Any] | None = None,
    ) -> dict[str, Array]:
        """All inputs of the graph by name, checked: what `predict` runs it on.

        Raises:
            BundleError: as `predict`.
        """
        self._check_names(windows, lengths, statistics, present)
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
                here = here & per_window(name, "present", present[name], batch, bool)
            timed = f"{name}_length" in self._inputs
            if lengths is not None and name in lengths:
                said = per_window(name, "lengths", lengths[name], batch, np.int64)
                if timed:
                    real = check_lengths(name, said, real)
            feed[name] = check_values(name, sensor, values, real if timed else None, here)
            feed[f"{name}_present"] = here
            if timed:
                feed[f"{name}_length"] = real
            if sensor.statistics is not None:
                worn = (statistics or {}).get(name, self._worn.get(name))
                feed.update(per_wearer(name, sensor.statistics, here, worn))
        return feed

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
        return check_references(self, f"{self._where}: reference.npz", tolerance)

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
        said = sentences(value) if sensor.layout == "token" else None
        if said is None:
            windows = take_window(name, sensor, value)
            return windows, np.full(len(windows), windows.shape[-1], np.int64), np.ones(len(windows), bool)
        if name not in self._vocabularies:
            file = f"files/{name}/tokenizer.json"
            if file not in self.files:
                raise BundleError(f"{name}: a text must be given as token ids, for the bundle has no {file}")
            self._vocabularies[name] = Vocabulary(self.files[file], f"{self._where}: {file}")
        ids, real = self._vocabularies[name](name, said, sensor.shape[0])
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

    def _run(self, feed: dict[str, Array]) -> dict[str, Array]:
        try:
            outputs = self.graph.run(self._outputs, feed)
        except Exception as error:  # noqa: BLE001 - ONNX Runtime has many error classes and no public root
            said = " ".join(str(error).split())[:200]
            raise BundleError(f"the graph must take these windows, but {said}") from None
        return take_answers(self.tasks, outputs, len(next(iter(feed.values()))))
