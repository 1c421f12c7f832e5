"""The cases of a generative augmenter, made records of several shapes, and the checks that only augmenters have."""

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fusionkit.augment.generative.generator import GenerativeAugmenter, Item, Made, Turn
from fusionkit.core.levels import WindowShape
from fusionkit.core.registry import check_options
from fusionkit.testing.result import NotApplicable, require
from fusionkit.testing.sorting import sort_cases

ROWS, CLASSES = 12, 3
CAP = (
    (0.07, 0.03, 0.05),
    (-0.07, 0.03, 0.05),
    (0.0, 0.11, 0.05),
    (0.0, -0.05, 0.05),
    (0.0, 0.03, 0.12),
    (0.05, 0.07, 0.09),
)
CASES: dict[str, Item] = {
    "features": Item("features", WindowShape((1, 6, 5)), CLASSES, CAP),
    "steps": Item("features", WindowShape((4, 3, 2)), CLASSES),
    "series": Item("window", WindowShape((3, 20), 100.0), CLASSES),
    "sound": Item("window", WindowShape((24,), 100.0), CLASSES),
    "image": Item("window", WindowShape((3, 8, 9)), CLASSES),
    "one class": Item("features", WindowShape((1, 6, 5)), 1, CAP),
}
"""What the made records of each case look like."""


class GeneratorCase:
    """An augmenter of some made records.

    Args:
        cls: the augmenter.
        options: its keyword-only options.
        label: which of `CASES`.
    """

    def __init__(self, cls: type[GenerativeAugmenter], options: Mapping[str, Any], label: str) -> None:
        self.cls, self.options = cls, check_options(cls, options, getattr(cls, "kind", cls.__name__))
        self.label, self.item = label, CASES[label]
        self.exempt: Mapping[str, str] = getattr(cls, "exempt", {})

    def build(self, seed: int = 0) -> GenerativeAugmenter:
        """An augmenter with weights of its own, in training mode, that knows no record yet.

        Raises:
            ConfigError: it cannot make such records.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self.cls(self.item, **self.options).train()

    def records(self, rows: int = ROWS, seed: int = 0) -> tuple[Tensor, Tensor]:
        """Made records, the classes' means apart from each other, and their classes in turn."""
        label = torch.arange(rows) % self.item.classes
        noise = torch.randn(rows, *self.item.shape, generator=torch.Generator().manual_seed(seed))
        return noise + label.reshape(-1, *(1,) * (noise.ndim - 1)), label

    def prepared(self, seed: int = 0) -> GenerativeAugmenter:
        """One that knows the made records."""
        made = self.build(seed)
        made.prepare(*self.records())
        return made

    def train(self, made: GenerativeAugmenter, steps: int = 1, seed: int = 0) -> None:
        """Some steps, as a trainer makes them."""
        values, label = self.records()
        generator = torch.Generator().manual_seed(seed)
        players = [(turn, turn.optimiser(turn.parameters)) for turn in made.turns()]
        made.train()
        for _ in range(steps):
            for turn, optimiser in players:
                for _ in range(turn.times):
                    optimiser.zero_grad()
                    loss, _ = turn.loss(made.standardise(values), label, generator)
                    loss.backward()  # type: ignore[no-untyped-call]
                    optimiser.step()
            made.settle()

    def sample(self, made: GenerativeAugmenter, label: Tensor, seed: int = 5) -> Made:
        """New records, from a seed."""
        return made.sample(label, torch.Generator().manual_seed(seed))


def generator_cases(
    cls: type[GenerativeAugmenter], options: Mapping[str, Any]
) -> tuple[list[GeneratorCase], dict[str, str]]:
    """The cases that an augmenter takes, and why it refuses the others.

    Raises:
        ConfigError: it takes none.
    """
    made = [GeneratorCase(cls, options, label) for label in CASES]
    return sort_cases(made, getattr(cls, "kind", cls.__name__), "make some of the made records")


def standardises(case: GeneratorCase, made: GenerativeAugmenter) -> None:
    """Standardised records are finite, even where a number is the same in all of them, and can be restored."""
    values, label = case.records()
    values.flatten(1)[:, 0] = 3.0
    before = values.clone()
    made.prepare(values, label)
    require(torch.equal(values, before), "an augmenter must not write to training records")
    found = made.standardise(values)
    require(bool(found.isfinite().all()), "standardised records must be finite where a number never varies")
    off = float((made.restore(found) - values).abs().max())
    require(off < 1e-4, f"restoring must undo standardising, but is {off:.3g} off")
    for name, kept in (("shift", made.shift), ("scale", made.scale)):
        require(
            tuple(kept.shape) == tuple(case.item.shape),
            f"{name} must have the shape of a record, but is {tuple(kept.shape)}",
        )
        require(kept.dtype == torch.float32, f"{name} must be float32, but is {kept.dtype}")
    _sound(case, case.sample(made, label), label)


