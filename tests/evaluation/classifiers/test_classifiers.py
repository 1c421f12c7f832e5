"""Classifiers that judge data: against scikit-learn and plain formulas, what they choose by, and what they never do."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from torch import Tensor

from fusionkit.core.errors import DataError
from fusionkit.evaluation.classifiers.examples import MADE, Examples
from fusionkit.evaluation.classifiers.fit import CLASSIFIERS, ClassifierKind, fit_classifier, tune_classifier
from fusionkit.evaluation.classifiers.network import STEPS, ShortcutNetwork
from fusionkit.evaluation.classifiers.svm import COSTS, PARTS, tune_svm

KINDS = pytest.mark.parametrize("kind", CLASSIFIERS)


def clouds(records: int, seed: int, apart: float = 1.5, classes: int = 3, width: int = 6) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    centre = apart * torch.randn(classes, width, generator=torch.Generator().manual_seed(1))
    label = torch.arange(records) % classes
    values = centre[label] + torch.randn(records, width, generator=generator)
    return 5 * values + torch.arange(width), label


def examples(values: Tensor, label: Tensor, group: Tensor) -> Examples:
    return Examples(values, label, torch.ones(len(label)), group, 3)


@KINDS
def test_answers_are_probabilities_and_mostly_right(kind: ClassifierKind) -> None:
    values, label = clouds(90, 0)
    asked, truth = clouds(300, 5)
    said = fit_classifier(kind, values, label, classes=3, seed=0, group=torch.arange(90) // 9)(asked)
    assert said.shape == (300, 3) and said.dtype == torch.float32
    torch.testing.assert_close(said.sum(1), torch.ones(300))
    assert (said.argmax(1) == truth).float().mean() > 0.9


@KINDS
def test_noise_is_answered_by_chance(kind: ClassifierKind) -> None:
    values, label = clouds(60, 0, apart=0)
    asked, truth = clouds(600, 5, apart=0)
    said = fit_classifier(kind, values, label, classes=3, seed=0)(asked)
    assert abs((said.argmax(1) == truth).float().mean() - 1 / 3) < 0.1


@KINDS
def test_a_class_without_records_has_probability_0(kind: ClassifierKind) -> None:
    values, label = clouds(40, 0, classes=2)
    said = fit_classifier(kind, values, label, classes=4, seed=0)(values)
    assert (said[:, 2:] == 0).all()
    torch.testing.assert_close(said.sum(1), torch.ones(40))


@KINDS
def test_one_class_alone_is_certain(kind: ClassifierKind) -> None:
    said = fit_classifier(kind, torch.randn(3, 2), torch.full((3,), 2), classes=3, seed=0)(torch.zeros(2, 2))
    assert said.tolist() == [[0, 0, 1], [0, 0, 1]]


@KINDS
def test_the_same_seed_answers_the_same_and_no_random_number_is_taken(kind: ClassifierKind) -> None:
    values, label = clouds(45, 0)
    torch.manual_seed(3)
    before = torch.get_rng_state()
    np.random.seed(3)
    stood = np.random.get_state(legacy=False)
    one, two = (fit_classifier(kind, values, label, classes=3, seed=7)(values) for _ in range(2))
    assert torch.equal(one, two)
    assert torch.equal(torch.get_rng_state(), before) and str(np.random.get_state(legacy=False)) == str(stood)


@KINDS
def test_a_constant_number_and_a_huge_scale_change_nothing(kind: ClassifierKind) -> None:
    values, label = clouds(45, 0)
    said = fit_classifier(kind, values, label, classes=3, seed=0)(values)
    scaled = fit_classifier(kind, 1e-6 * values, label, classes=3, seed=0)(1e-6 * values)
    torch.testing.assert_close(said, scaled, atol=1e-4, rtol=1e-4)
    beside = torch.cat([values, torch.full((45, 1), 0.1)], 1)
    assert torch.isfinite(fit_classifier(kind, beside, label, classes=3, seed=0)(beside + 1)).all()


@KINDS
def test_shares_weigh(kind: ClassifierKind) -> None:
    values, label = clouds(40, 0, classes=2)
    asked = torch.cat([values, values])
    both = torch.cat([label, 1 - label])  # every record is there with both classes
    for share in (0.0, 1.0):
        weight = torch.cat([torch.full((40,), 0.95), torch.full((40,), 0.05)])
        weight = weight if share else 1 - weight
        said = fit_classifier(kind, asked, both, weight, classes=2, seed=0, tuned={"cost": 0.01, "slope": 1.0})(values)
        assert ((said.argmax(1) == label).float().mean() > 0.9) == bool(share)


@KINDS
def test_what_cannot_be_learned_from_is_refused(kind: ClassifierKind) -> None:
    with pytest.raises(DataError, match="got none"):
        fit_classifier(kind, torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64), classes=2, seed=0)
    values, label = clouds(9, 0)
    values[3, 1] = torch.nan
    with pytest.raises(DataError, match="finite"):
        fit_classifier(kind, values, label, classes=3, seed=0)


def test_the_machine_is_the_one_of_scikit_learn() -> None:
    values, label = clouds(60, 0, apart=0.5)
    share = torch.rand(60, generator=torch.Generator().manual_seed(2))
    asked, _ = clouds(50, 5, apart=0.5)
    said = fit_classifier("svm", values, label, share, classes=3, seed=0, tuned={"cost": 0.3, "slope": 2.0})(asked)
    scaler = StandardScaler().fit(values)
    oracle = LinearSVC(C=0.3, dual=True, random_state=0, max_iter=200000, tol=1e-8)
    oracle.fit(scaler.transform(values), label, sample_weight=share.numpy())
    scores = torch.from_numpy(oracle.decision_function(scaler.transform(asked)))
    torch.testing.assert_close(said, (2 * scores).softmax(1).float(), atol=2e-3, rtol=0)


def test_two_classes_are_two_planes_that_mirror() -> None:
    values, label = clouds(40, 0, classes=2)
    said = fit_classifier("svm", values, label, classes=2, seed=0, tuned={"cost": 0.01, "slope": 0.5})(values)
    machine = LinearSVC(C=0.01, dual=False).fit(StandardScaler().fit_transform(values), label)
    score = torch.from_numpy(machine.decision_function(StandardScaler().fit_transform(values)))
    torch.testing.assert_close(said[:, 1], torch.sigmoid(score).float(), atol=1e-3, rtol=0)  # 0.5 (f - -f) = f


def test_generated_records_choose_nothing_and_scale_nothing() -> None:
    values, label = clouds(60, 0, apart=0.5)
    group = torch.arange(60) // 6
    alone = tune_svm(examples(values, label, group))
    made = 100 * torch.randn(40, 6, generator=torch.Generator().manual_seed(3))
    both = examples(
        torch.cat([values, made]), torch.cat([label, torch.arange(40) % 3]), torch.cat([group, torch.full((40,), MADE)])
    )
    assert tune_svm(both) == alone
    assert torch.equal(both.standardiser()(values), examples(values, label, group).standardiser()(values))


def test_the_cost_is_chosen_by_whole_groups() -> None:
    """Records of a group share a fingerprint that tells the class by heart: only a split that mixes groups likes it."""
    generator = torch.Generator().manual_seed(0)
    group, label = torch.arange(90) // 5, (torch.arange(90) // 5) % 3
    fingerprint = 3 * torch.randn(18, 40, generator=generator)[group]
    weak = torch.nn.functional.one_hot(label, 3) + 0.8 * torch.randn(90, 3, generator=generator)
    values = torch.cat([fingerprint + 0.1 * torch.randn(90, 40, generator=generator), weak], 1)
    fair = tune_svm(examples(values, label, group))
    fooled = tune_svm(examples(values, label, torch.arange(90)))
    assert fair["slope"] < fooled["slope"]  # by records it is sure of what groups show to be a guess
    assert fair["cost"] in COSTS and PARTS == 3


def test_slopes_make_probabilities_true() -> None:
    """Temperature scaling of well-separated clouds is near logistic regression's own probability of the truth."""
    values, label = clouds(300, 0, apart=0.6)
    asked, truth = clouds(2000, 5, apart=0.6)
    said = fit_classifier("svm", values, label, classes=3, seed=0)(asked)
    scaler = StandardScaler().fit(values)
    oracle = LogisticRegression().fit(scaler.transform(values), label).predict_proba(scaler.transform(asked))
    ours = -said[torch.arange(2000), truth].log().mean().item()
    theirs = -np.log(oracle[np.arange(2000), truth.numpy()]).mean()
    assert ours < theirs + 0.05
    confident = said.max(1).values
    assert abs(confident.mean() - (said.argmax(1) == truth).float().mean()) < 0.05


