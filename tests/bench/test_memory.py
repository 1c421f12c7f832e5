"""Memory of streaming is flat: ten times the records of EEG, and next to nothing more than their names."""

import sys

import pytest

from fusionkit.bench.memory import bench_memory


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells anonymous memory")
def test_ten_times_the_records_take_hardly_more_memory():
    result = bench_memory()
    assert result.signal_mb[1] > 9 * result.signal_mb[0]
    assert result.signal_mb[1] > result.peak_mb[1]  # it could not have held the data
    assert result.ratio <= 1.10
