"""Which of the made inputs a component takes."""

from collections.abc import Iterable
from typing import Any, Protocol, TypeVar

from fusionkit.core.errors import ConfigError, FusionkitError


class Buildable(Protocol):
    """A component with made inputs, by a label."""

    label: str

    def build(self) -> Any:
        """The component; an error refuses these inputs."""


One = TypeVar("One", bound=Buildable)


def sort_cases(
    cases: Iterable[One], name: str, rule: str, *, refusal: type[FusionkitError] = ConfigError
) -> tuple[list[One], dict[str, str]]:
    """The cases that a component takes, and by the label of every other one why it is refused.

    Args:
        cases: all there are.
        name: of the component.
        rule: what it must do with one of them at least.
        refusal: the errors that refuse inputs; any other is a defect and gets through.

    Raises:
        ConfigError: it takes none.
    """
    taken: list[One] = []
    refused: dict[str, str] = {}
    for case in cases:
        try:
            case.build()
        except refusal as error:
            refused[case.label] = str(error)
        else:
            taken.append(case)
    if not taken:
        why = "; ".join(f"{label}: {reason}" for label, reason in refused.items())
        raise ConfigError(f"{name} must {rule}, but refuses all: {why}")
    return taken, refused
