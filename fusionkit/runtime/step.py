"""Go on from step to step with NumPy and ONNX Runtime: an answer costs one step, however long the stream."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fusionkit.runtime.bundle import Bundle, read_bundle
from fusionkit.runtime.calibrated import calibrate
from fusionkit.runtime.errors import BundleError
from fusionkit.runtime.given import check_lengths, per_wearer, per_window, sentences
from fusionkit.runtime.graph import open_graph
from fusionkit.runtime.manifest import Sensor, StepState
from fusionkit.runtime.signature import check_step_signature, take_answers
from fusionkit.runtime.text import Vocabulary
from fusionkit.runtime.window import check_values, take_window

Array = np.ndarray[Any, Any]
State = Mapping[str, Array]


class StepSession:
    """A bundle that was exported with ``--streaming``, step by step.

    A state is plain arrays by name, which belong to the caller: none is written to, so that it may be kept, copied or
    gone back to. After k steps from `start` an answer is that of the whole-window graph to a window of which k steps
    are real. After more than the manifest's ``steps`` it remembers that many, see `fusionkit.fusion.rcft.RCFT.step`.

    Args:
        bundle: what `read_bundle` gave.
        threads: threads for one step.

    Attributes:
        graph: what a step takes and gives; ``graph.sensors["eeg"].samples`` are those of a step.

    Raises:
        BundleError: it has no step graph, or breaks a rule.

    Example:
        >>> session = StepSession.load("model.fusion")
        >>> state = session.start()
        >>> answers, state = session.push({"eeg": samples}, state)  # doctest: +SKIP
    """

    def __init__(self, bundle: Bundle, threads: int = 1) -> None:
        self.manifest, self.files = bundle.manifest, bundle.files
        if self.manifest.step_graph is None:
            raise BundleError(f"{bundle.path}: must be exported with --streaming to go step by step, but was not")
        self.graph = self.manifest.step_graph
        self.tasks = self.manifest.tasks
        self._steps: dict[str, Sensor] = {}
        for name, told in self.graph.sensors.items():
            sensor = self.manifest.sensors[name]
            self._steps[name] = sensor if told.samples is None else replace(sensor, shape=told.shape)
        try:
            self._session = open_graph(self.files["step.onnx"], "step.onnx", threads)
            self._held = {
                name: open_graph(self.files[f"held/{name}.onnx"], f"held/{name}.onnx", threads)
                for name, told in self.graph.sensors.items()
                if told.samples is None
            }
        except KeyError as error:
            raise BundleError(f"{bundle.path}: must have {error}, for it has a step graph, but has not") from None
        check_step_signature(self._session, self.manifest, f"{bundle.path}: step.onnx")
        self._outputs = [*self.tasks, *(part.output for part in self.graph.state)]
        self._vocabularies: dict[str, Vocabulary] = {}

    @staticmethod
    def load(path: str | Path, threads: int = 1) -> "StepSession":
        """Open a bundle.

        Raises:
            BundleError: it breaks a rule.
        """
        return StepSession(read_bundle(path), threads)

    def start(self, batch: int = 1) -> dict[str, Array]:
        """The state before the first step of ``batch`` streams that go on together."""
        if batch < 1:
            raise BundleError(f"a batch must have one stream or more, but got {batch}")
        state = {part.input: np.zeros(_shape(part, batch), part.dtype) for part in self.graph.state}
        for name in self._held:
            state[name] = np.zeros((batch, *self.graph.sensors[name].shape), np.float32)
            state[f"{name}_present"] = np.zeros(batch, bool)
        return state

    def push(
        self,
        steps: Mapping[str, Any],
        state: State,
        *,
        present: Mapping[str, Any] | None = None,
        lengths: Mapping[str, Any] | None = None,
        statistics: Mapping[str, tuple[Array, Array]] | None = None,
        calibrated: bool = False,
    ) -> tuple[dict[str, Array], dict[str, Array]]:
        """Take one step, and answer every task.

        Args:
            steps: by sensor with time, ``samples`` new samples in the layout of windows, with or without a batch
                axis; one that is left out, or None, is absent in this step. A sensor without time (an image, a
                sentence) is given once, or again when there is a new one, and held in the state; None takes it away.
            state: what `start` or the step before gave.
            present: by sensor that is given, which streams have it; default all.
            lengths: real tokens of ids that are given in place of sentences; default all.
            statistics: shift and scale ``(batch, channel, subchannel)`` of sensors that are normalised by a wearer's.
            calibrated: answer at the temperature of the manifest, which whole windows asked for.

        Returns:
            Answers as those of `Session.predict`, and the new state.

        Raises:
            BundleError: an unknown sensor, another shape than a step has, statistics that are not given, or a state of
                another bundle or batch.
        """
        given = {*steps, *(present or ()), *(lengths or ()), *(statistics or ())}
        unknown = sorted(given - set(self._steps))
        if unknown:
            raise BundleError(f"sensors must be among {sorted(self._steps)}, but got {unknown}")
        batch = self._check(state)
        feed = {part.input: state[part.input] for part in self.graph.state}
        held: dict[str, Array] = {}
        for name, sensor in self._steps.items():
            here = self._present(name, steps, present, batch)
            if name in self._held:
                held |= self._hold(name, sensor, steps, here, state, lengths, statistics)
                continue
            if here.any():
                feed[name] = self._values(name, take_window(name, sensor, steps[name]), here, None)
            else:
                feed[name] = np.zeros((batch, *self.graph.sensors[name].shape), sensor.dtype)
            feed[f"{name}_present"] = here
            feed |= self._statistics(name, sensor, here, statistics)
        try:
            outputs = self._session.run(self._outputs, {**feed, **held})
        except Exception as error:  # noqa: BLE001 - ONNX Runtime has many error classes and no public root
            raise BundleError(f"the step graph must take this step, but {' '.join(str(error).split())[:200]}") from None
        answers = take_answers(self.tasks, outputs[: len(self.tasks)], batch)
        if calibrated:
            answers = {name: calibrate(name, self.tasks[name], answer) for name, answer in answers.items()}
        after = zip((part.input for part in self.graph.state), outputs[len(self.tasks) :], strict=True)
        return answers, {**dict(after), **held}

    def _check(self, state: State) -> int:
        """How many streams a state is of."""
        names = {part.input for part in self.graph.state} | {n for k in self._held for n in (k, f"{k}_present")}
        if set(state) != names:
            raise BundleError("a state must be what start or push gave, but has other names")
        part = next(part for part in self.graph.state if None in part.shape)
        axis = part.shape.index(None)
        batch = state[part.input].shape[axis] if state[part.input].ndim > axis else 0
        for one in self.graph.state:
            array = state[one.input]
            if array.shape != _shape(one, batch) or array.dtype != one.dtype:
                rule = f"{one.dtype} {list(_shape(one, batch))}"
                raise BundleError(f"{one.input} of a state must be {rule}, but is {array.dtype} {list(array.shape)}")
        return batch

    def _present(self, name: str, steps: Mapping[str, Any], present: Mapping[str, Any] | None, batch: int) -> Array:
        """Which streams bring something new of a sensor."""
        if steps.get(name) is None:
            return np.zeros(batch, bool)
        return per_window(name, "present", True if present is None else present.get(name, True), batch, bool)

    @staticmethod
    def _statistics(
        name: str, sensor: Sensor, here: Array, statistics: Mapping[str, tuple[Array, Array]] | None
    ) -> dict[str, Array]:
        if sensor.statistics is None:
            return {}
        return per_wearer(name, sensor.statistics, here, (statistics or {}).get(name))

    def _values(self, name: str, values: Array, here: Array, lengths: Array | None) -> Array:
        if len(values) != len(here):
            raise BundleError(f"{name}: there must be a step for each of {len(here)} streams, but got {len(values)}")
        return check_values(name, self._steps[name], values, lengths, here)

    def _hold(
        self,
        name: str,
        sensor: Sensor,
        steps: Mapping[str, Any],
        here: Array,
        state: State,
        lengths: Mapping[str, Any] | None,
        statistics: Mapping[str, tuple[Array, Array]] | None,
    ) -> dict[str, Array]:
        """The vector of a sensor without time: the new one where it is given, else the old one."""
        vector, present = state[name], state[f"{name}_present"]
        if vector.shape != (len(here), *self.graph.sensors[name].shape) or present.shape != here.shape:
            raise BundleError(f"{name} of a state must be of {len(here)} streams, but is {list(vector.shape)}")
        if name in steps and steps[name] is None:
            return {name: np.zeros_like(vector), f"{name}_present": np.zeros_like(present)}
        if not here.any():
            return {name: vector, f"{name}_present": present}
        value, graph = steps[name], self._held[name]
        said = sentences(value) if sensor.layout == "token" else None
        if said is not None:
            values, length = self._tokens(name, sensor, said)
        else:
            values = take_window(name, sensor, value)
            length = np.full(len(values), values.shape[-1], np.int64)
            if lengths is not None and name in lengths:
                told = per_window(name, "lengths", lengths[name], len(values), np.int64)
                length = check_lengths(name, told, length)
        values = self._values(name, values, here, length if sensor.layout == "token" else None)
        feed = {name: values, f"{name}_length": length, **self._statistics(name, sensor, here, statistics)}
        try:
            new, real = graph.run(["vector", "real"], {node.name: feed[node.name] for node in graph.get_inputs()})
        except Exception as error:  # noqa: BLE001 - ONNX Runtime has many error classes and no public root
            raise BundleError(f"{name}: the graph must take this, but {' '.join(str(error).split())[:200]}") from None
        return {
            name: np.where(here[:, None], new, vector),
            f"{name}_present": np.where(here, real, present),
        }

    def _tokens(self, name: str, sensor: Sensor, said: list[str]) -> tuple[Array, Array]:
        if name not in self._vocabularies:
            file = f"files/{name}/tokenizer.json"
            if file not in self.files:
                raise BundleError(f"{name}: a text must be given as token ids, for the bundle has no {file}")
            self._vocabularies[name] = Vocabulary(self.files[file], file)
        return self._vocabularies[name](name, said, sensor.shape[0])


def _shape(part: StepState, batch: int) -> tuple[int, ...]:
    return tuple(batch if size is None else size for size in part.shape)
