"""No step of an objective or a consistency method waits for the device: nothing of a batch is read on the host."""

import pytest
import torch

from fusionkit.core import registry
from fusionkit.recipe.catalogue import load_sensors
from fusionkit.testing.objectives import objective_cases


def objectives():
    load_sensors()
    return registry.objectives.kinds()


def test_the_watch_sees_what_waits(watch):
    values = torch.arange(4.0)
    for wait in (lambda: values[values > 1], lambda: bool(values.sum()), lambda: values.nonzero()):
        with watch() as seen:
            wait()
        assert seen.found, wait
    with watch() as seen:
        values[torch.tensor([0, 2])]
    assert not seen.found


@pytest.mark.parametrize("kind", objectives())
def test_no_objective_waits(kind, watch):
    options = {"triplet": {"mining": "online"}}.get(kind, {})
    taken, _ = objective_cases(registry.objectives.get(kind), options)
    for case in taken:
        made, batch, generator = case.build(), case.batch(), torch.Generator().manual_seed(0)
        with watch() as seen:
            for _ in range(2):
                made(batch, generator).backward()
                made.settle()
        assert not seen.found, case.label
