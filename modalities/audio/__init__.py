"""Sound: reading, log-mel front end, SpecAugment."""

from .augment import AudioNoise as AudioNoise
from .augment import AudioShift as AudioShift
from .augment import BandWarp as BandWarp
from .augment import Gain as Gain
from .augment import SpecAugment as SpecAugment
from .front_end import LogMel as LogMel
from .reader import Audio as Audio
