"""Vectors of streams: pooling against its definition, and which joins can answer what no sensor knows alone."""

import pytest
import torch
from torch.nn import functional as F

from fusionkit.core import registry
from fusionkit.core.errors import ConfigError
from fusionkit.core.levels import Fused, Tokens, pool
from fusionkit.fusion.align import align_tokens
from fusionkit.fusion.pooled import ConcatLinear, one_at_least
from fusionkit.testing.streams import make_tokens, without

NAN = float("nan")


def batch(names, rows=5, dim=4, steps=6, seed=0):
    g = torch.Generator().manual_seed(seed)
    return {name: make_tokens(dim, rows, g, steps=steps + i, duration=2.0) for i, name in enumerate(names)}


def test_a_vector_is_the_mean_over_real_tokens_and_zeros_where_there_are_none():
    inputs = without(batch("abc"), "b", torch.tensor([True, False, False, True, False]))
    vectors, real = ConcatLinear(dict.fromkeys("abc", 4), 4, 2.0).vectors(inputs)
    torch.testing.assert_close(vectors, torch.stack([pool(inputs[name]) for name in "abc"]))
    assert real.tolist() == [[True] * 5, [False, True, True, False, True], [True] * 5]
    assert (vectors[1, 0] == 0).all()


def test_streams_of_one_shape_are_averaged_at_once_and_to_the_same_vectors():
    """What is masked or absent is no number; one stream has padding, and one is a step longer than the others."""
    mask = torch.tensor([[True, True, True], [True, False, True], [False, False, False]])
    here = torch.tensor([[True, True, True], [True, False, True]])
    draws = torch.randn(2, 3, 3, 4, generator=torch.Generator().manual_seed(0))
    inputs = {
        name: Tokens(torch.where((mask & there[:, None])[..., None], values, NAN), mask, there)
        for name, values, there in zip("ab", draws, here, strict=True)
    }
    op = ConcatLinear({"a": 4, "b": 4}, 4, None)
    vectors, real = op.vectors(inputs)
    assert real.tolist() == [[True, True, False], [True, False, False]]
    for i, one in enumerate(inputs.values()):
        for row in range(3):
            kept = [one.values[row, t] for t in range(3) if real[i, row] and mask[row, t]]
            wanted = sum(kept) / len(kept) if kept else torch.zeros(4)
            torch.testing.assert_close(vectors[i, row], wanted)
    longer = {
        **inputs,
        "b": inputs["b"]._replace(values=F.pad(inputs["b"].values, (0, 0, 0, 1)), mask=F.pad(mask, (0, 1))),
    }
    torch.testing.assert_close(op.vectors(longer)[0], vectors)


def test_with_steps_every_bin_is_averaged_by_itself_and_keeps_its_time():
    op = registry.fusion.build("gated", {"steps": 3}, dict.fromkeys("ab", 4), 4, 2.0)
    inputs = batch("ab")
    vectors, real = op.vectors(inputs)
    values, mask = align_tokens(inputs, 3, 2.0)
    for row in range(5):
        for step in range(3):
            torch.testing.assert_close(vectors[:, 3 * row + step], values[row, step])
            assert torch.equal(real[:, 3 * row + step], mask[row, step])
    tokens = op(inputs)
    assert torch.equal(tokens.mask, mask.any(2))
    torch.testing.assert_close(tokens.time[0], torch.tensor([1.0, 3.0, 5.0]) / 3)
    assert (tokens.values[~tokens.mask] == 0).all()


def test_one_vector_of_a_window_has_no_time_and_without_a_clock_there_is_one_step():
    inputs = batch("ab")
    assert registry.fusion.build("gated", {}, dict.fromkeys("ab", 4), 4, 2.0)(inputs).time is None
    untimed = {name: tokens._replace(time=None) for name, tokens in inputs.items()}
    tokens = registry.fusion.build("gated", {"steps": 3}, dict.fromkeys("ab", 4), 4, None)(untimed)
    assert tokens.values.shape == (5, 1, 4) and tokens.time is None


