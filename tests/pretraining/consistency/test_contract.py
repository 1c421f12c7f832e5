"""What every registered consistency method keeps to."""

import copy

import pytest
import torch

from fusionkit.core.errors import ConfigError
from fusionkit.core.registry import consistency
from fusionkit.pretraining.consistency.answers import Answers

KINDS = consistency.kinds()
ABSENT = [("image", 0), ("eeg", 1), ("text", 1), ("eeg", 4), ("image", 5), ("eeg", 5), ("text", 5)]


def gradients(objective, batch, seed=0):
    objective.zero_grad()
    torch.manual_seed(seed)
    loss = objective(batch, torch.Generator().manual_seed(seed))
    loss.backward()
    return loss.detach(), {name: p.grad for name, p in objective.named_parameters()}


def full(objective):
    """As late in training: every weight has risen."""
    for method in objective.consistency:
        method.step.fill_(9)
    return objective


@pytest.mark.parametrize("kind", KINDS)
def test_it_adds_to_the_loss_and_reaches_the_models_weights(kind, objective, batch):
    plain, _ = gradients(objective(), batch(labelled=0))
    made = full(objective([(kind, {"confidence": 0.0} if kind == "uda" else {})]))
    loss, found = gradients(made, batch(labelled=0))
    assert plain == 0 and loss.isfinite() and loss > 0
    reached = {name for name, grad in found.items() if grad is not None and grad.any()}
    assert {name for name in reached if name.startswith("model.encoders.image")}
    assert all(grad is None or grad.isfinite().all() for grad in found.values())
    assert not any("teacher" in name for name in reached)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("records", [1, 8])
@pytest.mark.parametrize("labelled", [0, 8])
def test_missing_sensors_and_labels_are_normal_inputs(kind, records, labelled, objective, batch):
    made = full(objective([(kind, {})]))
    loss, found = gradients(made, batch(records=records, labelled=labelled, absent=ABSENT))
    assert loss.isfinite()
    assert all(grad is None or grad.isfinite().all() for grad in found.values())


@pytest.mark.parametrize("kind", KINDS)
def test_with_every_sensor_absent_it_is_finite_and_moves_nothing_that_sees(kind, objective, batch):
    gone = [(name, row) for name in ("image", "eeg", "text") for row in range(8)]
    made = full(objective([(kind, {})]))
    loss, found = gradients(made, batch(labelled=0, absent=gone))
    assert loss.isfinite()
    for name, grad in found.items():
        if name.startswith("model.encoders") and grad is not None:
            assert not grad.nan_to_num(1.0).any(), name


@pytest.mark.parametrize("kind", KINDS)
def test_absent_values_change_nothing(kind, objective, batch):
    losses = []
    for junk in (0.0, 7.0, torch.nan):
        made, data = full(objective([(kind, {})])), batch(absent=ABSENT)
        for name in ("image", "eeg"):
            level = data.inputs[name]
            here = level.present.reshape(-1, *(1 for _ in level.values.shape[1:]))
            data.inputs[name] = level._replace(values=torch.where(here, level.values, junk))
        losses.append(gradients(made, data)[0])
    assert torch.equal(losses[0], losses[1]) and torch.equal(losses[0], losses[2])


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_gives_the_same_loss_and_modes_stay_as_they_are(kind, objective, batch):
    made = full(objective([(kind, {})]))
    modes = [part.training for part in made.model.modules()]
    first = gradients(made, batch(), seed=3)[0]
    again = gradients(made, batch(), seed=3)[0]
    assert torch.equal(first, again)
    assert modes == [part.training for part in made.model.modules()]


@pytest.mark.parametrize("kind", KINDS)
def test_validation_sees_none_of_it(kind, objective, batch):
    plain, made = objective().eval(), full(objective([(kind, {})])).eval()
    with torch.no_grad():
        assert torch.equal(plain(batch()), made(batch()))


@pytest.mark.parametrize("kind", KINDS)
def test_it_goes_on_from_its_state(kind, objective, batch):
    """Two steps, or one, a checkpoint and one: the same weights to the bit."""

    def step(made, seed):
        optimiser = torch.optim.SGD([p for p in made.parameters() if p.requires_grad], 0.1)
        gradients(made, batch(), seed)
        optimiser.step()
        made.settle()

    whole = objective([(kind, {})])
    step(whole, 1)
    state = copy.deepcopy(whole.state_dict())
    step(whole, 2)
    other = objective([(kind, {})])
    other.load_state_dict(state)
    step(other, 2)
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in whole.state_dict().items())
    said = whole.close_epoch()
    assert set(said) == {f"consistency_{kind}"} and said == other.close_epoch()
    assert whole.close_epoch() == {f"consistency_{kind}": 0.0}


@pytest.mark.parametrize("kind", KINDS)
def test_without_a_task_of_probabilities_it_is_refused(kind):
    with pytest.raises(ConfigError, match="needs a task that answers with probabilities"):
        consistency.build(kind, {}, {}, 10)


def test_several_are_added_up(objective, batch):
    data, kinds = batch(), ["uda", "vat"]
    plain, *single, both = (
        gradients(full(objective([(kind, {}) for kind in chosen], dropout=0.0)), data)[0]
        for chosen in ([], ["uda"], ["vat"], kinds)
    )
    torch.testing.assert_close(both - plain, sum(single) - 2 * plain, rtol=1e-3, atol=1e-5)


def test_a_clean_answer_has_all_sensors_no_noise_and_no_gradient(objective, batch, generator):
    made, data = objective(dropout=0.5), batch()
    noisy = made.model(data.inputs, generator())
    answers = Answers(made.model, data, noisy, generator(1))
    clean = answers.clean("state")
    assert not clean.requires_grad and answers.noisy("state").requires_grad
    with torch.no_grad():
        torch.testing.assert_close(clean, made.model.eval()(data.inputs).decisions["state"])
    assert not torch.equal(answers.noisy("state", 0), answers.noisy("state", 1))
    assert answers.labelled("state").tolist() == answers.labelled("tags").tolist() == [True] * 3 + [False] * 5


@pytest.mark.parametrize("kind", KINDS)
def test_running_statistics_are_those_of_the_steps_own_pass(kind, objective, batch):
    """Mixtures and changed records do not enter what norms know of the data."""
    plain, made = objective(eeg="cnn"), full(objective([(kind, {})], eeg="cnn"))
    for one in (plain, made):
        gradients(one, batch())
    wanted, found = dict(plain.model.named_buffers()), dict(made.model.named_buffers())
    assert any("mean" in name and value.any() for name, value in wanted.items())
    assert all(torch.equal(value, found[name]) for name, value in wanted.items())


def test_a_clean_answer_is_that_of_training_without_its_dropout(objective, batch, generator):
    """Norms go by the batch, not by running statistics that lag behind: these would be another model's."""
    made, data = objective(dropout=0.0, modality_dropout=0.0, eeg="cnn"), batch()
    for part in made.model.modules():
        if isinstance(part, torch.nn.modules.dropout._DropoutNd):
            part.p = 0.0
    noisy = made.model(data.inputs)
    clean = Answers(made.model, data, noisy, generator()).clean("state")
    torch.testing.assert_close(clean, noisy.decisions["state"])
    with torch.no_grad():
        assert not torch.allclose(clean, made.model.eval()(data.inputs).decisions["state"], atol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_no_step_waits_for_the_device(kind, objective, batch, generator, watch):
    made = full(objective([(kind, {})], modality_dropout=0.0))  # its one_hot waits, on a CPU alone
    given, drawn = batch(), generator()
    with watch() as seen:
        made(given, drawn).backward()
        made.settle()
    assert not seen.found
