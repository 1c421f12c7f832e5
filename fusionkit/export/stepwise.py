"""Which models go step by step: what each sensor brings to a step, and why the others cannot."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from fusionkit.core.framing import Frames
from fusionkit.data.smoothing import NoSmoothing
from fusionkit.encoders.encoder import FeatureEncoder, PastEncoder
from fusionkit.export.graph import ExportError, SensorInput
from fusionkit.fusion.rcft import RCFT
from fusionkit.recipe.problem import Key, dotted
from fusionkit.recipe.sections import Recipe
from fusionkit.training.trained import Trained

EDGE = 1e-4
"""Edges of bins lie so much of a bin early, as in `fusionkit.fusion.align.membership`."""


@dataclass(frozen=True)
class TimedSensor:
    """A sensor with time, in samples.

    Attributes:
        window: what the graph of whole windows takes of it.
        samples: of a step.
        tail: of the steps before, which features that reach back need.
        hop: from one feature to the next.
        features: of a step.
    """

    window: SensorInput
    samples: int
    tail: int
    hop: int
    features: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Of a step's samples, without batch."""
        return (*self.item, self.samples)

    @property
    def item(self) -> tuple[int, ...]:
        """Of one sample."""
        return tuple(size for size in self.window.shape[:-1] if size is not None)


@dataclass(frozen=True)
class Plan:
    """How a model goes step by step.

    Attributes:
        node: name of the fusion node.
        fusion: what it does.
        seconds: of a step.
        timed: sensors that bring samples to every step.
        held: sensors without time, which are given once, or again.
    """

    node: str
    fusion: RCFT
    seconds: float
    timed: Mapping[str, TimedSensor]
    held: Mapping[str, SensorInput]


def plan_steps(trained: Trained, sensors: Mapping[str, SensorInput]) -> Plan:
    """What a step is: one bin of the clock that `rcft` brings streams onto.

    What qualifies: one `rcft` node that knows positions by their distance (or not at all; or an LSTM); sensors with
    time whose features are made of their own samples (`FrontEnd.stepwise`) and whose encoder sees steps alone
    (`FeatureEncoder.stepwise`) or the past (`PastEncoder`), normalised by training records or by statistics that are
    given. A bin must hold whole samples and whole features. A feature belongs to the bin of its centre and must end
    in it, lest a bin change after it was answered: features of at most a hop, or of two, do.

    Args:
        trained: the model.
        sensors: what the graph of whole windows takes of each.

    Raises:
        ExportError: the model does not qualify; it names every key that forbids it.
    """
    refuse_steps(trained)
    node, fusion = trained.recipe.graph.end.name, _fusion(trained)
    timed = {name: _timed(trained, name, sensors[name]) for name in _timed_names(trained)}
    seconds = _seconds(fusion)
    return Plan(node, fusion, seconds, timed, {n: sensor for n, sensor in sensors.items() if n not in timed})


def refuse_steps(trained: Trained) -> None:
    """Refuse a model that does not go step by step; see `plan_steps`.

    Raises:
        ExportError: it does not; the one line names every key that forbids it.
    """
    problems = [*_fusion_problems(trained), *_sensor_problems(trained)]
    if not problems:
        problems = [*_bin_problems(trained)]
    if problems:
        told = "; ".join(f"{dotted(key)}: {message}" for key, message in problems)
        raise ExportError(f"no step graph can be made of this run: {told}")


def _fusion_key(recipe: Recipe, option: str) -> Key:
    return ("fusion", "graph", recipe.graph.end.name, option) if "graph" in recipe.fusion else ("fusion", option)