def declares_turns(case: GeneratorCase, made: GenerativeAugmenter) -> None:
    """Turns have names of their own, and between them every parameter that learns once."""
    turns = _turns(made)
    names = [turn.name for turn in turns]
    require(all(names) and len(set(names)) == len(names), f"turns must have names of their own, but have {names}")
    owners: dict[int, str] = {}
    for turn in turns:
        require(turn.times >= 1, f"a turn must have an update at least, but {turn.name} has {turn.times}")
        for parameter in turn.parameters:
            other = owners.setdefault(id(parameter), turn.name)
            require(other == turn.name, f"no two turns may have a parameter, but {other} and {turn.name} have")
        held = {id(p) for group in turn.optimiser(turn.parameters).param_groups for p in group["params"]}
        require(
            held == {id(p) for p in turn.parameters}, f"the optimiser of {turn.name} must hold its parameters alone"
        )
    learned = {id(p): name for name, p in made.named_parameters() if p.requires_grad}
    idle = sorted(name for which, name in learned.items() if which not in owners)
    require(not idle, f"every parameter that learns must be in a turn, but {idle} are in none")
    require(set(owners) <= set(learned), "a turn's parameters must be parameters of the augmenter that learn")


def gives_losses(case: GeneratorCase, made: GenerativeAugmenter) -> None:
    """Each turn gives one finite number, and logs finite numbers without gradients."""
    values, label = case.records()
    made.prepare(values, label)
    for turn in _turns(made):
        loss, logged = _loss(made, turn, values, label)
        where = f"of {turn.name}"
        require(loss.shape == (), f"the loss {where} must be one number, but has the shape {tuple(loss.shape)}")
        require(loss.dtype == torch.float32, f"the loss {where} must be float32, but is {loss.dtype}")
        require(bool(loss.isfinite()), f"the loss {where} must be finite, but is {float(loss.detach())}")
        require(loss.requires_grad, f"a gradient must flow from the loss {where}, but it depends on no weight")
        for name, number in logged.items():
            require(
                isinstance(number, Tensor) and number.shape == () and not number.requires_grad,
                f"what is logged must be numbers without gradient on the device, but {name} {where} is not",
            )
            require(bool(number.isfinite()), f"what is logged must be finite, but {name} {where} is {float(number)}")


def gradients_stay_home(case: GeneratorCase, made: GenerativeAugmenter) -> None:
    """A turn's loss gives a gradient to each of its parameters and to no other: what the rival made is detached."""
    values, label = case.records()
    made.prepare(values, label)
    case.train(made)
    for turn in _turns(made):
        made.zero_grad(set_to_none=True)
        loss, _ = _loss(made, turn, values, label)
        loss.backward()  # type: ignore[no-untyped-call]
        own = {id(p) for p in turn.parameters}
        strange = [name for name, p in made.named_parameters() if p.grad is not None and id(p) not in own]
        require(not strange, f"the loss of {turn.name} must give gradients to its own parameters, but gives {strange}")
        idle = [name for name, p in made.named_parameters() if p.grad is None and id(p) in own]
        require(not idle, f"the loss of {turn.name} must give all of its parameters gradients, but not {idle}")
        wrong = [name for name, p in made.named_parameters() if p.grad is not None and not p.grad.isfinite().all()]
        require(not wrong, f"gradients must be finite, but those of {wrong} are not")
    learned = [name for name, p in made.named_parameters() if id(p) in _owned(made) and not p.requires_grad]
    require(not learned, f"what was frozen for a loss must learn again, but {learned} do not")


def leaves_batches_untouched(case: GeneratorCase, made: GenerativeAugmenter) -> None:
    """Records and classes are as they were."""
    values, label = case.records()
    made.prepare(values, label)
    for turn in _turns(made):
        standard = made.standardise(values)
        before = standard.clone()
        turn.loss(standard, label, torch.Generator().manual_seed(0))
        same = torch.equal(standard, before) and torch.equal(label, case.records()[1])
        require(same, f"the loss of {turn.name} must not write to its batch")