def test_one_group_chooses_nothing() -> None:
    values, label = clouds(30, 0)
    assert tune_svm(examples(values, label, torch.zeros(30, dtype=torch.int64)))["slope"] == 1
    assert tune_classifier("network", examples(values, label, torch.arange(30))) == {}


def test_the_network_begins_undecided_and_its_shortcuts_are_additions() -> None:
    torch.manual_seed(0)
    network = ShortcutNetwork(4, 3).eval()
    values = torch.randn(5, 4)
    assert (network(values) == 0).all()
    torch.nn.init.normal_(network.head.weight)
    state = torch.relu(values @ network.enter.weight.T + network.enter.bias)
    for block in network.blocks:
        first, _, _, last = block.children()
        state = state + last(torch.relu(first(state)))
    torch.testing.assert_close(network(values), state @ network.head.weight.T + network.head.bias)


def test_more_records_are_not_more_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[int] = []
    step = torch.optim.AdamW.step

    def counted(optimiser: torch.optim.AdamW) -> None:
        steps.append(1)
        step(optimiser)

    monkeypatch.setattr(torch.optim.AdamW, "step", counted)
    for records in (9, 900):
        steps.clear()
        fit_classifier("network", *clouds(records, 0), classes=3, seed=0)
        assert len(steps) == STEPS
