"""Made sound: a train of decaying chirps of two partials, in noise."""

import numpy as np
from jaxtyping import Float

from fusionkit.data.synthetic.law import Cues

SAMPLE_RATE = 16000.0
PITCH_HERTZ = 500.0
SWEEP_SECONDS = 0.12
DECAY_SECONDS = 0.06
NOISE = 0.01


def make_audio(cues: Cues, voice: float, seconds: float, generator: np.random.Generator) -> Float[np.ndarray, " time"]:
    """One record in [-1, 1].

    Cue ``shared`` sets how far a chirp sweeps (up above 0, down below, half an octave per unit), ``own`` the timbre (level of
    the third harmonic, 0.3 of the first at 0, a factor of 2 per unit), ``symbol`` how many chirps a second there are
    (4 at 0, half an octave per unit).

    Args:
        cues: what this sensor sees.
        voice: the subject's offset of the pitch in octaves.
        seconds: duration.
        generator: the record's own random numbers.
    """
    shared, own, symbol = np.clip([cues.shared, cues.own, cues.symbol], -2.5, 2.5)
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    period = 1 / (4.0 * 2 ** (0.5 * symbol))
    since = (time + generator.uniform(0, period)) % period  # seconds since the last chirp began
    octaves = voice + 0.5 * shared * np.minimum(since / SWEEP_SECONDS, 1)
    phase = 2 * np.pi * np.cumsum(PITCH_HERTZ * 2**octaves) / SAMPLE_RATE
    third = 0.3 * 2**own
    partials = (np.sin(phase) + third * np.sin(3 * phase)) / np.hypot(1, third)
    loudness = 0.5 * np.exp(generator.uniform(-0.2, 0.2))
    sound = loudness * np.exp(-since / DECAY_SECONDS) * partials
    sound += NOISE * generator.standard_normal(len(time))
    return np.asarray(np.clip(sound, -1, 1), dtype=np.float32)
