"""Decisions at a steady rate from sensors that come in pieces."""

from fusionkit.runtime.stream.debounce import Debounce as Debounce
from fusionkit.runtime.stream.decision import Decision as Decision
from fusionkit.runtime.stream.health import Health as Health
from fusionkit.runtime.stream.health import SensorHealth as SensorHealth
from fusionkit.runtime.stream.smoothing import Exponential as Exponential
from fusionkit.runtime.stream.smoothing import MovingAverage as MovingAverage
from fusionkit.runtime.stream.stream import Stream as Stream
