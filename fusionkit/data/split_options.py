"""How a study is split, in the words of a recipe."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

PARTS = ("train", "validation", "test")
Kind = Literal["holdout", "k_fold", "leave_one_out", "fixed", "within_subject", "column"]
Fraction = Annotated[float, Field(gt=0, lt=1)]
Names = Annotated[list[str], Field(min_length=1)]

FRACTIONS: Mapping[str, Mapping[str, float]] = {
    "holdout": {"test": 0.2, "validation": 0.2},
    "k_fold": {"validation": 0.2},
    "leave_one_out": {"validation": 0.2},
    "fixed": {"validation": 0.2},
    "within_subject": {"train": 0.6, "validation": 0.2},
    "column": {"validation": 0.2},
}
LISTS: Mapping[str, tuple[str, ...]] = {"fixed": PARTS, "column": PARTS}


class SplitOptions(BaseModel):
    """How to split. A part is given as a fraction of the groups or as a list of names, as the kind asks.

    `holdout` tests on a fraction of the groups, `k_fold` on each of ``folds`` shares of them in turn,
    `leave_one_out` on each group alone, `fixed` on the groups listed under ``test``. `within_subject` orders the
    groups of every subject (trials, if not said otherwise) by appearance: the first ``train`` of them train, the
    last of these validate, the rest test. `column` reads the part from a column of the table. Validation groups
    are always cut from the training groups, unless they are listed.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True)

    kind: Annotated[Kind, Field(description="the scheme")]
    by: Annotated[
        str,
        Field(description="what is kept whole: subject, session, trial, recording, record, or a column of the table"),
    ] = "subject"
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
        if kind == "within_subject":
            filled.setdefault("by", "trial")
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
        listed = [(name, part) for part in PARTS for name in self.listed(part)]
        for index, (name, part) in enumerate(listed):
            for earlier, other in listed[:index]:
                if earlier == name:
                    raise _refusal(f"a name may be listed once, but {name!r} is in {other} and in {part}")
        if self.kind == "within_subject" and self.by == "subject":
            raise _refusal("a within_subject split divides a subject's groups, but by is 'subject'; try 'trial'")
        return self

    def listed(self, part: str) -> list[str]:
        """The names listed for a part; none where it is a fraction."""
        value = getattr(self, part)
        return value if isinstance(value, list) else []


def _refusal(message: str) -> PydanticCustomError:
    return PydanticCustomError("split", "{message}", {"message": message})
