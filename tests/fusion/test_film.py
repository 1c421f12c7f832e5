"""FiLM, token by token."""

import pytest
import torch

from fusionkit.core.errors import UnknownNameError
from fusionkit.core.levels import Tokens, pool
from fusionkit.fusion.film import FiLM
from fusionkit.testing.streams import make_tokens, without


def batch(names):
    g = torch.Generator().manual_seed(0)
    return {name: make_tokens(4, 5, g, steps=6 + i, duration=2.0) for i, name in enumerate(names)}


def roused(op):
    with torch.no_grad():
        op.modulate.bias.normal_()
    return op


@pytest.mark.parametrize("condition", [None, "b"])
def test_every_token_by_the_formula(condition):
    op = roused(FiLM(dict.fromkeys("abc", 4), 4, 2.0, condition=condition))
    who = condition or "a"
    inputs = without(batch("abc"), who, torch.tensor([True, False, False, False, False]))
    found = op(inputs)
    vector = pool(inputs[who])
    start = 0
    for i, name in enumerate(n for n in "abc" if n != who):
        tokens = inputs[name]
        for row in range(5):
            made = vector[row] @ op.modulate.weight[i] + op.modulate.bias[i]
            scale, shift = (1 + made[:4], made[4:]) if row else (1.0, 0.0)  # nobody conditions row 0
            for step in range(tokens.values.shape[1]):
                assert found.mask[row, start + step] == tokens.mask[row, step]
                if tokens.mask[row, step]:
                    wanted = scale * tokens.values[row, step] + shift
                    torch.testing.assert_close(found.values[row, start + step], wanted)
        assert torch.equal(found.time[:, start : start + tokens.values.shape[1]], tokens.time)
        start += tokens.values.shape[1]
    assert found.values.shape[1] == start


def test_by_hand():
    op = FiLM({"a": 2, "b": 2}, 2, None)
    with torch.no_grad():
        op.modulate.weight.zero_()
        op.modulate.bias.fill_(1.0)
    here = torch.ones(1, dtype=torch.bool)
    b = Tokens(torch.tensor([[[3.0, 4.0]]]), here[:, None], here)
    assert op({"a": b, "b": b}).values.tolist() == [[[7.0, 9.0]]]


def test_with_only_the_conditioning_sensor_its_shift_comes_out():
    op = roused(FiLM(dict.fromkeys("abc", 4), 4, 2.0))
    inputs = without(without(batch("abc"), "b"), "c")
    found = op(inputs)
    assert found.mask.sum(1).tolist() == [1] * 5
    wanted = (pool(inputs["a"]) @ op.modulate.weight[0] + op.modulate.bias[0])[:, 4:]
    torch.testing.assert_close(found.values[:, 0], wanted)


def test_times_are_kept_if_all_have_some_and_the_name_is_checked():
    inputs = batch("abc")
    inputs["c"] = inputs["c"]._replace(time=None)
    assert FiLM(dict.fromkeys("abc", 4), 4, 2.0)(inputs).time is None
    with pytest.raises(UnknownNameError, match="'d'"):
        FiLM(dict.fromkeys("abc", 4), 4, 2.0, condition="d")
