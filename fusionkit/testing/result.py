"""What a check says, and the error that names those that fail."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Outcome = Literal["passed", "exempt", "skipped", "failed"]


@dataclass(frozen=True)
class CheckResult:
    """One check of one component.

    Attributes:
        name: the check's function.
        outcome: ``exempt`` where the component declares that its definition breaks the check; ``skipped`` where the check does
            not apply, or a check it rests on failed.
        detail: the numbers of a failure, the reason of an exemption or a skip.
        case: which of the component's made inputs.
        idle: parameters that training did not reach.
    """

    name: str
    outcome: Outcome
    detail: str = ""
    case: str = ""
    idle: tuple[str, ...] = ()

    def __str__(self) -> str:
        place = f" ({self.case})" if self.case else ""
        return f"{self.name}{place}: {self.detail or self.outcome}"


class CheckFailed(AssertionError):
    """Raised inside a check; the message says the rule, then the numbers."""


class IdleParameters(CheckFailed):
    """Training does not reach some parameters.

    Args:
        idle: their names.
        message: the rule, then the names.
    """

    def __init__(self, idle: Sequence[str], message: str) -> None:
        super().__init__(message)
        self.idle = tuple(idle)


class NotApplicable(Exception):
    """Raised inside a check that says nothing about this component; the message says why."""


class ConformanceError(AssertionError):
    """A component breaks its contract.

    Attributes:
        component: its name.
        results: every check's result, the passed ones too.
    """

    def __init__(self, component: str, results: Sequence[CheckResult]) -> None:
        self.component = component
        self.results = list(results)
        super().__init__("\n".join(f"{component}: {failure}" for failure in self.failed))

    @property
    def failed(self) -> list[CheckResult]:
        """The results that failed."""
        return [result for result in self.results if result.outcome == "failed"]

    @property
    def checks(self) -> set[str]:
        """Names of the checks that failed."""
        return {result.name for result in self.failed}


def require(rule: bool, message: str) -> None:
    """Fail the check that is running unless ``rule`` holds.

    Raises:
        CheckFailed: it does not.
    """
    if not rule:
        raise CheckFailed(message)
