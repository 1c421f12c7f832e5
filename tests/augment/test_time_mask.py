import torch

from fusionkit.augment.time_mask import TimeMask
from fusionkit.core.levels import Window


def test_one_stretch_of_all_channels_is_hidden():
    length = torch.full((300,), 40)
    length[:50], length[50:60] = 20, 2
    values = torch.where(torch.arange(40) < length[:, None, None], 1.0, 7.0).expand(-1, 3, -1).clone()
    stream = Window(values, length, torch.ones(300, dtype=torch.bool))
    out = TimeMask(most=0.3, probability=1.0)(stream, torch.Generator().manual_seed(0)).values
    hidden = out == 0
    assert (hidden == hidden[:, :1]).all()
    assert torch.equal(out[~hidden], values[~hidden])
    assert not (hidden[:, 0] & (torch.arange(40) >= length[:, None])).any()
    count = hidden[:, 0].sum(1)
    edges = hidden[:, 0].float().diff(dim=1, prepend=torch.zeros(300, 1)).eq(1).sum(1)
    assert (edges == 1).all()
    assert (
        (count >= 1).all()
        and set(count[60:].tolist()) == set(range(1, 13))
        and set(count[:50].tolist()) <= set(range(1, 7))
    )
    assert hidden[60:, 0].any(0).all()  # any sample may be hidden
