"""What decisions see, against windows cut by plain loops over samples with timestamps."""

import numpy as np

from fusionkit.runtime.filters import Chain
from fusionkit.runtime.stream import Stream


def feed(stream, recording, generator, most=300, start=0.0):
    """Push recordings (values and rate by sensor) in pieces of random size and order; all decisions."""
    place = dict.fromkeys(recording, 0)
    decisions = []
    while any(place[name] < len(values) for name, (values, _) in recording.items()):
        name = generator.choice([name for name, (values, _) in recording.items() if place[name] < len(values)])
        values, rate = recording[name]
        count = int(generator.integers(0, most + 1))
        at = place[name]
        chunk = values[at : at + count]
        decisions += stream.push(name, chunk, start + np.arange(at, at + len(chunk)) / rate)
        place[name] += len(chunk)
    return decisions


def test_windows_are_those_of_the_filtered_recording(echo, made):
    chain = [
        {"step": "sos", "sos": [[0.2, 0.2, 0.0, 1.0, -0.6, 0.0]]},
        {"step": "resample", "up": 128, "down": 125},
    ]
    sensors = {"eeg": made(128.0, 128, chain=chain), "audio": made(1600.0, 1600, 1, layout="time", lacks=False)}
    generator = np.random.default_rng(0)
    eeg, audio = generator.normal(size=(125 * 6, 2)), generator.normal(size=(1600 * 6, 1)).astype(np.float32)
    filtered = Chain(chain).push(eeg)
    for trial in range(30):
        session = echo(0.25, **sensors)
        stream = Stream(session, late=None)
        start = float(trial % 3) * 1e6 + trial / 7
        decisions = feed(stream, {"eeg": (eeg, 125.0), "audio": (audio, 1600.0)}, generator, 1 + 40 * trial, start)
        assert [round(d.time - start, 6) for d in decisions] == [1 + 0.25 * k for k in range(21)]
        for k, seen in enumerate(session.seen):
            np.testing.assert_array_equal(seen["eeg"], filtered[32 * k : 32 * k + 128].T)
            np.testing.assert_array_equal(seen["audio"], audio[400 * k : 400 * k + 1600, 0])
        health = stream.health
        assert health.decisions == 21 and health.skipped == health.empty == 0
        assert {(s.gaps, s.lost, s.dropped, s.absent) for s in health.sensors.values()} == {(0, 0, 0, 0)}
