"""What every loss is: one number per record, so that tasks can mask and weigh before anything is summed."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from jaxtyping import Float
from pydantic import AfterValidator
from torch import Tensor, nn

from fusionkit.core.errors import ConfigError, UnknownNameError
from fusionkit.core.registry import check_options, losses

Taken = Literal["class", "labels", "value"]


class Loss(nn.Module, ABC):
    """Score every record of a batch. Its keyword-only arguments are its recipe options.

    A task hands over records whose label is known and puts zeros in place of the others, so a loss never
    sees NaN. ``takes`` says of which form the decision is: ``class`` is normalised log-probabilities
    ``(batch, class)`` with a target index per record, ``labels`` is ``(batch, label, 2)`` (no, yes) with a 0/1
    row per record, ``value`` is ``(batch,)`` with a number per record.
    """

    kind: ClassVar[str]
    takes: ClassVar[Taken]

    @abstractmethod
    def forward(self, decision: Tensor, target: Tensor, weights: Tensor | None = None) -> Float[Tensor, " batch"]:
        """One number per record, weighted but not reduced.

        Args:
            decision: what a head answers, in the form that ``takes`` says.
            target: int64 for classes and labels, the decision's dtype for values.
            weights: one per class ``(class,)`` or per label and outcome ``(label, 2)``; never for values.
        """


def chosen(takes: Taken) -> AfterValidator:
    """A check for a signature: ``loss: Annotated[str | dict[str, Any], chosen("value")]``.

    A recipe's mistake in a task's loss is then found with the task's other options, before anything is built.
    """

    def check(choice: str | dict[str, Any]) -> str | dict[str, Any]:
        try:
            _check(choice, takes)
        except UnknownNameError as error:  # pydantic takes a ValueError, not a KeyError, for a finding
            raise ConfigError(str(error)) from None
        return choice

    return AfterValidator(check)


def make_loss(choice: str | Mapping[str, Any], takes: Taken, **defaults: Any) -> Loss:
    """Build the loss that a recipe chose for a task.

    Args:
        choice: a kind, or ``{kind: ..., option: ...}``.
        takes: the form of the task's decisions.
        defaults: options that the task gives unless the choice says otherwise.

    Raises:
        ConfigError: the loss takes decisions of another form, or an option is wrong.
        UnknownNameError: no loss has that kind.
    """
    kind, options = _check(choice, takes)
    built: Loss = losses.build(kind, {**defaults, **options})
    return built


def _check(choice: str | Mapping[str, Any], takes: Taken) -> tuple[str, dict[str, Any]]:
    options = {"kind": choice} if isinstance(choice, str) else dict(choice)
    fitting = [name for name in losses.kinds() if losses.get(name).takes == takes]
    kind = options.pop("kind", None)
    if not isinstance(kind, str):
        raise ConfigError(f"a loss must say its kind, one of {fitting}, but got {choice!r}")
    if losses.get(kind).takes != takes:
        raise ConfigError(f"a loss here must take a decision of form {takes!r}, one of {fitting}, but got {kind!r}")
    check_options(losses.get(kind), options, f"losses.{kind}")
    return kind, options
