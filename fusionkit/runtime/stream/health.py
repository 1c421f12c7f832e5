"""What a stream has to say of its sources and of itself."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class SensorHealth:
    """Counters of one sensor, from the start of the stream on.

    Attributes:
        samples: that came (of a sensor without time: values).
        gaps: how often samples were missing between two that came.
        lost: samples that were missing there.
        dropped: samples that came again, too early, or with a timestamp that nobody could believe.
        untimed: samples whose timestamp was no number.
        setbacks: how often its clock was set back by more than 10 seconds.
        resets: how often its filters started anew after a long gap.
        jitter: standard deviation of its timestamps about an even clock, seconds.
        drift: how much faster than its nominal rate it runs, parts per million.
        living: whether decisions wait for it.
        late: decisions that did not wait for it any longer.
        windows: decisions that it was part of.
        absent: decisions that it was no part of, for whatever reason.
        behind: seconds that it is behind the sensor that is farthest.
    """

    samples: int
    gaps: int
    lost: int
    dropped: int
    untimed: int
    setbacks: int
    resets: int
    jitter: float
    drift: float
    living: bool
    late: int
    windows: int
    absent: int
    behind: float


@dataclass(frozen=True)
class Health:
    """How a stream is doing.

    Attributes:
        sensors: by name.
        decisions: made.
        calibrating: that were not made, since a calibration segment was not whole.
        empty: that were not made, since no sensor was present.
        skipped: that were lost, since prediction was slower than the sources (`max_queue`).
        queue: most decisions that were due at once.
        lag_p50: seconds from the arrival of the last sample that a decision needed to the decision; half had less.
        lag_p99: 99 in 100 had less (of the last 4096).
    """

    sensors: Mapping[str, SensorHealth]
    decisions: int
    calibrating: int
    empty: int
    skipped: int
    queue: int
    lag_p50: float
    lag_p99: float

    def as_dict(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)
