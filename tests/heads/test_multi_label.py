"""Multi-label tasks: cells with several labels, a yes or no for each."""

import itertools
import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from fusionkit.core.errors import ConfigError, DataError
from fusionkit.core.registry import heads
from fusionkit.heads.multi_label import MultiLabel, MultiLabelHead
from fusionkit.heads.quantity import take_top
from fusionkit.losses.bernoulli import Bernoulli

LABELS = ["joy; fear", None, "fear", "neutral", "", "fear;"]


def fitted(**options):
    task = MultiLabel(none="neutral", **options)
    task.learn(LABELS, "feelings")
    task.fit(task.encode(LABELS, "feelings"), "feelings")
    return task


def test_cells_become_rows_of_zeros_and_ones():
    task = fitted()
    nan = np.nan
    assert task.classes == ("fear", "joy")
    expected = [[1, 1], [nan, nan], [1, 0], [0, 0], [nan, nan], [1, 0]]
    np.testing.assert_array_equal(task.encode(LABELS, "feelings"), expected)


def test_another_separator():
    task = MultiLabel(separator="|")
    task.learn(["a|b", "b;c"], "x")
    assert task.classes == ("a", "b", "b;c")


@pytest.mark.parametrize("cell", ["joy;neutral", ";"])
def test_a_cell_that_says_both_or_nothing_is_refused(cell):
    with pytest.raises(DataError, match=f"task 'feelings' row 1: .*only the marker.*'neutral'.*but got '{cell}'"):
        fitted().encode([cell], "feelings")


def test_a_label_outside_the_classes_is_refused():
    with pytest.raises(DataError, match=r"task 'feelings' row 2: .*'feer'; did you mean 'fear'"):
        fitted().encode(["fear", "joy;feer"], "feelings")
    with pytest.raises(DataError, match=r"row 1: .*'rage'"):
        MultiLabel(classes=["joy"]).learn(["rage"], "feelings")


def test_a_label_absent_from_training_is_refused_by_name():
    task = fitted()
    with pytest.raises(DataError, match=r"task 'feelings': every label must occur in training, but \['joy'\]"):
        task.fit(task.encode(["fear", "neutral"], "feelings"), "feelings")


def test_a_study_without_labels_is_refused():
    with pytest.raises(DataError, match="none of 2 has"):
        MultiLabel(none="neutral").learn(["neutral", None], "feelings")
    with pytest.raises(DataError, match="all 2 are missing"):
        fitted().fit(np.full((2, 2), np.nan), "feelings")


def test_wrong_options_are_refused():
    with pytest.raises(ConfigError, match=r"marker for none .* 'a' is listed"):
        heads.build("multi_label", {"classes": ["a", "b"], "none": "a"})
    with pytest.raises(ConfigError, match="listed again"):
        heads.build("multi_label", {"classes": ["a", "a"]})


def test_balanced_weights_by_hand():
    """Of four labelled records three have fear and one has joy."""
    np.testing.assert_allclose(fitted(class_weights="balanced").weights(), [[2, 2 / 3], [2 / 3, 2]])
    np.testing.assert_array_equal(fitted().weights(), np.ones((2, 2)))


def test_balanced_weights_weigh_one_per_record_on_average():
    task = fitted(class_weights="balanced")
    target = torch.from_numpy(task.encode(LABELS, "feelings"))
    _, weight = task.loss(torch.full((6, 2, 2), 0.5).log(), target)
    assert weight.item() == pytest.approx(4)


@pytest.mark.parametrize("weights", ["none", "balanced"])
def test_the_loss_is_binary_cross_entropy_over_labelled_records(weights):
    task = fitted(class_weights=weights)
    logits = torch.randn(6, 2, dtype=torch.float64)
    target = torch.from_numpy(task.encode(LABELS, "feelings"))
    known = ~target.isnan().any(1)
    decision = torch.stack([F.logsigmoid(-logits), F.logsigmoid(logits)], -1)
    loss, weight = task.loss(decision, target)
    table = torch.from_numpy(task.weights()).double()
    each = torch.where(target[known] > 0, table[:, 1], table[:, 0])
    theirs = F.binary_cross_entropy_with_logits(logits[known], target[known].double(), weight=each, reduction="none")
    torch.testing.assert_close(loss, theirs.mean(1).sum())
    torch.testing.assert_close(weight, each.mean(1).sum())


def test_missing_rows_contribute_exactly_nothing_even_beside_nan():
    task = fitted()
    logits = torch.randn(3, 2, requires_grad=True)
    target = torch.tensor([[1.0, 0.0], [torch.nan, torch.nan], [0.0, 0.0]])
    decision = torch.stack([F.logsigmoid(-logits), F.logsigmoid(logits)], -1)
    spoiled = torch.where(target.isnan()[..., None], torch.full_like(decision, torch.nan), decision)
    loss, weight = task.loss(spoiled, target)
    loss.backward()
    assert weight.item() == 2
    assert (logits.grad[1] == 0).all()
    assert loss.item() == task.loss(decision[[0, 2]], target[[0, 2]])[0].item()
    loss, weight = task.loss(decision, torch.full((3, 2), torch.nan))
    assert (loss.item(), weight.item()) == (0, 0)


