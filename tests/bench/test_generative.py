"""A generator is trained about as fast as by a bare loop that does the same arithmetic."""

import pytest

from fusionkit.bench.generative import TARGET, bench_generative


@pytest.mark.slow
def test_an_epoch_takes_no_longer_than_the_arithmetic():
    result = bench_generative(rounds=5, epochs=1)
    assert result.ratio <= TARGET == 1.15
