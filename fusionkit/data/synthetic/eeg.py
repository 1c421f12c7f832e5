"""Made EEG: band-limited sources under a smooth spatial pattern, in 1/f noise with a subject's own gain."""

import numpy as np
from jaxtyping import Float

from fusionkit.core.recording import Array
from fusionkit.data.synthetic.law import Cues

SAMPLE_RATE = 128.0

# Electrodes of the 10-20 system on a sphere: angle from the top and turn from the right ear, in degrees.
ANGLES = {
    "Fp1": (-92, -72), "Fp2": (92, 72), "F7": (-92, -36), "F3": (-60, -51), "Fz": (46, 90),
    "F4": (60, 51), "F8": (92, 36), "T7": (-92, 0), "C3": (-46, 0), "Cz": (0, 0),
    "C4": (46, 0), "T8": (92, 0), "P7": (-92, 36), "P3": (-60, 51), "Pz": (46, -90),
    "P4": (60, -51), "P8": (92, -36), "O1": (-92, 72), "O2": (92, -72),
}  # fmt: skip
CHANNELS = tuple(ANGLES)

# cue: lowest and highest hertz, electrodes whose mean is the source's place, root mean square in volts under it
SOURCES: dict[str, tuple[float, float, tuple[str, ...], float]] = {
    "shared": (4.5, 7.5, ("Fz",), 9e-6),
    "own": (9.0, 12.5, ("O1", "O2"), 11e-6),
    "symbol": (17.0, 26.0, ("C3",), 8e-6),
}
STEEPNESS = 0.6  # log amplitude per unit of a cue
REACH = np.deg2rad(35.0)  # width of a source's pattern on the scalp
BACKGROUND = 8e-6


def positions() -> Float[np.ndarray, "channel 3"]:
    """Unit vectors of `CHANNELS`: right, front, up."""
    theta, phi = np.deg2rad(np.array(list(ANGLES.values()), dtype=float)).T
    return np.stack([np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)], axis=1)


def pattern(places: tuple[str, ...]) -> Float[np.ndarray, " channel"]:
    """How strongly a source in the middle of ``places`` is seen at each electrode: 1 above it, falling smoothly."""
    where = positions()
    centre = where[[CHANNELS.index(name) for name in places]].mean(0)
    angle = np.arccos(np.clip(where @ centre / np.linalg.norm(centre), -1, 1))
    seen: Array = np.exp(-0.5 * (angle / REACH) ** 2)
    return seen


def _mixing() -> Float[np.ndarray, "channel channel"]:
    """Make white channels alike where they are near; rows have length 1."""
    where = positions()
    angle = np.arccos(np.clip(where @ where.T, -1, 1))
    near = 0.8 * np.exp(-0.5 * (angle / REACH) ** 2) + 0.2 * np.eye(len(where))
    return np.linalg.cholesky(near + 1e-9 * np.eye(len(where)))


PATTERNS = {cue: pattern(source[2]) for cue, source in SOURCES.items()}
MIXING = _mixing()


def _coloured(generator: np.random.Generator, rows: int, weight: Array, samples: int) -> Array:
    """Noise whose spectrum has the shape ``weight``, scaled to root mean square 1 in the mean over rows."""
    bins = generator.standard_normal((2, rows, len(weight)))
    noise = np.fft.irfft((bins[0] + 1j * bins[1]) * weight, n=samples, axis=-1)
    scaled: Array = noise / np.sqrt((noise**2).mean())
    return scaled


def make_eeg(
    cues: Cues, gain: float, seconds: float, generator: np.random.Generator
) -> Float[np.ndarray, "channel time"]:
    """One record in volts.

    Cue ``shared`` sets frontal theta, ``own`` occipital alpha and ``symbol`` left central beta: each source's root mean
    square is ``level * exp(0.6 * cue)`` exactly, over a 1/f background of 8 microvolts.

    Args:
        cues: what this sensor sees.
        gain: the subject's factor on everything.
        seconds: duration.
        generator: the record's own random numbers.
    """
    samples = round(seconds * SAMPLE_RATE)
    hertz = np.fft.rfftfreq(samples, 1 / SAMPLE_RATE)
    slope = np.where(hertz >= 0.5, 1 / np.sqrt(np.maximum(hertz, 0.5)), 0.0)
    values = BACKGROUND * MIXING @ _coloured(generator, len(CHANNELS), slope, samples)
    for cue, (lowest, highest, _, level) in SOURCES.items():
        inside = ((hertz >= lowest) & (hertz <= highest)).astype(float)
        source = _coloured(generator, 1, inside, samples)
        values += PATTERNS[cue][:, None] * level * np.exp(STEEPNESS * np.clip(getattr(cues, cue), -3, 3)) * source
    return np.asarray(gain * values, dtype=np.float32)
