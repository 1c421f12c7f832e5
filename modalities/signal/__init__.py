"""Any other time series, or a vector of features: ECG, EDA, eye tracking, inertial sensors."""

from .augment import SignalScale as SignalScale
from .reader import Signal as Signal
