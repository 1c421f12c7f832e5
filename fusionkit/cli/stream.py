"""`fusionkit stream`: decisions in a closed loop, from LSL streams or from a recording."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from fusionkit.runtime import Session
    from fusionkit.runtime.feed import Feed
    from fusionkit.runtime.stream import Debounce, Stream
    from fusionkit.runtime.stream.smoothing import Smoothing


def stream(
    bundle: Annotated[Path, typer.Argument(help="the bundle")],
    lsl: Annotated[bool, typer.Option("--lsl", help="sensors are LSL streams, and decisions become one")] = False,
    replay: Annotated[
        list[str] | None,
        typer.Option(metavar="FILE", help="feed an XDF file, or SENSOR=FILE of each sensor (may be repeated)"),
    ] = None,
    source: Annotated[
        list[str] | None,
        typer.Option(metavar="SENSOR=NAME", help="which stream a sensor is [default: by its name, then by its type]"),
    ] = None,
    unit: Annotated[
        list[str] | None,
        typer.Option(metavar="SENSOR=UNIT", help="volts, millivolts, microvolts, where a stream does not say"),
    ] = None,
    without: Annotated[list[str] | None, typer.Option("--without", help="unplug this sensor (may be repeated)")] = None,
    wait: Annotated[float, typer.Option(min=0, help="seconds to look for LSL streams, at least 1")] = 10.0,
    outlet: Annotated[
        str | None, typer.Option(help="with --lsl: name of the stream of decisions [default: the bundle's]")
    ] = None,
    speed: Annotated[str, typer.Option(help="of a replay: 1 is real time, max is as fast as it goes")] = "1",
    duration: Annotated[float | None, typer.Option(help="seconds of signal after which to end")] = None,
    log: Annotated[
        Path | None, typer.Option(help="write inputs and decisions to this new XDF file, as they come")
    ] = None,
    step: Annotated[float | None, typer.Option(help="seconds between decisions [default: the bundle's]")] = None,
    late: Annotated[float, typer.Option(min=0, help="seconds that decisions wait for a sensor that lags")] = 0.25,
    smooth: Annotated[
        float | None,
        typer.Option(help="average this many decisions; below 1: the share of the newest in an average that fades"),
    ] = None,
    debounce: Annotated[
        str | None,
        typer.Option(
            metavar="COUNT[,MARGIN[,SECONDS]]", help="decisions in a row that change a label, and by how much"
        ),
    ] = None,
    calibrated: Annotated[
        bool, typer.Option("--calibrated", help="probabilities at the temperature of the bundle")
    ] = False,
    wearer: Annotated[
        Path | None, typer.Option(help="start with the calibration of this file; write it there if there is none yet")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="a line a decision instead of the live view")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="a JSON object a decision, each on a line")] = False,
) -> None:
    """Decide at a steady rate from sensors that arrive now, and show it.

    A sensor whose stream breaks is absent until it returns. Ctrl-C ends the loop with a summary. The log grows under
    its own name while the loop runs, so that a kill leaves a file that XDF readers open; replaying it decides alike.

    Example:
        fusionkit stream model.fusion --lsl --log today.xdf
        fusionkit stream model.fusion --lsl --source eeg=actiCHamp --unit eeg=microvolts --without audio
        fusionkit stream model.fusion --replay today.xdf --speed max --json
        fusionkit stream model.fusion --replay eeg=rest.edf --replay audio=rest.wav --speed 20
    """
    import hashlib
    from math import ceil, isfinite

    from fusionkit.cli.output import check_output
    from fusionkit.core.errors import ConfigError
    from fusionkit.runtime import Session
    from fusionkit.runtime.answers import Answers
    from fusionkit.runtime.log import Log
    from fusionkit.runtime.loop import run
    from fusionkit.runtime.stream import Stream
    from fusionkit.runtime.wearer import Wearer
    from fusionkit.runtime.xdf import XdfWriter

    if lsl == bool(replay):
        raise ConfigError("sensors must come from --lsl or from --replay, one of both")
    if outlet is not None and not lsl:
        raise ConfigError(f"--outlet must stand beside --lsl, but got {outlet!r} with --replay")
    for option, number in (("--wait", wait), ("--duration", duration), ("--step", step), ("--late", late)):
        if number is not None and not (isfinite(number) and (number > 0 or option in ("--wait", "--late"))):
            raise ConfigError(f"{option} must be a time in seconds above 0, but got {number:g}")
    check_output(log, "--log")
    check_output(wearer, "--wearer")
    session = Session.load(bundle)
    pairs = {"--source": _pairs("--source", source), "--unit": _pairs("--unit", unit)}
    for option, names in (*pairs.items(), ("--without", without or ())):
        for name in names:
            if name not in session.sensors:
                raise ConfigError(f"{option} must name a sensor of {sorted(session.sensors)}, but got {name!r}")
    told = session.manifest.window
    pace = step or told.step or told.seconds or LONGEST_PAUSE
    decider = Stream(
        session,
        step,
        without=tuple(without or ()),
        late=late,
        smoothing=_smoothing(smooth),
        debounce=_debounce(debounce),
        wearer=Wearer.load(session, wearer) if wearer is not None and wearer.exists() else None,
        calibrated=calibrated,
        max_queue=max(1, ceil(LONGEST_PAUSE / pace)),
    )
    digest = hashlib.sha256(bundle.read_bytes()).hexdigest()
    answers = Answers(session, outlet or session.manifest.name, decider.step, digest)
    common: dict[str, Any] = {"names": pairs["--source"], "units": pairs["--unit"], "without": tuple(without or ())}
    with ExitStack() as stack:
        feed: Feed
        sink = None
        if lsl:
            from fusionkit.runtime.lsl import LslFeed, LslOutlet

            feed = stack.enter_context(LslFeed(session.sensors, wait=wait, **common))
            sink = LslOutlet(answers.description)
        else:
            feed = _replay(session, replay or (), _speed(speed), common)
        writer = None if log is None else stack.enter_context(Log(XdfWriter(log), feed, answers.description))
        title = f"{session.manifest.name}: {'LSL' if lsl else ' '.join(replay or ())}"
        heard = run(decider, feed, answers, outlet=sink, log=writer, duration=duration)
        if wearer is not None and not wearer.exists():
            heard = _keep(heard, decider, wearer)
        _show(heard, title, decider, feed, quiet=quiet, as_json=as_json, log=log)


LONGEST_PAUSE = 2.0
"""Seconds of decisions that are made up for after a pause of the machine; older ones are skipped."""


def _show(
    heard: Any, title: str, decider: "Stream", feed: "Feed", *, quiet: bool, as_json: bool, log: Path | None
) -> None:
    """Follow the loop to its end, and say how it went, whatever ended it."""
    import rich.live

    from fusionkit.cli.live import Live, decision_json, decision_line, summary_lines
    from fusionkit.cli.output import console, json_line
    from fusionkit.runtime.feed import Change

    screen = console()
    classes = {name: task.classes for name, task in decider.session.tasks.items()}
    try:
        if screen.is_terminal and not quiet and not as_json:
            view = Live(title, decider, feed)
            with rich.live.Live(view, console=screen, refresh_per_second=8):
                for one in heard:
                    view.show(one)
        else:
            for note in feed.notes:
                print(json_line({"note": note}) if as_json else note, flush=True)
            for one in heard:
                if isinstance(one, Change):
                    event = {"sensor": one.sensor, "back": one.present, "note": one.note, "time": one.time}
                    print(json_line(event) if as_json else f"{one.sensor}: {one.note}", flush=True)
                elif one is not None and as_json:
                    print(json_line(decision_json(one, classes)), flush=True)
                elif one is not None:
                    print(decision_line(one, decider.start or 0.0), flush=True)
    finally:
        if as_json:
            print(json_line({"summary": decider.health.as_dict()}), flush=True)
        else:
            for line in summary_lines(decider):
                screen.print(line)
            if log is not None:
                screen.print(f"wrote {log}")


def _keep(heard: Any, decider: "Stream", path: Path) -> Any:
    """Save what was taken of the wearer as soon as it is whole; at the end, as far as it goes."""

    def lacks() -> set[str]:
        return {name for name in decider.wearer.lacks if name in decider.tracks}

    lacking, kept = lacks(), False
    try:
        for one in heard:
            if not kept and not lacks():
                kept = True
                _save(decider, path)
            yield one
    finally:
        if not kept and lacks() != lacking:
            _save(decider, path)


def _save(decider: "Stream", path: Path) -> None:
    part = path.with_name(f"{path.name}.part")
    decider.wearer.save(part)
    part.replace(path)


def _replay(session: "Session", words: Sequence[str], speed: float, common: dict[str, Any]) -> "Feed":
    from fusionkit.core.errors import ConfigError
    from fusionkit.runtime.replay import replay_arrays, replay_xdf

    named = [word.partition("=") for word in words]
    given = {name: Path(file) for name, sign, file in named if sign and name in session.sensors}
    if len(given) == len(words):
        for option in ("names", "units"):
            if common[option]:
                raise ConfigError("--source and --unit are for LSL and XDF, but the files of sensors are given")
        chosen = {name: path for name, path in given.items() if name not in common["without"]}
        return replay_arrays({name: _recording(session, name, path) for name, path in chosen.items()}, speed=speed)
    if len(words) > 1:
        wrong = next(word for word, (name, *_) in zip(words, named, strict=True) if name not in given)
        known = sorted(session.sensors)
        raise ConfigError(f"--replay must be one XDF file or SENSOR=FILE with a sensor of {known}, but got {wrong!r}")
    return replay_xdf(Path(words[0]), session.sensors, speed=speed, **common)


def _recording(session: "Session", name: str, path: Path) -> tuple[Any, Any]:
    """One sensor's file, as a stream would deliver it: read by MNE, or as the sensor's own files are."""
    from fusionkit.core.errors import ConfigError, DataError
    from fusionkit.runtime.description import Channel, Description
    from fusionkit.runtime.fit import check_streams, is_text

    sensor = session.sensors[name]
    if is_text(sensor):
        raise ConfigError(f"--replay {name}=FILE must be of a sensor with samples, but {name} takes text")
    wanted = check_streams(name, sensor)
    from fusionkit.data.recordings import SUFFIXES, read_recording

    if path.suffix.lower() in SUFFIXES:
        recording = read_recording(path, wanted.channels or None, sample_rate=wanted.sample_rate)
    else:
        from fusionkit.recipe.build import build_modalities
        from fusionkit.recipe.load import parse_recipe
        from fusionkit.recipe.yaml import read_text

        if sensor.chain:
            raise DataError(f"{path}: {name} must be a file that MNE reads ({', '.join(sorted(SUFFIXES))})")
        text = session.files["recipe.yaml"].decode("utf-8", "replace") if "recipe.yaml" in session.files else ""
        found = read_text(text, "recipe.yaml").data
        if not isinstance(found, dict) or found.get("plugins"):  # a bundle that is streamed imports nothing
            raise DataError(f"{path}: {name} must be read by a recipe without plugins: replay an XDF file instead")
        modalities = build_modalities(parse_recipe(text, "recipe.yaml"))
        if name not in modalities:
            raise DataError(f"{path}: {name} must be a sensor of the bundle's recipe.yaml, but is none")
        recording = modalities[name].read(path)
    values = recording.values.reshape(len(recording.values), -1)
    if recording.sample_rate != wanted.sample_rate or values.shape[1] != max(1, len(wanted.channels)):
        got = f"{values.shape[1]} at {recording.sample_rate} Hz"
        raise DataError(
            f"{path}: {name} must have {max(1, len(wanted.channels))} channels at {wanted.sample_rate:g} Hz, but has {got}"
        )
    if wanted.unit and recording.unit != wanted.unit:
        raise DataError(f"{path}: {name} must be in {wanted.unit}, but is in {recording.unit or 'no unit'}")
    channels = tuple(Channel(label, wanted.unit, sensor.kind) for label in wanted.channels or (name,))
    return Description(name, sensor.kind, channels, wanted.sample_rate), values


def _pairs(option: str, words: Sequence[str] | None) -> dict[str, str]:
    from fusionkit.core.errors import ConfigError

    found: dict[str, str] = {}
    for word in words or ():
        name, sign, value = word.partition("=")
        if not (name and sign and value) or name in found:
            raise ConfigError(f"{option} must be SENSOR=... once a sensor, but got {word!r}")
        found[name] = value
    return found


def _speed(text: str) -> float:
    from math import inf

    from fusionkit.core.errors import ConfigError

    try:
        speed = inf if text == "max" else float(text)
    except ValueError:
        speed = 0.0
    if not speed > 0:
        raise ConfigError(f"--speed must be a number above 0 or max, but got {text!r}")
    return speed


def _smoothing(given: float | None) -> "Smoothing | None":
    from fusionkit.core.errors import ConfigError
    from fusionkit.runtime.stream import Exponential, MovingAverage

    if given is None:
        return None
    if not 0 < given < 1e6 or (given > 1 and given != int(given)):
        raise ConfigError(f"--smooth must be a whole number of decisions or a share below 1, but got {given:g}")
    return Exponential(given) if given < 1 else MovingAverage(int(given))


def _debounce(given: str | None) -> "Debounce | None":
    from fusionkit.core.errors import ConfigError
    from fusionkit.runtime.stream import Debounce

    if given is None:
        return None
    try:
        count, *rest = given.split(",")
        return Debounce(int(count), *(float(part) for part in rest))
    except (TypeError, ValueError) as error:
        said = str(error) if "debouncing" in str(error) else f"got {given!r}"
        raise ConfigError(f"--debounce must be COUNT, COUNT,MARGIN or COUNT,MARGIN,SECONDS, but {said}") from None