def _fusion_problems(trained: Trained) -> Iterator[tuple[Key, str]]:
    recipe = trained.recipe
    nodes = recipe.graph.nodes
    if len(nodes) != 1:
        names = ", ".join(f"{node.name} ({node.kind})" for node in nodes)
        yield ("fusion", "graph"), f"must be one rcft node to go step by step, but has {names}"
    elif nodes[0].kind != "rcft":
        yield _fusion_key(recipe, "kind"), f"must be rcft to go step by step, but is {nodes[0].kind}"
    elif _fusion(trained).sinusoidal:
        yield (
            _fusion_key(recipe, "positions"),
            "must be rotary or none, for sinusoidal ones count from the beginning of a window, which a stream has not",
        )


def _sensor_problems(trained: Trained) -> Iterator[tuple[Key, str]]:
    recipe = trained.recipe
    timed = _timed_names(trained)
    if not timed:
        yield ("modalities",), "one must have time to go step by step, but none has"
    for name in timed:
        key: Key = ("modalities", name)
        entry, encoder = recipe.modalities[name], trained.model.encoders[name]
        assert entry.encoder is not None
        for finding in trained.modalities[name].ahead():
            yield key, f"must be causal to go step by step, but {finding}"
        if not isinstance(entry.smooth, NoSmoothing):
            what = "smoothing begins anew with every window"
            yield (*key, "smooth", "kind"), f"must be none, for {what}, but is {entry.smooth.kind}"
        elif name in trained.model.front_ends:
            frames = trained.model.front_end(name).stepwise()
            if isinstance(frames, str):
                yield key, f"each step's features must be made of its own samples, but {frames}"
        if not isinstance(encoder, PastEncoder) and not (isinstance(encoder, FeatureEncoder) and encoder.stepwise):
            rule = "a token must be made of its own step or of the past, as by mlp, shie, dgcnn, gru or over: channels"
            yield (*key, "encoder", "kind"), f"{rule}, but {entry.encoder.kind} sees more"


def _bin_problems(trained: Trained) -> Iterator[tuple[Key, str]]:
    """What does not fit the clock's bins, once all else qualifies."""
    seconds = _seconds(_fusion(trained))
    for name in _timed_names(trained):
        frames = _frames(trained, name)
        count = seconds * frames.sample_rate
        steps = _fusion_key(trained.recipe, "steps")
        if abs(count - round(count)) > 1e-6 * count or round(count) < 1:
            yield steps, f"a step must have whole samples of every sensor, but {seconds:g} s are {count:g} of {name}"
        elif round(count) % frames.hop:
            every = f"one comes every {frames.hop}"
            yield steps, f"a step must have whole features, but its {count:g} samples of {name} have not: {every}"
        elif _first(frames, round(count)) + frames.samples > frames.hop:
            rule = "a feature must end in the step that its centre lies in, as one of a hop or of two does"
            yield ("modalities", name), f"{rule}, but it has {frames.samples} samples and a hop {frames.hop}"


def _timed_names(trained: Trained) -> list[str]:
    """Sensors whose windows have a clock, be their tokens with or without."""
    return [name for name in trained.recipe.graph.modalities if trained.stored[name].sample_rate is not None]


def _fusion(trained: Trained) -> RCFT:
    fusion = trained.model.operations[trained.recipe.graph.end.name]
    assert isinstance(fusion, RCFT)
    return fusion


def _seconds(fusion: RCFT) -> float:
    assert fusion.duration is not None
    return fusion.duration / fusion.steps


def _frames(trained: Trained, name: str) -> Frames:
    frames = trained.model.front_end(name).stepwise()
    assert isinstance(frames, Frames)
    return frames


def _first(frames: Frames, samples: int) -> int:
    """Where the first feature whose centre lies in a step begins, in samples from the step's beginning."""
    earliest = -EDGE * samples - frames.samples / 2
    return -int(-earliest // frames.hop) * frames.hop


def _timed(trained: Trained, name: str, window: SensorInput) -> TimedSensor:
    frames = _frames(trained, name)
    samples = round(_seconds(_fusion(trained)) * frames.sample_rate)
    return TimedSensor(window, samples, -_first(frames, samples), frames.hop, samples // frames.hop)
