"""Electroencephalography: files that MNE reads, differential entropy, topographies."""

from .augment import ChannelDropout as ChannelDropout
from .augment import FeatureChannelDropout as FeatureChannelDropout
from .augment import FeatureNoise as FeatureNoise
from .augment import SignFlip as SignFlip
from .augment import TimeShift as TimeShift
from .reader import EEG as EEG
from .symmetry import Symmetry as Symmetry