def test_concatenation_by_hand_and_streams_of_other_width():
    op = ConcatLinear({"a": 1, "b": 2}, 1, None)
    with torch.no_grad():
        op.out.weight.copy_(torch.tensor([[2.0, 3.0]]))
        op.out.bias.fill_(1.0)
        op.project[1].weight.copy_(torch.tensor([[1.0, -1.0]]))
    here = torch.ones(2, dtype=torch.bool)
    a = Tokens(torch.tensor([[[1.0], [3.0]], [[NAN], [3.0]]]), torch.tensor([[True, True], [False, True]]), here)
    b = Tokens(
        torch.tensor([[[5.0, 4.0]], [[NAN, NAN]]]), torch.ones(2, 1, dtype=torch.bool), ~torch.tensor([False, True])
    )
    answer = op({"a": a, "b": b})
    assert answer.values[:, 0, 0].tolist() == [2 * 2 + 3 * 1 + 1, 2 * 3 + 1]


def test_the_first_token_counts_where_only_others_have_something():
    mask = torch.tensor([[True, True], [False, False], [False, False]])
    tokens = Tokens(torch.ones(3, 2, 1), mask, torch.ones(3, dtype=torch.bool), torch.tensor([[0.5, 1.5]] * 3))
    found = one_at_least(tokens, torch.tensor([True, True, False]), 2.0)
    assert found.mask.tolist() == [[True, True], [True, False], [False, False]]
    assert found.values[..., 0].tolist() == [[1, 1], [1, 0], [0, 0]]
    assert found.time[:2].tolist() == [[0.5, 1.5], [1.0, 1.0]]


@pytest.mark.parametrize("kind", ["film", "nl_gate", "cca"])
def test_what_needs_two_sensors_says_so(kind):
    with pytest.raises(ConfigError, match=r"at least 2 inputs, but has \['eeg'\]"):
        registry.fusion.build(kind, {}, {"eeg": 4}, 4, None)


@pytest.mark.parametrize("kind", ["tensor", "low_rank", "multiplicative", "gated", "central_net", "refnet"])
def test_what_does_not_takes_one(kind):
    op = registry.fusion.build(kind, {}, {"eeg": 4}, 4, None).eval()
    inputs = {"eeg": Tokens(torch.randn(3, 2, 4), torch.ones(3, 2, dtype=torch.bool), torch.ones(3, dtype=torch.bool))}
    answer = op(inputs)
    tokens = answer.tokens if isinstance(answer, Fused) else answer
    assert tokens.values.shape == (3, 1, 4) and tokens.values.std(0).sum() > 0


@pytest.mark.parametrize(
    ("kind", "options", "solves"),
    [
        ("tensor", {}, True),
        ("low_rank", {}, True),
        ("multiplicative", {}, True),
        ("multiplicative", {"form": "vector"}, True),
        ("multiplicative", {"form": "scalar"}, True),
        ("gated", {}, True),
        ("film", {}, True),
        ("nl_gate", {}, False),  # one key: the softmax is 1, and what is left is a sum
        ("central_net", {}, True),
        ("refnet", {}, False),
        ("cca", {}, False),
    ],
)
def test_products_answer_xor_and_sums_do_not(kind, options, solves):
    """Each sensor is a coin; the label is whether they differ. A linear head on a sum of the sensors stays at chance."""
    g = torch.Generator().manual_seed(0)
    bits = torch.randint(2, (128, 2), generator=g)
    label = bits.sum(1) % 2
    there = torch.ones(128, dtype=torch.bool)
    inputs = {
        name: Tokens(torch.nn.functional.one_hot(bits[:, i], 8)[:, None] * 2.0 - 0.5, there[:, None], there)
        for i, name in enumerate(("a", "b"))
    }
    op = registry.fusion.build(kind, options, {"a": 8, "b": 8}, 8, None)
    head = torch.nn.Linear(8, 2)
    optimiser = torch.optim.Adam([*op.parameters(), *head.parameters()], lr=0.02)
    for _ in range(200):
        answer = op(inputs)
        tokens = answer.tokens if isinstance(answer, Fused) else answer
        logits = head(pool(tokens))
        optimiser.zero_grad()
        F.cross_entropy(logits, label).backward()
        optimiser.step()
    accuracy = (logits.argmax(1) == label).float().mean()
    assert accuracy > 0.99 if solves else accuracy < 0.8
