"""What a bundle says of itself, for a person."""

from collections.abc import Iterator

from fusionkit.runtime.description import shown
from fusionkit.runtime.manifest import Manifest, Sensor, Task


def explain(manifest: Manifest, files: int, size: int) -> str:
    """All that somebody who builds on a bundle asks first.

    Args:
        manifest: its own.
        files: how many others there are.
        size: of them together, bytes.
    """
    return "\n".join(shown(line) for line in _lines(manifest, files, size))


def _lines(manifest: Manifest, files: int, size: int) -> Iterator[str]:
    versions = dict(manifest.versions)
    yield f"{manifest.name}: made by fusionkit {versions.pop('fusionkit', '?')}"
    yield f"  format {manifest.format} {manifest.version}, opset {manifest.opset}, {files} files of {size / 1e6:.2f} MB"
    for name, sensor in manifest.sensors.items():
        yield from _sensor(name, sensor)
    for name, task in manifest.tasks.items():
        yield from _task(name, task)
    clock = manifest.window
    if clock.seconds is not None and clock.step is not None:
        yield f"  a decision every {clock.step:g} s, about the last {clock.seconds:g} s"
    if manifest.parameters is not None:
        work = (
            ""
            if manifest.macs is None
            else f", {manifest.macs / 1e6:.2f} million multiplications with additions a window"
        )
        yield f"  {manifest.parameters:,} parameters{work}"
    if manifest.latency_ms is not None:
        yield (
            f"  one window took p50 {manifest.latency_ms.p50:.2f} ms, p99 {manifest.latency_ms.p99:.2f} ms on one thread "
            "where the bundle was made"
        )
    if manifest.quantised is not None:
        yield f"  weights are quantised: {manifest.quantised.get('kind', '?')}"
    if manifest.step_graph is not None:
        steps = manifest.step_graph
        took = "" if steps.step_ms is None else f"; one took {steps.step_ms:.2f} ms"
        yield f"  step.onnx goes on by steps of {steps.seconds:g} s and remembers {steps.steps}{took}"
    yield f"  made with {', '.join(f'{name} {version}' for name, version in versions.items())}"


def _sensor(name: str, sensor: Sensor) -> Iterator[str]:
    shape = [size or "any" for size in sensor.shape]
    rate = "" if sensor.sample_rate is None else f", {sensor.sample_rate:g} Hz"
    unit = f", {sensor.unit}" if sensor.unit else ""
    yield f"  in  {name} ({sensor.kind}): {sensor.layout} {_list(shape)}, {sensor.dtype}{rate}{unit}"
    if sensor.channels:
        yield f"        channels {', '.join(sensor.channels)}"
    if sensor.limits is not None:
        yield f"        numbers from {sensor.limits[0]:g} to {sensor.limits[1]:g}"
    if sensor.window is not None:
        of = "" if sensor.window.seconds is None else f", {sensor.window.seconds:g} s"
        yield f"        trained on windows of up to {sensor.window.samples} {'tokens' if _text(sensor) else 'samples'}{of}"
    if sensor.lacks:
        yield "        a channel that was not measured is NaN or 0"
    if sensor.chain is None:
        yield "        cannot be streamed: its preprocessing looked ahead"
    elif sensor.chain:
        steps = ", ".join(str(step.get("step", "?")) for step in sensor.chain)
        source = sensor.stream
        at = "" if source is None or source.sample_rate is None else f" of {source.sample_rate:g} Hz"
        yield f"        a stream{at} goes through {steps}"
    if sensor.align is not None:
        seconds = "all records" if sensor.align.seconds is None else f"the first {sensor.align.seconds:g} s"
        yield f"        aligned by {seconds} of each {sensor.align.over or 'subject'}"
    if sensor.statistics is not None:
        normalise = sensor.normalise
        of = f"the first {normalise.seconds:g} s of" if normalise.seconds else "all records of"
        by = normalise.over or ("recording" if normalise.kind == "recording" else "subject")
        yield f"        needs shift and scale {list(sensor.statistics)}, of {of} each {by}" + (
            ", going on with every window" if normalise.update else ""
        )


def _task(name: str, task: Task) -> Iterator[str]:
    answer = "a value" if task.outcome == "value" else f"probabilities of {', '.join(task.classes)}"
    yield f"  out {name} ({task.kind}): {answer}"
    if task.temperature is not None:
        yield f"        calibrated at temperature {task.temperature:.3g}"
    if task.conformal:
        bars = (f"{cover} (bar {'none' if bar is None else f'{bar:.3g}'})" for cover, bar in task.conformal.items())
        yield f"        sets of coverage {', '.join(bars)}"


def _text(sensor: Sensor) -> bool:
    return sensor.layout == "token"


def _list(shape: list[int | str]) -> str:
    return f"[{', '.join(map(str, shape))}]"
