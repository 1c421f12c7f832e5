"""Lines of progress with time to go."""

from fusionkit.training import countdown
from fusionkit.training.countdown import Countdown


def test_the_rest_takes_as_long_as_what_is_done(monkeypatch):
    clock, lines = iter([0.0, 5.0, 60.0, 65.0, 80.0, 90.0]), []
    monkeypatch.setattr(countdown.time, "monotonic", lambda: next(clock))
    count = Countdown(lines.append, "networks")
    for done in (2, 30, 31, 40, 0):  # too soon, 20 s left, too soon, done, nothing to go by
        count(done, 40)
    assert lines == ["networks: 30 of 40, about 20 s left"]
