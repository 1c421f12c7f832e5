"""How a study is split, in the words of a recipe."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

PARTS = ("train", "validation", "test")
CALIBRATION = "calibration"
"""A part that most splits do without."""
Kind = Literal[
    "holdout",
    "k_fold",
    "leave_one_out",
    "leave_one_subject_out",
    "cross_session",
    "seed_9_6",
    "seed_v_3_fold",
    "within_subject",
    "fixed",
    "column",
]
Per = Literal["session", "subject", "all"]
Fraction = Annotated[float, Field(gt=0, lt=1)]
Names = Annotated[list[str], Field(min_length=1)]

FRACTIONS: Mapping[str, Mapping[str, float]] = {
    "holdout": {"test": 0.2, "validation": 0.2},
    "k_fold": {"validation": 0.2},
    "leave_one_out": {"validation": 0.2},
    "leave_one_subject_out": {"validation": 0.2},
    "cross_session": {"validation": 0.2},
    "seed_9_6": {"validation": 0.2},
    "seed_v_3_fold": {"validation": 0.2},
    "fixed": {"validation": 0.2},
    "within_subject": {"train": 0.6, "validation": 0.2},
    "column": {"validation": 0.2},
}
LISTS: Mapping[str, tuple[str, ...]] = {"fixed": PARTS, "column": PARTS}
PER: Mapping[str, tuple[Per, ...]] = {
    "cross_session": ("subject", "all"),
    "seed_9_6": ("session", "subject", "all"),
    "seed_v_3_fold": ("subject", "session", "all"),
}
"""What a model may be trained for, the default first, where a protocol goes by sessions."""
BY: Mapping[str, str] = {"leave_one_subject_out": "subject", "seed_9_6": "trial", "seed_v_3_fold": "trial"}
"""What a protocol keeps whole where it leaves no choice."""


class SplitOptions(BaseModel):
    """How to split. A part is given as a fraction of the groups or as a list of names, as the kind asks.

    `holdout` tests on a fraction of the groups, `k_fold` on each of ``folds`` shares of them in turn,
    `leave_one_out` on each group alone, `leave_one_subject_out` on each subject alone, `fixed` on the groups listed
    under ``test``. `within_subject` orders the groups of every subject (trials, if not said otherwise) by
    appearance: the first ``train`` of them train, the last of these validate, the rest test. `column` reads the part
    from a column of the table.

    `cross_session` tests each session of a subject in turn on what was trained on its others, ``per`` subject (a fold
    for every subject and session) or over all (a fold for the first sessions of all subjects, one for the second ...).
    `seed_9_6` is the protocol of SEED: of every session, trials 1 to 9 train and 10 to 15 test, with a model per
    session of a subject as the literature reports it, per subject, or one for all. `seed_v_3_fold` is that of SEED-V:
    of every session, trials 1 to 5, then 6 to 10, then 11 to 15 test, the others train, with a model per subject,
    session, or for all. Sessions go by the natural order of their names, trials by their numbers; records that a fold
    has no use for (other subjects) are in none of its parts.

    Validation groups are always cut from the training groups, unless they are listed: by trial where the protocol
    goes by sessions, which is the whole session where trials have no names. Where a fold has one training group alone
    (two subjects, each tested on the other), validation is cut from within it: by session, else by trial, else by
    recording, whichever first gives two whole parts. The report says so.

    ``calibration`` puts a fraction of the training groups aside, at least one and after validation has been cut: the
    model does not train on them, early stopping does not see them, nothing is tested on them. What is fitted to the
    answers of a trained model (a temperature, the size of conformal sets) is fitted there.

    Reference:
        Zheng and Lu, IEEE Transactions on Autonomous Mental Development 7(3), 2015 (SEED); Liu, Qiu, Zheng and Lu,
        IEEE Transactions on Cognitive and Developmental Systems 14(2), 2022 (SEED-V).
    """

    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True)

    kind: Annotated[Kind, Field(description="the scheme")]
    by: Annotated[
        str,
        Field(description="what is kept whole: subject, session, trial, recording, record, or a column of the table"),
    ] = "subject"
    per: Annotated[
        Per | None, Field(description="cross_session, seed_9_6, seed_v_3_fold: what gets a model of its own")
    ] = None
    folds: Annotated[int | None, Field(ge=2, description="k_fold: how many folds")] = None
    train: Annotated[
        Fraction | Names | None,
        Field(description="within_subject: fraction of the groups; fixed, column: names (default: all that remain)"),
    ] = None
    validation: Annotated[
        Fraction | Names | None,
        Field(description="fraction of the training groups; or names (fixed, column)"),
    ] = None
    test: Annotated[
        Fraction | Names | None, Field(description="holdout: fraction of the groups; fixed, column: names")
    ] = None
    calibration: Annotated[
        Fraction | None,
        Field(description="fraction of the training groups put aside for calibration; nothing trains or stops by them"),
    ] = None
    column: Annotated[str | None, Field(description="column: the column that holds the parts' names")] = None
    seed: Annotated[int | None, Field(ge=0, description="of the shuffling; default: the recipe's seed")] = None

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, given: Any) -> Any:
        """What is not given takes its kind's default, so that a resolved recipe shows it."""
        if not isinstance(given, Mapping):
            return given
        kind = str(given.get("kind"))
        filled = {name: value for name, value in given.items() if value is not None}
        if kind in ("within_subject", *PER):
            filled.setdefault("by", "trial")
        if kind in PER:
            filled.setdefault("per", PER[kind][0])
        if kind == "k_fold":
            filled.setdefault("folds", 5)
        for part, fraction in FRACTIONS.get(kind, {}).items():
            filled.setdefault(part, fraction)
        return filled

    @model_validator(mode="after")
    def _fits_the_kind(self) -> "SplitOptions":
        for name in ("folds", "column"):
            wanted = {"folds": "k_fold", "column": "column"}[name]
            if (getattr(self, name) is not None) != (self.kind == wanted):
                verb = "needs" if self.kind == wanted else "takes no"
                raise _refusal(f"a {self.kind} split {verb} {name}")
        for part in PARTS:
            value, forms = getattr(self, part), []
            if part in FRACTIONS[self.kind]:
                forms.append("a fraction")
            if part in LISTS.get(self.kind, ()):
                forms.append("a list of names")
            form = "a list of names" if isinstance(value, list) else "a fraction"
            if value is None and part == "test" and forms:
                raise _refusal(f"a {self.kind} split needs test: {' or '.join(forms)}")
            if value is not None and form not in forms:
                wanted = f"takes {part} as {' or '.join(forms)}, but got" if forms else f"takes no {part}, but got"
                raise _refusal(f"a {self.kind} split {wanted} {value!r}")
        if self.per is not None and self.per not in PER.get(self.kind, ()):
            wanted = " or ".join(PER[self.kind]) if self.kind in PER else ""
            raise _refusal(
                f"a {self.kind} split takes {f'per {wanted}, but got' if wanted else 'no per, but got'} {self.per!r}"
            )
        listed = [(name, part) for part in PARTS for name in self.listed(part)]
        for index, (name, part) in enumerate(listed):
            for earlier, other in listed[:index]:
                if earlier == name:
                    raise _refusal(f"a name may be listed once, but {name!r} is in {other} and in {part}")
        if self.kind in ("within_subject", "cross_session") and self.by == "subject":
            raise _refusal(f"a {self.kind} split divides a subject's groups, but by is 'subject'; try 'trial'")
        if self.by != BY.get(self.kind, self.by):
            raise _refusal(f"a {self.kind} split goes by {BY[self.kind]}, but by is {self.by!r}")
        return self

    def listed(self, part: str) -> list[str]:
        """The names listed for a part; none where it is a fraction."""
        value = getattr(self, part)
        return value if isinstance(value, list) else []


def _refusal(message: str) -> PydanticCustomError:
    return PydanticCustomError("split", "{message}", {"message": message})
