"""How often does a comparison find a winner where there is none? The test that decides, and those shown beside it."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from fusionkit.evaluation.statistics.null_study import DECIDES, TESTS, Design, false_positives, usual_designs

BESIDE = Design(strategies=6, subjects=12, folds=4, seeds=3)
SHARED = {  # what the trainings of a fold share
    "nothing": (0.0, 0.0),
    "luck 0.02": (0.02, 0.0),
    "luck 0.04": (0.04, 0.0),
    "luck 0.04, training set 0.02": (0.04, 0.02),
}


@dataclass(frozen=True)
class Level:
    """One test on null studies of one design.

    Attributes:
        test: its name.
        design: where scores come from.
        wrong: share of studies in which any pair is said to differ.
    """

    test: str
    design: Design
    wrong: float


def bench_levels(studies: int = 2000, seed: int = 0) -> Iterator[Level]:
    """The test that decides, on every usual design.

    Args:
        studies: of each design.
        seed: the same seed makes the same studies.
    """
    for design in usual_designs():
        yield Level(DECIDES, design, false_positives(TESTS[DECIDES], design, studies=studies, seed=seed))


def bench_others(studies: int = 2000, seed: int = 0) -> Iterator[Level]:
    """Every test of a comparison, by what the trainings of a fold share: those over subjects alone do not know of it.

    Args:
        studies: of each design.
        seed: as `bench_levels`.
    """
    for name, decide in TESTS.items():
        for luck, bias in SHARED.values():
            design = replace(BESIDE, luck=luck, bias=bias)
            yield Level(name, design, false_positives(decide, design, studies=studies, seed=seed))
