"""The cases of every kind of component: fusion operations at their level, and encoders."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from fusionkit.core.errors import ConfigError, FusionkitError
from fusionkit.core.levels import Decision, Features, FeatureShape, Fused, Tokens, WindowShape, pool, valid
from fusionkit.core.registry import check_options
from fusionkit.encoders.encoder import Encoder
from fusionkit.fusion.operation import (
    EarlyFusion,
    Fittable,
    FusionOperation,
    IntermediateFusion,
    LateFusion,
    TrainingBatch,
)
from fusionkit.testing.case import ROWS, Answer, Case
from fusionkit.testing.result import require
from fusionkit.testing.sorting import sort_cases
from fusionkit.testing.streams import (
    Streams,
    make_features,
    make_log_probabilities,
    make_tokens,
    make_values,
    make_window,
)

DIM = 16
DURATION = 3.0
JOINED: dict[str, dict[str, FeatureShape]] = {
    "timed and untimed": {
        "first": FeatureShape(3, 2),
        "second": FeatureShape(5, 1),
        "third": FeatureShape(2, 4, steps=4, timed=False),
        "fourth": FeatureShape(4, 1, timed=False),
    },
    "untimed": {"first": FeatureShape(2, 4, steps=4, timed=False), "second": FeatureShape(4, 1, timed=False)},
}
FUSED = {
    "three, two with time": {"first": True, "second": True, "third": False},
    "two without time": {"first": False, "second": False},
}
FEATURES: dict[str, FeatureShape] = {
    "timed features": FeatureShape(5, 3),
    "timed features, fixed steps": FeatureShape(9, 1, steps=4),
    "patches": FeatureShape(3, 16, steps=4, timed=False),
    "words": FeatureShape(8, 1, timed=False, trains=True),
    "electrodes in known places": FeatureShape(
        4, 5, places=((-0.07, 0.0, 0.04), (0.07, 0.0, 0.04), (0.0, 0.07, 0.05), (0.0, -0.03, 0.09))
    ),
}
WINDOWS: dict[str, tuple[int, ...]] = {
    "image": (3, 32, 32),
    "series": (4, 256),
    "sound": (512,),
    "electrodes": WindowShape((4, 256), 128.0, "V"),
}
OUTCOMES: dict[str, tuple[int, ...]] = {"classes": (3,), "labels": (4, 2)}


def level_answer(level: Features | Tokens, prefix: str = "") -> Answer:
    """An answer made of features or tokens."""
    real = valid(level)
    rows, masks = {"values": level.values, "present": level.present}, {"values": real}
    if level.time is not None:
        rows["time"], masks["time"] = level.time, real
    return Answer(rows, masks, level=level)


def level_contract(level: Features | Tokens, present: Tensor, dtype: torch.dtype) -> None:
    """Require what holds for every stream: matching shapes, masks of truth values, present where it should be."""
    shape = level.values.shape
    require(level.mask.dtype == torch.bool and level.present.dtype == torch.bool, "mask and present must be bool")
    require(level.mask.shape == shape[:2], f"mask must be {[*shape[:2]]}, but is {[*level.mask.shape]}")
    require(level.values.dtype == dtype, f"values must keep {dtype}, but are {level.values.dtype}")
    require(
        torch.equal(level.present, present),
        f"present must be {present.tolist()}, but is {level.present.tolist()}",
    )
    if level.time is not None:
        require(level.time.shape == shape[:2], f"time must be {[*shape[:2]]}, but is {[*level.time.shape]}")


def any_present(inputs: Streams) -> Tensor:
    """Rows that have any sensor."""
    return torch.stack([stream.present for stream in inputs.values()]).any(0)


def stream_steps(steps: int, unequal: bool, place: int) -> int:
    """Number of steps of one stream: the same for all, or 6, 1 and 9 in turn."""
    return (steps, 1, steps + 3)[place % 3] if unequal else steps


def fitted(module: nn.Module, case: Case) -> nn.Module:
    """Fit what is fitted, on made training batches of three classes (two outcomes, where decisions are numbers)."""
    if isinstance(module, Fittable):
        batches = [TrainingBatch(made := case.inputs(rows=16, seed=seed), made_targets(made)) for seed in (21, 22, 23)]
        with torch.no_grad():
            module.fit(lambda: iter(batches), torch.Generator().manual_seed(4))
    return module


def made_targets(inputs: Streams) -> dict[str, Tensor]:
    """Targets of made records, in the form of the decisions where these are the inputs."""
    stream = next(iter(inputs.values()))
    rows = torch.arange(len(stream.present))
    shape = stream.values.shape[1:] if isinstance(stream, Decision) else ()
    if len(shape) == 2:  # labels
        return {"task": (rows[:, None] % torch.arange(2, 2 + shape[0]) == 0).float()}
    return {"task": rows[:, None].float() if tuple(shape) == (1,) else (rows % 3).float()}


class EarlyCase(Case):
    """An early operation over feature streams."""

    def __init__(self, cls: type[EarlyFusion], options: Mapping[str, Any], label: str) -> None:
        self.cls, self.options, self.label = cls, options, label
        self.shapes = JOINED[label]
        self.exempt = cls.exempt

    def make(self) -> nn.Module:
        timed = any(shape.timed for shape in self.shapes.values())
        return fitted(self.cls(self.shapes, DURATION if timed else None, **self.options), self)

    def inputs(self, rows: int = ROWS, steps: int = 6, seed: int = 0, unequal: bool = False) -> Streams:
        generator = torch.Generator().manual_seed(seed)
        return {
            name: make_features(shape, rows, generator, stream_steps(steps, unequal, i), DURATION)
            for i, (name, shape) in enumerate(self.shapes.items())
        }

    def free_steps(self, name: str) -> bool:
        return self.shapes[name].steps is None

    def answer(self, module: nn.Module, inputs: Streams) -> Answer:
        return level_answer(module(inputs))

    def contract(self, module: nn.Module, inputs: Streams, answer: Answer) -> None:
        shape, values = module.shape, answer.level.values
        assert isinstance(shape, FeatureShape)
        require(isinstance(answer.level, Features), f"must answer Features, but got {type(answer.level).__name__}")
        level_contract(answer.level, any_present(inputs), next(iter(inputs.values())).values.dtype)
        wanted = (shape.channel, shape.subchannel)
        require(tuple(values.shape[2:]) == wanted, f"shape says {wanted}, but the values are {tuple(values.shape[2:])}")
        require(
            shape.steps in (None, values.shape[1]), f"shape says {shape.steps} steps, but there are {values.shape[1]}"
        )
        timed = answer.level.time is not None
        require(
            shape.timed == timed, f"shape says timed={shape.timed}, but the features have {'' if timed else 'no '}time"
        )


class IntermediateCase(Case):
    """An intermediate operation over token streams."""

    def __init__(self, cls: type[IntermediateFusion], options: Mapping[str, Any], label: str) -> None:
        self.cls, self.options, self.label = cls, options, label
        self.exempt = cls.exempt

    def make(self) -> nn.Module:
        timed = FUSED[self.label]
        module = self.cls(dict.fromkeys(timed, DIM), DIM, DURATION if any(timed.values()) else None, **self.options)
        return fitted(module, self)

    def inputs(self, rows: int = ROWS, steps: int = 6, seed: int = 0, unequal: bool = False) -> Streams:
        generator = torch.Generator().manual_seed(seed)
        return {
            name: make_tokens(
                DIM, rows, generator, steps=stream_steps(steps, unequal, i), timed=timed, duration=DURATION
            )
            for i, (name, timed) in enumerate(FUSED[self.label].items())
        }

    def answer(self, module: nn.Module, inputs: Streams) -> Answer:
        fused = module(inputs)
        tokens = fused.tokens if isinstance(fused, Fused) else fused
        answer = level_answer(tokens)
        if isinstance(fused, Fused):
            answer.whole["auxiliary"] = fused.auxiliary
            for name, stream in fused.streams.items():
                answer.rows[f"stream {name}"] = pool(stream)  # what its heads read
        assert isinstance(module, IntermediateFusion)
        readout = module.readout(tokens)
        if readout is not None:
            answer.rows["readout"] = readout
        return answer

    def contract(self, module: nn.Module, inputs: Streams, answer: Answer) -> None:
        require(isinstance(answer.level, Tokens), f"must answer Tokens, but got {type(answer.level).__name__}")
        level_contract(answer.level, any_present(inputs), next(iter(inputs.values())).values.dtype)
        width = answer.level.values.shape[-1]
        require(width == DIM, f"tokens must be {DIM} wide, as asked, but are {width}")
        assert isinstance(module, IntermediateFusion)
        handed = {f"stream {name}" for name in module.streams}
        found = {name for name in answer.rows if name.startswith("stream ")}
        require(found == handed, f"it must hand out {sorted(handed)}, as announced, but hands out {sorted(found)}")
        for name in handed:
            wanted = (len(answer.level.values), DIM)
            require(
                tuple(answer.rows[name].shape) == wanted,
                f"{name} must be {wanted} pooled, but is {tuple(answer.rows[name].shape)}",
            )
        readout = answer.rows.get("readout")
        if readout is not None:
            wanted = (len(answer.level.values), DIM)
            require(tuple(readout.shape) == wanted, f"a readout must be {wanted}, but is {tuple(readout.shape)}")


class LateCase(Case):
    """A late operation over decisions of one form."""

    lengths = False
    names = ("first", "second", "third")

    def __init__(self, cls: type[LateFusion], options: Mapping[str, Any], label: str) -> None:
        self.cls, self.options, self.label = cls, options, label
        self.exempt = cls.exempt
        self.answers_empty = label != "values"  # with none present: the mean of all branches' answers

    def make(self) -> nn.Module:
        return fitted(self.cls(self.names, **self.options), self)

    def inputs(self, rows: int = ROWS, steps: int = 6, seed: int = 0, unequal: bool = False) -> Streams:
        generator = torch.Generator().manual_seed(seed)
        if self.label == "values":
            return {name: make_values(rows, generator) for name in self.names}
        return {name: make_log_probabilities(OUTCOMES[self.label], rows, generator) for name in self.names}

    def answer(self, module: nn.Module, inputs: Streams) -> Answer:
        decisions = torch.stack([stream.values for stream in inputs.values()])
        present = torch.stack([stream.present for stream in inputs.values()])
        assert isinstance(module, LateFusion)
        merge = module.merge_values if self.label == "values" else module.merge_log_probabilities
        return Answer({"decision": merge(decisions, present)})

    def contract(self, module: nn.Module, inputs: Streams, answer: Answer) -> None:
        given, decision = next(iter(inputs.values())).values, answer.rows["decision"]
        wanted = tuple(given.shape)
        require(tuple(decision.shape) == wanted, f"a decision must be {wanted}, but is {tuple(decision.shape)}")
        require(decision.dtype == given.dtype, f"a decision must keep {given.dtype}, but is {decision.dtype}")
        if self.label != "values":
            off = float((decision.double().exp().sum(-1) - 1).abs().max())
            tolerance = {torch.bfloat16: 3e-2, torch.float32: 1e-5}.get(decision.dtype, 1e-10)
            require(off <= tolerance, f"probabilities must sum to 1, but are off by {off:.3g}")


class EncoderCase(Case):
    """An encoder of features or of windows."""

    def __init__(self, cls: type[Encoder], options: Mapping[str, Any], label: str) -> None:
        self.cls, self.options, self.label = cls, options, label
        self.shape: FeatureShape | tuple[int, ...] = FEATURES[label] if label in FEATURES else WINDOWS[label]
        self.lengths = isinstance(self.shape, FeatureShape) and self.shape.steps is None
        self.exempt = getattr(cls, "exempt", {})

    def make(self) -> nn.Module:
        build: Any = self.cls
        return fitted(build(self.shape, DIM, **self.options), self)

    def inputs(self, rows: int = ROWS, steps: int = 6, seed: int = 0, unequal: bool = False) -> Streams:
        generator = torch.Generator().manual_seed(seed)
        if not isinstance(self.shape, FeatureShape):
            return {"stream": make_window(self.shape, rows, generator)}
        return {"stream": make_features(self.shape, rows, generator, steps + 3 if unequal else steps, DURATION)}

    def answer(self, module: nn.Module, inputs: Streams) -> Answer:
        return level_answer(module(inputs["stream"]))

    def contract(self, module: nn.Module, inputs: Streams, answer: Answer) -> None:
        require(isinstance(answer.level, Tokens), f"must answer Tokens, but got {type(answer.level).__name__}")
        level_contract(answer.level, any_present(inputs), inputs["stream"].values.dtype)
        width = answer.level.values.shape[-1]
        require(width == DIM == module.dim, f"tokens must be {DIM} wide, as asked, but are {width} (dim {module.dim})")


def _made(cls: type, options: Mapping[str, Any]) -> Iterator[Case]:
    if issubclass(cls, EarlyFusion):
        yield from (EarlyCase(cls, options, label) for label in JOINED)
    elif issubclass(cls, IntermediateFusion):
        yield from (IntermediateCase(cls, options, label) for label in FUSED)
    elif issubclass(cls, LateFusion):
        yield from (LateCase(cls, options, label) for label in (*OUTCOMES, "values"))
    elif issubclass(cls, Encoder):
        yield from (EncoderCase(cls, options, label) for label in (FEATURES if cls.level == "features" else WINDOWS))
    else:
        raise ConfigError(f"{cls.__name__} must be a fusion operation or an encoder to have made inputs")


def component_cases(cls: type[FusionOperation] | type[Encoder], **options: Any) -> tuple[list[Case], dict[str, str]]:
    """The cases that a component takes, and the refusals (errors of ours when it is built) by the label of the others.

    Raises:
        ConfigError: an option is wrong, or every case is refused.
    """
    name = getattr(cls, "kind", cls.__name__)
    checked = check_options(cls, options, name)
    return sort_cases(_made(cls, checked), name, "take one of the made inputs", refusal=FusionkitError)


def cases_of(cls: type[FusionOperation] | type[Encoder], **options: Any) -> list[Case]:
    """The cases that a fusion operation or an encoder takes.

    Raises:
        ConfigError: an option is wrong, or every case is refused.
    """
    return component_cases(cls, **options)[0]
