"""What a stream counts while it goes on."""

from collections import deque
from collections.abc import Collection, Iterable, Mapping
from math import inf

import numpy as np

from fusionkit.runtime.stream.health import Health, SensorHealth
from fusionkit.runtime.stream.held import Held
from fusionkit.runtime.stream.track import Track

LAGS = 4096
"""Lags that percentiles are taken of."""


class Counts:
    """Counters of decisions.

    Args:
        names: of all sensors.

    Attributes:
        decisions: made.
        calibrating: not made, for a calibration segment was not whole.
        empty: not made, for no sensor was present.
        skipped: not made, for too many were due.
        queue: most that were due at once.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self.decisions = self.calibrating = self.empty = self.skipped = self.queue = 0
        self._late, self._windows, self._absent = (dict.fromkeys(names, 0) for _ in range(3))
        self._lags: deque[float] = deque(maxlen=LAGS)

    def late(self, names: Iterable[str]) -> None:
        """A decision did not wait for these."""
        for name in names:
            self._late[name] += 1

    def seen(self, names: Collection[str]) -> None:
        """A decision sees these sensors and no other."""
        for name in self._windows:
            (self._windows if name in names else self._absent)[name] += 1

    def decided(self, lag: float) -> None:
        """A decision was made so many seconds after its last sample came."""
        self.decisions += 1
        self._lags.append(lag)

    def health(self, tracks: Mapping[str, Track], held: Mapping[str, Held]) -> Health:
        """What there is to say, with the sensors' own counters."""
        newest = max(track.time for track in tracks.values())
        sensors = {}
        for name in self._windows:
            counts = {"late": self._late[name], "windows": self._windows[name], "absent": self._absent[name]}
            if name not in held and name not in tracks:  # left out
                sensors[name] = SensorHealth(0, 0, 0, 0, 0, 0, 0, 0.0, 0.0, False, **counts, behind=inf)
                continue
            if name in held:
                one = held[name]
                sensors[name] = SensorHealth(
                    one.taken, 0, 0, one.dropped, 0, 0, 0, 0.0, 0.0, True, **counts, behind=0.0
                )
                continue
            track, clock = tracks[name], tracks[name].clock
            sensors[name] = SensorHealth(
                samples=track.taken,
                gaps=clock.gaps,
                lost=clock.lost,
                dropped=clock.dropped,
                untimed=clock.untimed,
                setbacks=clock.setbacks,
                resets=track.resets,
                jitter=clock.jitter,
                drift=clock.drift,
                living=track.living,
                **counts,
                behind=newest - track.time if track.begun else inf,
            )
        lags = np.percentile(self._lags, [50, 99]) if self._lags else (float("nan"), float("nan"))
        return Health(
            sensors,
            self.decisions,
            self.calibrating,
            self.empty,
            self.skipped,
            self.queue,
            float(lags[0]),
            float(lags[1]),
        )
