"""What a test says."""

from dataclasses import dataclass

from fusionkit.core.recording import Array


@dataclass(frozen=True)
class Tested:
    """A statistic and how often chance alone gives one as far out; of many tests at once, arrays of both.

    Attributes:
        statistic: what the test computes.
        p: two-sided, unless the test says otherwise.
    """

    statistic: Array
    p: Array
