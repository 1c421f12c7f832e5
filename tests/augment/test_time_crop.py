import torch

from fusionkit.augment.time_crop import TimeCrop
from fusionkit.core.levels import Window


def test_a_stretch_is_kept_at_the_start_and_the_rest_is_padding():
    values = torch.arange(1.0, 41).expand(300, 2, 40).clone()
    length = torch.full((300,), 40)
    length[:20], length[20:25], length[25:30] = 15, 1, 0
    values = torch.where(torch.arange(40) < length[:, None, None], values, 0.0)
    stream = Window(values, length, length > 0)
    out = TimeCrop(least=0.4, probability=0.5)(stream, torch.Generator().manual_seed(0))
    starts, counts = [], []
    for row, (before, count) in enumerate(zip(length.tolist(), out.length.tolist(), strict=True)):
        assert -(-4 * before // 10) <= count <= before
        kept = out.values[row, :, :count]
        assert not out.values[row, :, count:].any()
        if count:
            first = int(kept[0, 0])
            assert torch.equal(kept, torch.arange(first, first + count).float().expand(2, -1))
            assert first + count - 1 <= before
        if before == 40 and count < 40:
            starts.append(first - 1)
            counts.append(count)
    assert 100 < len(starts) < 170 and min(counts) == 16 and max(starts) > 15 and min(starts) == 0
    assert torch.equal(length[:20], torch.full((20,), 15))