def odd_batches(case: GeneratorCase, made: GenerativeAugmenter) -> None:
    """A batch of one, a batch of one class, and a batch that lacks one have finite losses and gradients."""
    values, label = case.records()
    made.prepare(values, label)
    for rows in (torch.tensor([0]), torch.where(label == 0)[0], torch.where(label > 0)[0]):
        if len(rows) == 0:
            continue
        for turn in _turns(made):
            made.zero_grad(set_to_none=True)
            loss, _ = _loss(made, turn, values[rows], label[rows])
            loss.backward()  # type: ignore[no-untyped-call]
            finite = [bool(p.grad.isfinite().all()) for p in made.parameters() if p.grad is not None]
            require(
                bool(loss.isfinite()) and all(finite),
                f"loss and gradients of {turn.name} must be finite for the classes {label[rows].tolist()}",
            )


def learns(case: GeneratorCase, made: GenerativeAugmenter) -> None:
    """After some steps every turn has moved its parameters."""
    made.prepare(*case.records())
    turns = _turns(made)
    before = {id(p): p.detach().clone() for turn in turns for p in turn.parameters}
    case.train(made)
    for turn in turns:
        moved = any(not torch.equal(before[id(p)], p.detach()) for p in turn.parameters)
        require(moved, f"training must move the parameters of {turn.name}, but moves none")


def makes_what_is_wanted(case: GeneratorCase, made: GenerativeAugmenter) -> None:
    """Records of the wanted classes in any order, float32, finite, of the item's shape, without gradients."""
    made.prepare(*case.records())
    case.train(made)
    for label in (torch.arange(7) % case.item.classes, torch.arange(7).flip(0) % case.item.classes):
        wanted = label.clone()
        _sound(case, case.sample(made, label), wanted)
        require(torch.equal(label, wanted), "sampling must not write to the wanted classes")


def none_and_one(case: GeneratorCase, made: GenerativeAugmenter) -> None:
    """No record, and one, can be made."""
    made.prepare(*case.records())
    for count in (0, 1):
        label = torch.zeros(count, dtype=torch.long)
        _sound(case, case.sample(made, label), label)


def heeds_classes(case: GeneratorCase, made: GenerativeAugmenter) -> None:
    """From one seed, records of another class differ; from another seed, records of the same class do."""
    made.prepare(*case.records())
    label = torch.zeros(6, dtype=torch.long)
    first = case.sample(made, label).values
    require(not torch.equal(case.sample(made, label, 6).values, first), "another seed must make other records")
    if case.item.classes == 1:
        raise NotApplicable("there is one class")
    require(not torch.equal(case.sample(made, label + 1).values, first), "another class must make other records")


def repeats_by_seed(case: GeneratorCase, made: GenerativeAugmenter) -> None:
    """Every draw is of the generator that is given: training and records are the same to the bit, whatever the others."""
    label = torch.arange(7) % case.item.classes
    pair = [made, case.build()]
    found = []
    for place, one in enumerate(pair):
        kept = torch.get_rng_state(), np.random.get_state(), random.getstate()
        try:
            torch.manual_seed(100 + place)
            np.random.seed(100 + place)
            random.seed(100 + place)
            before = _global_randomness()
            one.prepare(*case.records())
            case.train(one)
            found.append(case.sample(one, label))
            require(
                _global_randomness() == before,
                "every draw must be of the generator that is given, but one is of torch, numpy or random",
            )
        finally:
            torch.set_rng_state(kept[0])
            np.random.set_state(kept[1])
            random.setstate(kept[2])
    _same(pair[0].state_dict(), pair[1].state_dict(), "two trainings from one seed must agree")
    require(
        all(torch.equal(first, second) for first, second in zip(*found, strict=True)), "one seed must make one record"
    )


def sampling_changes_nothing(case: GeneratorCase, made: GenerativeAugmenter) -> None:
    """Making records moves no state, keeps the mode, and gives the same in either mode."""
    made.prepare(*case.records())
    case.train(made)
    before = {name: value.clone() for name, value in made.state_dict().items()}
    label = torch.arange(7) % case.item.classes
    first = case.sample(made.train(), label)
    require(made.training, "sampling must leave the mode as it was, but training has become evaluation")
    modes = [part.training for part in made.modules()]
    require(all(modes), "sampling must leave the mode of every part as it was")
    second = case.sample(made.eval(), label)
    require(torch.equal(first.values, second.values), "records must be the same in training and evaluation mode")
    _same(made.state_dict(), before, "sampling must move no state")