def test_the_head_s_yes_and_no_are_sure_together():
    head = MultiLabelHead(4, 3)
    decision = head(torch.randn(5, 4) * 100)
    assert decision.shape == (5, 3, 2)
    torch.testing.assert_close(decision.exp().sum(-1), torch.ones(5, 3))
    logits = head.linear(torch.ones(1, 4))
    torch.testing.assert_close(head(torch.ones(1, 4))[..., 1], F.logsigmoid(logits))


def test_the_prior_is_the_share_of_training_records_and_never_zero():
    np.testing.assert_allclose(np.exp(fitted().prior()), [[1.5 / 5, 3.5 / 5], [3.5 / 5, 1.5 / 5]])
    always = MultiLabel(classes=["a"])
    always.fit(np.ones((3, 1)), "x")
    np.testing.assert_allclose(np.exp(always.prior()), [[1 / 8, 7 / 8]])


def test_state_brings_a_task_back():
    task, again = fitted(class_weights="balanced"), MultiLabel(none="neutral", class_weights="balanced")
    again.restore(json.loads(json.dumps(task.state())))
    assert again.classes == task.classes
    np.testing.assert_array_equal(again.prior(), task.prior())
    np.testing.assert_array_equal(again.weights(), task.weights())


def test_even_chances_cost_log_2():
    loss, weight = fitted().loss(torch.full((1, 2, 2), 0.5).log(), torch.tensor([[1.0, 0.0]]))
    assert (loss / weight).item() == pytest.approx(math.log(2))


def test_a_loss_never_sees_what_was_answered_where_the_label_is_missing():
    seen = []

    class Spy(Bernoulli):
        def forward(self, decision, target, weights=None):
            seen.append((decision, target))
            return super().forward(decision, target, weights)

    task = fitted()
    task._loss = Spy()
    task.loss(torch.full((2, 2, 2), torch.nan), torch.full((2, 2), torch.nan))
    assert (seen[0][0] == 0).all()
    assert (seen[0][1] == 0).all()


def counted(rows, none=None, classes=("a", "b", "c", "d")):
    """A task that has seen these rows of zeros and ones."""
    task = MultiLabel(classes=list(classes), quantity=True, none=none)
    task.fit(np.array(rows, dtype=np.float32), "tags")
    return task


TAGS = [[1, 1, 0, 0], [1, 0, 1, 1], [0, 0, 0, 1], [1, 0, 0, 0]]


def test_the_number_of_labels_is_guessed_by_two_hidden_layers():
    """By hand: ReLU layers, a sigmoid, as a share of all labels; it starts near the training mean of 7 / 4."""
    task = counted(TAGS)
    head = task.head(6)
    x = torch.randn(3, 6)
    decision = head(x)
    first, second, last = (layer for layer in head.quantity.layers if hasattr(layer, "weight"))
    assert (first.out_features, second.out_features, last.out_features) == (6, 3, 1)
    for row in range(3):
        hidden = (first.weight @ x[row] + first.bias).clamp_min(0)
        hidden = (second.weight @ hidden + second.bias).clamp_min(0)
        share = 1 / (1 + math.exp(-(last.weight @ hidden + last.bias).item()))
        assert decision[row, 4].exp().tolist() == pytest.approx([1 - share, share], rel=1e-5)
        torch.testing.assert_close(decision[row, :4, 1], F.logsigmoid(head.linear.weight @ x[row] + head.linear.bias))
    smoothed = (7 + 4 * 0.5) / (4 * 5)  # half a record more with and without every label
    assert last.bias.sigmoid().item() == pytest.approx(smoothed)
    np.testing.assert_allclose(np.exp(task.prior())[4, 1], smoothed)


def test_a_wrong_number_costs_its_square_in_deviations():
    task = counted(TAGS)
    deviation = np.std([2, 3, 1, 1])
    plain = MultiLabel(classes=["a", "b", "c", "d"])
    guessed = torch.tensor([1.2, 3.0, 0.5])
    labels = -torch.rand(3, 4, 2)
    share = (guessed / 4)[:, None]
    decision = torch.cat([labels, torch.stack([1 - share, share], -1).log()], 1)
    target = torch.tensor([[1.0, 1, 0, 0], [0, 1, 1, 1], [torch.nan] * 4])
    loss, weight = task.loss(decision, target)
    apart, same = plain.loss(labels, target)
    wanted = apart + ((1.2 - 2) / deviation) ** 2 + ((3.0 - 3) / deviation) ** 2
    torch.testing.assert_close(loss, wanted.float())
    assert weight == same == 2


