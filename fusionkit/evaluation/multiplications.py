"""How much arithmetic one answer takes."""

from collections.abc import Mapping

from torch.utils.flop_counter import FlopCounterMode

from fusionkit.core.levels import Features, Window
from fusionkit.fusion.model import FusionModel


def count_multiplications(model: FusionModel, inputs: Mapping[str, Window | Features]) -> int:
    """Multiplications with addition of a batch's answers: of matrices, convolutions and attention, front ends included.

    Fourier transforms and what works number by number are not counted. A linear layer from 3 to 2 numbers has 6.
    """
    model.eval()
    with FlopCounterMode(display=False) as counter:  # with gradients: without, attention hides in one call
        model(inputs)
    return int(counter.get_total_flops()) // 2
