"""How many records of each class are made, and which of them are kept."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from fusionkit.augment.generative.generator import GenerativeAugmenter, Made
from fusionkit.core.errors import DataError
from fusionkit.evaluation.classifiers.examples import Probabilities


class Chosen(NamedTuple):
    """Records that are appended; ``confidence`` is NaN where nobody judged. By class, how many were wanted and made."""

    made: Made
    confidence: Float[Tensor, " record"]
    wanted: list[int]
    tried: list[int]

    @property
    def kept(self) -> list[int]:
        """By class, how many there are."""
        return torch.bincount(self.made.label, minlength=len(self.wanted)).tolist()


def wanted_records(counts: Sequence[int], add: float) -> list[int]:
    """How many records of each class make ``add`` times as many in all, with the same shares.

    Rounded by largest remainder: of 3 and 5 records, 1.5 times as many (12) are 5 and 7.
    """
    exact = [add * count for count in counts]
    wanted = [int(one) for one in exact]
    order = sorted(range(len(exact)), key=lambda place: wanted[place] - exact[place])
    for place in order[: round(sum(exact)) - sum(wanted)]:
        wanted[place] += 1
    return wanted


def make_all(generator: GenerativeAugmenter, wanted: Sequence[int], random: torch.Generator) -> Chosen:
    """Full usage: append all that is made.

    Raises:
        DataError: a record is not finite.
    """
    made = _sample(generator, wanted, random)
    return Chosen(made, torch.full_like(made.share, torch.nan), list(wanted), list(wanted))


def make_sure(
    generator: GenerativeAugmenter,
    wanted: Sequence[int],
    random: torch.Generator,
    *,
    classify: Probabilities,
    min_confidence: float,
    candidates: int,
) -> Chosen:
    """Selective usage: append records whose class a classifier is sure of, with the shares of classes that are wanted.

    As many candidates as are wanted are made of each class, again for classes that lack some, up to ``candidates`` times.
    Where a class lacks some in the end, all classes get as much less, for else the classifier's doubts would change how
    frequent classes are: of 8 and 4 that are wanted, 8 and 1 that are sure are kept as 2 and 1, the surest. The papers name
    the idea; that candidates come in rounds is a reconstruction of ours.

    Args:
        generator: makes candidates.
        wanted: of each class.
        random: what they are made of.
        classify: of values, made flat; trained on real records.
        min_confidence: least probability of the wanted class, which must be the most probable.
        candidates: most rounds.

    Raises:
        DataError: a record is not finite.

    Reference:
        Luo, Zhu, Wan, Lu, J. Neural Eng. 17 056021, 2020 (sVAE, sWGAN).
    """
    kept: list[tuple[Made, Tensor]] = []
    lacking, tried = list(wanted), [0] * len(wanted)
    for turn in range(candidates):
        round_ = [count if lack else 0 for count, lack in zip(wanted, lacking, strict=True)]
        if turn and not any(round_):
            break
        made = _sample(generator, round_, random)
        probable = classify(made.values.flatten(1))
        confidence = probable.gather(1, made.label[:, None])[:, 0]
        sure = (confidence >= min_confidence) & (probable.argmax(1) == made.label)
        rows = confidence.masked_fill(~sure, -1).argsort(descending=True, stable=True)[: int(sure.sum())]
        first = torch.cat([rows[made.label[rows] == one][:lack] for one, lack in enumerate(lacking)])
        kept.append((Made(*(part[first] for part in made)), confidence[first]))
        for one, count in enumerate(torch.bincount(made.label[first], minlength=len(wanted)).tolist()):
            lacking[one] -= count
            tried[one] += round_[one]
    made = Made(*(torch.cat(tensors) for tensors in zip(*(one for one, _ in kept), strict=True)))
    confidence = torch.cat([one for _, one in kept])
    rows = _balanced(made.label, confidence, wanted)
    return Chosen(Made(*(part[rows] for part in made)), confidence[rows], list(wanted), tried)


def _balanced(
    label: Int[Tensor, " record"], confidence: Float[Tensor, " record"], wanted: Sequence[int]
) -> Int[Tensor, " kept"]:
    """Rows of the surest records, of every class the share of what is wanted that the scarcest class has; in order."""
    there = torch.bincount(label, minlength=len(wanted)).tolist()
    share = min((count / want for count, want in zip(there, wanted, strict=True) if want), default=0.0)
    surest = confidence.argsort(descending=True, stable=True)
    rows = [surest[label[surest] == one][: int(share * want + 1e-9)] for one, want in enumerate(wanted)]
    return torch.cat(rows).sort().values


def _sample(generator: GenerativeAugmenter, counts: Sequence[int], random: torch.Generator) -> Made:
    device = generator.shift.device
    label: Int[Tensor, " record"] = torch.arange(len(counts), device=device)
    made = generator.sample(label.repeat_interleave(torch.tensor(list(counts), device=device)), random)
    finite = torch.isfinite(made.values).flatten(1).all(1)
    if not bool(finite.all()):
        raise DataError(f"generated records must be finite, but {int((~finite).sum())} of {len(finite)} are not")
    return made