def test_a_record_without_labels_moves_neither_head():
    task, x = counted(TAGS), torch.randn(2, 6)
    head = task.head(6)
    loss, weight = task.loss(head(x), torch.full((2, 4), torch.nan))
    loss.backward()
    assert weight == 0 and loss == 0
    assert all(not parameter.grad.any() for parameter in head.parameters())
    loss, _ = task.loss(head(x), torch.tensor(TAGS[:2]).float())
    loss.backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in head.quantity.layers[-1].parameters())


@settings(max_examples=200)
@given(
    odds=st.lists(st.sampled_from([-4.0, -1.5, -0.2, 0.0, 0.3, 0.3001, 2.0, 6.0]), min_size=4, max_size=4),
    number=st.floats(0.02, 3.98).filter(lambda number: abs(number % 1 - 0.5) > 1e-6),
    none=st.sampled_from([None, "neutral"]),
)
def test_the_answer_is_the_likeliest_labels_as_many_as_are_guessed(odds, number, none):
    """Sorted by plain Python, the number rounded and kept from 1 (0 where a cell can say none) to all."""
    task = counted(TAGS, none)
    yes = torch.tensor(odds, dtype=torch.float64).sigmoid()
    share = torch.tensor(number / 4, dtype=torch.float64)
    pairs = [*zip((1 - yes).tolist(), yes.tolist(), strict=True), (1 - share.item(), share.item())]
    found = task.prediction(torch.tensor([pairs], dtype=torch.float64).log())[0]
    assert found.shape == (4, 2)
    torch.testing.assert_close(found.sum(1), torch.ones(4, dtype=torch.float64))
    count = min(max(round(number), 1 if none is None else 0), 4)
    real = (yes.log() - (1 - yes).log()).tolist()
    wanted = sorted(range(4), key=lambda place: (-round(real[place], 9), place))[:count]
    assert found.argmax(1).nonzero()[:, 0].tolist() == sorted(wanted)
    if all((real[place] > 2e-3) == (place in wanted) and abs(real[place]) > 2e-3 for place in range(4)):
        torch.testing.assert_close(found[:, 1], yes)  # the number only says what the labels say
    order = [found[place, 1].item() for place in sorted(range(4), key=lambda place: (round(real[place], 9), -place))]
    assert all(low <= high + 1e-12 for low, high in itertools.pairwise(order))


def test_labels_shift_to_half_way_between_taken_and_left():
    def odds_after(count):
        pairs = torch.tensor([[3.0, 1.0, -1.0]]).sigmoid().logit()
        shifted = take_top(torch.stack([F.logsigmoid(-pairs), F.logsigmoid(pairs)], -1), torch.tensor([count]))
        return (shifted[0, :, 1] - shifted[0, :, 0]).tolist()

    assert odds_after(1) == pytest.approx([1, -1, -3], abs=1e-5)
    assert odds_after(2) == pytest.approx([3, 1, -1], abs=1e-5)
    assert odds_after(3) == pytest.approx([6, 4, 2], abs=1e-5)
    assert odds_after(0) == pytest.approx([-2, -4, -6], abs=1e-5)


def test_what_is_certain_already_stays_where_all_or_none_are_taken():
    for odds, count in (([-10.0, -12.0], 0), ([9.0, 8.0], 2), ([9.0, -8.0], 1)):
        pairs = torch.tensor([odds])
        kept = take_top(torch.stack([F.logsigmoid(-pairs), F.logsigmoid(pairs)], -1), torch.tensor([count]))
        assert (kept[0, :, 1] - kept[0, :, 0]).tolist() == pytest.approx(odds, abs=1e-4)


def test_what_a_counting_task_has_learned_goes_through_json():
    task = counted(TAGS)
    again = MultiLabel(quantity=True)
    again.restore(json.loads(json.dumps(task.state())))
    assert again.deviation == task.deviation == pytest.approx(np.std([2, 3, 1, 1]))
    np.testing.assert_array_equal(again.prior(), task.prior())


def test_a_late_node_cannot_merge_numbers_of_labels(tiny):
    with pytest.raises(ConfigError, match=r"tasks\.target: a multi_label with these options must read a joined stream"):
        tiny("fusion={kind: vote, dim: 8}", "tasks.target.kind=multi_label", "tasks.target.quantity=true")
    tiny("fusion={kind: vote, dim: 8}", "tasks.target.kind=multi_label")


@pytest.mark.slow
def test_a_run_that_counts_labels_is_scored_and_exported(tiny):
    """The bundle answers with as many labels as the model guesses."""
    from fusionkit.export.run import export_run
    from fusionkit.runtime.session import Session
    from fusionkit.training.run import train

    recipe = tiny("fusion={kind: multi_scale, dim: 8}", "tasks.target.kind=multi_label", "tasks.target.quantity=true")
    run = train(recipe, fold=0)
    bundle = run.folder / "model.fusion"
    export_run(run, bundle)  # refuses a difference between torch and the bundle
    session = Session.load(bundle)
    answers = session.predict({"text": ["a b", "c", "d e f", "g", "h"]})["target"]
    assert answers.shape == (5, len(session.tasks["target"].classes))
    assert ((answers > 0.5).sum(1) >= 1).all()
