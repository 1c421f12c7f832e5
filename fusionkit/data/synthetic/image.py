"""Made pictures: a coloured grating over a cloudy texture."""

import numpy as np
from jaxtyping import UInt8

from fusionkit.data.synthetic.law import Cues

SIZE = 32


def make_image(cues: Cues, brightness: float, generator: np.random.Generator) -> UInt8[np.ndarray, "3 height width"]:
    """One record, 32 x 32 in red, green, blue.

    Cue ``shared`` turns the grating (25 degrees per unit from 45), ``own`` shifts the colour from blue to red (a seventh
    of the brightness per unit); phase, frequency, contrast and the texture are random.

    Args:
        cues: what this sensor sees.
        brightness: the subject's factor on the light, near 1.
        generator: the record's own random numbers.
    """
    shared, own = np.clip([cues.shared, cues.own], -2.5, 2.5)
    y, x = np.mgrid[:SIZE, :SIZE] / SIZE
    angle = np.deg2rad(45 + 25 * shared)
    cycles, phase, contrast = generator.uniform([4, 0, 0.5], [6, 2 * np.pi, 0.9])
    grating = np.sin(2 * np.pi * cycles * (x * np.cos(angle) + y * np.sin(angle)) + phase)
    far = np.fft.fftfreq(SIZE)[:, None] ** 2 + np.fft.fftfreq(SIZE)[None] ** 2
    cloud = np.fft.ifft2(np.fft.fft2(generator.standard_normal((SIZE, SIZE))) * np.exp(-far / (2 * 0.06**2))).real
    light = brightness * (0.5 + 0.25 * contrast * grating + 0.06 * cloud / cloud.std())
    tint = 1 + own / 7 * np.array([1.0, 0.0, -1.0])
    grain = 0.02 * generator.standard_normal((3, SIZE, SIZE))
    return np.asarray(np.clip(255 * (light * tint[:, None, None] + grain), 0, 255), dtype=np.uint8)
