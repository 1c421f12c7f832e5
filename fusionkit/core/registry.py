"""Components by short name: a class in one file, whose signature is its recipe schema."""

import importlib
import inspect
import pkgutil
import traceback
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from typing import Any, TypeVar, get_args, get_type_hints

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from fusionkit.core.errors import ConfigError, UnknownNameError, did_you_mean, located

Component = TypeVar("Component", bound=type)


class Registry:
    """One family of components (``fusion``, ``encoders`` ...).

    Built-in components are found by importing the modules of ``package`` on first use, sensors by the names
    in ``built_in`` (they lie outside the package), third parties through the entry-point group
    ``fusionkit.<family>`` or a module that a recipe lists under ``plugins``.

    Args:
        family: the name of the family, as in ``explain fusion.rcft``.
        package: the package whose modules register components when imported.
        built_in: kinds and their ``module:Class`` where no package is walked.
    """

    def __init__(self, family: str, package: str | None = None, built_in: Mapping[str, str] | None = None) -> None:
        self.family = family
        self._package = package
        self._targets = dict(built_in or {})
        self._classes: dict[str, type] = {}
        self._loaded = False

    def register(self, kind: str) -> Callable[[Component], Component]:
        """Decorate a class to make it known as ``kind``.

        Raises:
            ConfigError: another class has that kind already.
        """

        def add(cls: Component) -> Component:
            known = self._classes.get(kind)
            if known is not None and (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
                raise ConfigError(
                    f"{self.family}: two components may not share a kind, but {kind!r} is both "
                    f"{known.__module__}:{known.__qualname__} and {cls.__module__}:{cls.__qualname__}"
                )
            self._classes[kind] = cls
            cls.kind = kind  # type: ignore[attr-defined]
            return cls

        return add

    def kinds(self) -> list[str]:
        """Every known kind, sorted."""
        self._load()
        return sorted({*self._classes, *self._targets})

    def get(self, kind: str) -> type[Any]:
        """The class behind ``kind``.

        Raises:
            UnknownNameError: no component has that kind.
        """
        self._load()
        if kind not in self._classes and kind in self._targets:
            module, _, name = self._targets[kind].partition(":")
            cls = getattr(importlib.import_module(module), name)
            self._classes.setdefault(kind, cls)
        if kind not in self._classes:
            raise UnknownNameError(f"{self.family} component", kind, self.kinds())
        return self._classes[kind]

    def schema(self, kind: str) -> type[BaseModel]:
        """The pydantic model of a component's options: its keyword-only parameters, nothing else."""
        return options_model(self.get(kind))

    def build(self, kind: str, options: Mapping[str, Any] | None = None, *given: Any) -> Any:
        """Check ``options`` against the schema and make the component.

        Args:
            kind: which component.
            options: what the recipe says.
            given: positional arguments that the builder knows (input widths, ``dim``).

        Raises:
            ConfigError: an option is unknown or breaks its bounds.
            UnknownNameError: no component has that kind.
        """
        cls = self.get(kind)
        return cls(*given, **check_options(cls, options or {}, f"{self.family}.{kind}"))

    def _load(self) -> None:
        if self._loaded:
            return
        self._loaded = True
        if self._package is not None:
            package = importlib.import_module(self._package)
            for module in pkgutil.iter_modules(package.__path__):
                importlib.import_module(f"{self._package}.{module.name}")
        for point in entry_points(group=f"fusionkit.{self.family}"):
            known = self._targets.get(point.name)
            if known is not None and known != point.value:
                raise ConfigError(
                    f"{self.family}: two components may not share a kind, but {point.name!r} is both "
                    f"{known} and {point.value}"
                )
            self._targets[point.name] = point.value


def options_model(cls: type) -> type[BaseModel]:
    """Derive a pydantic model from the keyword-only parameters of ``cls.__init__``."""
    hints = get_type_hints(cls.__init__, include_extras=True)  # type: ignore[misc]
    fields: dict[str, Any] = {}
    for name, parameter in inspect.signature(cls).parameters.items():
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY:
            default = ... if parameter.default is inspect.Parameter.empty else parameter.default
            fields[name] = (hints[name], default)
    config = ConfigDict(extra="forbid", strict=False, arbitrary_types_allowed=True, protected_namespaces=())
    return create_model(cls.__name__, __config__=config, **fields)


def check_options(cls: type, options: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Check options by themselves; what the signature's defaults fill in is not returned.

    Raises:
        ConfigError: the first option that is unknown or breaks its bounds, with the nearest known name.
    """
    model = options_model(cls)
    try:
        checked = model(**options)
    except ValidationError as error:
        raise ConfigError("; ".join(option_errors(model, error, where))) from None
    return {name: getattr(checked, name) for name in checked.model_fields_set}


def option_errors(model: type[BaseModel], error: ValidationError, where: str) -> list[str]:
    """Pydantic's findings in our words, with their place: ``fusion.slot: no such option; did you mean 'slots'?``."""
    lines = []
    for place, message in option_problems(model, error):
        lines.append(f"{'.'.join([where, *map(str, place)]).strip('.')}: {message}")
    return lines


def option_problems(
    model: type[BaseModel], error: ValidationError, given: Mapping[str, Any] | None = None
) -> list[tuple[tuple[str | int, ...], str]]:
    """Pydantic's findings in our words, each with the path of the option below ``model``.

    Where an option may be of several types, its findings are joined into one; ``given``, what was validated, tells
    the names of those types from names in the recipe.
    """
    problems: dict[tuple[str | int, ...], str] = {}
    for finding in error.errors():
        place, got = finding["loc"], finding["input"]
        end = 1 if finding["type"] in ("extra_forbidden", "missing") else 0
        path = place if given is None else (*_given_path(place[: len(place) - end], given), *place[len(place) - end :])
        if finding["type"] == "extra_forbidden":
            known = sorted(field.alias or name for name, field in _model_at(model, place[:-1]).model_fields.items())
            message = f"no such option{did_you_mean(str(place[-1]), known)}; known: {known}"
        elif finding["type"] == "missing":
            message = "must be given"
        elif finding["type"] == "union_tag_not_found":
            path, message, got = (*path, finding["ctx"]["discriminator"].strip("'")), "must be given, too", {}
        else:
            message = finding["msg"].removeprefix("Value error, ")
            message = message[0].lower() + message[1:]
        if path in problems:
            message = f"{problems[path].rpartition(', got ')[0] or problems[path]}, or {message}"
        if end == 0 and " got " not in message and not isinstance(got, Mapping | BaseModel):
            message += f", got {got!r}"
        problems[path] = message
    return list(problems.items())


def _given_path(place: tuple[str | int, ...], given: Any) -> tuple[str | int, ...]:
    """The parts of ``place`` that are in ``given``; the others are names that pydantic gives to types."""
    path: list[str | int] = []
    for part in place:
        inside = given.get(part) if isinstance(given, Mapping) else None
        if isinstance(given, list | tuple) and isinstance(part, int) and part < len(given):
            inside = given[part]
        if inside is not None or (isinstance(given, Mapping) and part in given):
            path.append(part)
            given = inside
    return tuple(path)


def _model_at(model: type[BaseModel], place: tuple[str | int, ...]) -> type[BaseModel]:
    """The model that stands at ``place`` below ``model``; the nearest above it where that cannot be told."""
    here: Any = model
    choices: list[Any] = []
    for part in place:
        fields = {field.alias or name: field for name, field in here.model_fields.items()}
        tagged = [
            it for it in choices if part == it.__name__ or any(part == _tag(it, name) for name in it.model_fields)
        ]
        if tagged:
            here = tagged[0]
        elif part in fields:
            annotation = fields[str(part)].annotation
            inside = [annotation, *get_args(annotation)]
            choices = [it for it in inside if isinstance(it, type) and issubclass(it, BaseModel)]
            here = choices[0] if choices else here
    return here  # type: ignore[no-any-return]


def _tag(model: type[BaseModel], name: str) -> Any:
    """The one value that a field may have, or None."""
    values = get_args(model.model_fields[name].annotation)
    return values[0] if len(values) == 1 else None


def import_plugins(plugins: list[str]) -> None:
    """Import the modules that a recipe lists under ``plugins``; importing registers.

    Raises:
        ConfigError: a module is not to be found, or fails.
    """
    for name in plugins:
        with located("plugins"):
            import_plugin(name)


def import_plugin(name: str) -> None:
    """Import one module; whatever goes wrong in it is told in a line, with its place.

    Raises:
        ConfigError: it is not to be found, or fails.
    """
    try:
        importlib.import_module(name)
    except Exception as error:  # a plugin may raise anything
        ours = ("<frozen", importlib.__file__, __file__)
        theirs = [place for place in traceback.extract_tb(error.__traceback__) if not place.filename.startswith(ours)]
        where = f" ({theirs[-1].filename}:{theirs[-1].lineno})" if theirs else ""
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ConfigError(f"a plugin must be a module that imports, but {name}: {reason}{where}") from error


modalities = Registry(
    "modalities",
    built_in={
        "audio": "fusionkit.modalities.audio:Audio",
        "eeg": "fusionkit.modalities.eeg:EEG",
        "image": "fusionkit.modalities.image:Image",
        "signal": "fusionkit.modalities.signal:Signal",
        "text": "fusionkit.modalities.text:Text",
    },
)
fusion = Registry("fusion", "fusionkit.fusion")
encoders = Registry("encoders", "fusionkit.encoders")
heads = Registry("heads", "fusionkit.heads")
losses = Registry("losses", "fusionkit.losses")
balancing = Registry("balancing", "fusionkit.losses.balancing")
surgery = Registry("surgery", "fusionkit.losses.balancing")
augment = Registry("augment", "fusionkit.augment")
generators = Registry("generators", "fusionkit.augment.generative")
objectives = Registry("objectives", "fusionkit.pretraining")
consistency = Registry("consistency", "fusionkit.pretraining.consistency")
buffers = Registry("buffers", "fusionkit.pretraining.replay")
sources = Registry("sources", "fusionkit.data.sources")
families: dict[str, Registry] = {
    registry.family: registry
    for registry in (
        modalities,
        fusion,
        encoders,
        heads,
        losses,
        balancing,
        surgery,
        augment,
        generators,
        objectives,
        consistency,
        buffers,
        sources,
    )
}