def state_is_whole(case: GeneratorCase, made: GenerativeAugmenter) -> None:
    """What was trained is restored from its state to the bit, by one that knows no record; training goes on alike."""
    made.prepare(*case.records())
    case.train(made)
    other = case.build(seed=1)
    if made.keeps_records:
        other.prepare(*case.records())
    other.load_state_dict({name: value.clone() for name, value in made.state_dict().items()})
    label = torch.arange(7) % case.item.classes
    first, second = (case.sample(one, label).values for one in (made, other))
    require(torch.equal(first, second), "a restored augmenter must make the same records")
    for one in (made, other):
        case.train(one, seed=3)
    _same(other.state_dict(), made.state_dict(), "a restored augmenter must go on alike")
    more = case.build()
    more.prepare(*case.records(2 * ROWS))
    shapes = [{name: value.shape for name, value in one.state_dict().items()} for one in (made, more)]
    require(shapes[0] == shapes[1], "the shapes of what is saved must not depend on the number of training records")


CHECKS = {
    standardises: (),
    declares_turns: (),
    gives_losses: ("declares_turns",),
    gradients_stay_home: ("gives_losses",),
    leaves_batches_untouched: ("gives_losses",),
    odd_batches: ("gives_losses",),
    learns: ("gradients_stay_home",),
    makes_what_is_wanted: (),
    none_and_one: ("makes_what_is_wanted",),
    heeds_classes: ("makes_what_is_wanted",),
    repeats_by_seed: ("makes_what_is_wanted",),
    sampling_changes_nothing: ("makes_what_is_wanted",),
    state_is_whole: ("repeats_by_seed",),
}


def _global_randomness() -> tuple[bytes, str, str]:
    """The states of everybody's generators of random numbers."""
    return torch.get_rng_state().numpy().tobytes(), repr(np.random.get_state()), repr(random.getstate())


def _turns(made: GenerativeAugmenter) -> list[Turn]:
    turns = list(made.turns())
    if not turns:
        raise NotApplicable("nothing is trained")
    return turns


def _owned(made: GenerativeAugmenter) -> set[int]:
    return {id(p) for turn in made.turns() for p in turn.parameters}


def _loss(
    made: GenerativeAugmenter, turn: Turn, values: Tensor, label: Tensor, seed: int = 0
) -> tuple[Tensor, Mapping[str, Tensor]]:
    return turn.loss(made.standardise(values), label, torch.Generator().manual_seed(seed))


def _sound(case: GeneratorCase, found: Made, wanted: Tensor) -> None:
    values, label, share = found
    count = len(values)
    require(
        values.shape == (count, *case.item.shape),
        f"records must have the shape {tuple(case.item.shape)}, but are {tuple(values.shape)}",
    )
    require(values.dtype == torch.float32, f"records must be float32, but are {values.dtype}")
    require(bool(values.isfinite().all()), "records must be finite")
    require(not (values.requires_grad or share.requires_grad), "records must come without gradients")
    require(
        label.shape == share.shape == (count,) and label.dtype == torch.long and share.dtype == torch.float32,
        f"a record must have a class and a share, but they are {tuple(label.shape)} and {tuple(share.shape)}",
    )
    require(
        count >= len(wanted) and torch.equal(label[: len(wanted)], wanted),
        f"the wanted classes must come first and in order: {wanted.tolist()}, but got {label.tolist()}",
    )
    inside = bool(((label >= 0) & (label < case.item.classes) & (share >= 0) & (share <= 1)).all())
    require(inside, "classes must be known, and shares between 0 and 1")
    require(case.cls.mixes or bool((share == 1).all()), "shares must be 1 unless the kind says that it mixes")
    total = float(share.sum())
    require(
        abs(total - len(wanted)) < 1e-4, f"shares must add up to the records wanted, {len(wanted)}, but are {total:g}"
    )
    for name, part in (("records", values), ("classes", label), ("shares", share)):
        require(
            part.device == torch.device("cpu"), f"{name} must be on the augmenter's device, but are on {part.device}"
        )


def _same(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], rule: str) -> None:
    differ = {name for name in wanted if name not in found or not torch.equal(found[name], wanted[name])}
    require(
        not differ and set(found) == set(wanted), f"{rule}, but {sorted(differ | (set(found) ^ set(wanted)))} differs"
    )
