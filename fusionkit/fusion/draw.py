"""Drawings of the fusion graph: a tree for a terminal, and an SVG for a report."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from xml.sax.saxutils import escape, quoteattr

from rich.table import Table
from rich.text import Text

from fusionkit.fusion.graph import Graph

STYLES = {"sensor": "cyan", "early": "yellow", "intermediate": "green", "late": "magenta"}
COLOURS = {  # fill and stroke
    "sensor": ("#eaf1fb", "#5b7fb5"),
    "early": ("#fdf1dc", "#c08a2d"),
    "intermediate": ("#e6f3e6", "#5a9a5a"),
    "late": ("#f3e8f7", "#94629f"),
}
CHARACTER, LINE, PADDING, GAP, SPACE = 7.2, 17.0, 10.0, 64.0, 18.0  # pixels
LONGEST = 44  # characters of a line


def tree(graph: Graph, columns: Mapping[str, Mapping[str, str]] | None = None) -> Table:
    """Draw the graph from its end down to its sensors, for `rich` to print.

    Args:
        graph: the graph.
        columns: more columns by title, each a text by node or sensor (shapes, parameter counts).

    Example:
        >>> print(tree(graph, {"parameters": {"fused": "418,880"}}))
    """
    columns = columns or {}
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("node", "kind", "level"):
        table.add_column(title, no_wrap=True)
    for title, cells in columns.items():
        numbers = all(cell.replace(",", "").isdigit() for cell in cells.values())
        table.add_column(title, justify="right" if numbers else "left")
    drawn: set[str] = set()
    for guide, name in _branches(graph, graph.end.name, "", ""):
        level, kind = _level(graph, name), _kind(graph, name)
        label = Text(guide, style="dim") + Text(name, style=STYLES[level])
        if name in drawn and level != "sensor":
            table.add_row(label, Text("(above)", style="dim"))
            continue
        more = [Text(cells.get(name, "") if name not in drawn else "") for cells in columns.values()]
        table.add_row(label, Text(kind), Text(level, style="dim"), *more)
        drawn.add(name)
    return table


def _branches(
    graph: Graph, name: str, guide: str, below: str, seen: set[str] | None = None
) -> Iterator[tuple[str, str]]:
    """Every line of the tree: its guide and its name. What was drawn before is named, and not opened again."""
    seen = set() if seen is None else seen
    yield guide, name
    if name in graph.modalities or name in seen:
        return
    seen.add(name)
    inputs = graph[name].inputs
    for one in inputs:
        end = one == inputs[-1]
        yield from _branches(graph, one, below + ("└─ " if end else "├─ "), below + ("   " if end else "│  "), seen)


def _level(graph: Graph, name: str) -> str:
    return "sensor" if name in graph.modalities else graph[name].level


def _kind(graph: Graph, name: str) -> str:
    if name in graph.modalities:
        return ""
    node = graph[name]
    return node.kind if node.encoder is None else f"{node.kind}, then {node.encoder.get('kind', 'mlp')}"


@dataclass
class _Place:
    """A box, or (without lines) the point where a long edge passes a rank."""

    rank: int
    lines: list[str] = field(default_factory=list)
    level: str = ""
    before: list[str] = field(default_factory=list)
    x: float = 0.0
    y: float = 0.0  # middle
    width: float = 0.0  # that of its rank
    title: str = ""

    @property
    def height(self) -> float:
        return len(self.lines) * LINE + 2.0 * PADDING - 4 if self.lines else 6.0


def svg(graph: Graph, notes: Mapping[str, str] | None = None) -> str:
    """Draw the graph from left to right as one self-contained SVG.

    Args:
        graph: the graph.
        notes: more lines for a node's or a sensor's box, by name (shapes, parameter counts).
    """
    places = _places(graph, notes or {})
    width, height = _arrange(places)
    boxes = [name for name, place in places.items() if place.lines]
    label = _printable("fusion graph: " + ", ".join(boxes))
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" role="img" '
        f"aria-label={quoteattr(label)} "
        'font-family="system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif" font-size="13">'
    )
    parts = [head]
    for place in places.values():
        for name in place.before:
            parts.append(_edge(places[name], place))
    for name in boxes:
        parts.append(_box(places[name]))
    return "\n".join([*parts, "</svg>"])


def _places(graph: Graph, notes: Mapping[str, str]) -> dict[str, _Place]:
    """Boxes with their rank (longest way from a sensor), and points for edges over more than one rank."""
    places: dict[str, _Place] = {}
    for name in (*graph.modalities, *(node.name for node in graph.nodes)):
        level = _level(graph, name)
        about = "sensor" if level == "sensor" else f"{level}: {_kind(graph, name)}"
        lines = [name, about, *notes.get(name, "").splitlines()]
        rank = 0 if level == "sensor" else 1 + max(places[one].rank for one in graph[name].inputs)
        short = [line if len(line) <= LONGEST else line[: LONGEST - 1] + "…" for line in lines]
        places[name] = _Place(rank, short, level, title="\n".join(lines))
    for node in graph.nodes:
        for one in node.inputs:
            last = one
            for rank in range(places[one].rank + 1, places[node.name].rank):
                point = f"{one} > {rank}"  # shared by all edges from there
                if point not in places:
                    places[point] = _Place(rank, before=[last])
                last = point
            places[node.name].before.append(last)
    return places


def _arrange(places: Mapping[str, _Place]) -> tuple[float, float]:
    """Give every place its x and y, with few crossings; the size of the drawing."""
    ranks = [[p for p in places.values() if p.rank == rank] for rank in range(max(p.rank for p in places.values()) + 1)]
    after: dict[int, list[_Place]] = {id(p): [] for p in places.values()}
    for place in places.values():
        for name in place.before:
            after[id(places[name])].append(place)
    heights = [sum(p.height for p in column) + SPACE * (len(column) - 1) for column in ranks]
    tallest = max(heights)

    def stack(rank: int) -> None:
        y = PADDING + (tallest - heights[rank]) / 2
        for place in ranks[rank]:
            place.y = y + place.height / 2
            y += place.height + SPACE

    def pull(place: _Place, others: list[_Place]) -> float:
        return sum(other.y for other in others) / len(others) if others else place.y

    for rank in range(len(ranks)):
        stack(rank)
    for sweep in range(6):
        forward = sweep % 2 == 0
        for rank in range(len(ranks)) if forward else reversed(range(len(ranks))):
            ranks[rank].sort(key=lambda p: pull(p, [places[name] for name in p.before] if forward else after[id(p)]))
            stack(rank)
    x = float(PADDING)
    for column in ranks:
        longest = max((len(line) for place in column for line in place.lines), default=0)
        wide = longest * CHARACTER + 2 * PADDING
        for place in column:
            place.x, place.width = x, wide
        x += wide + GAP
    return x - GAP + PADDING, tallest + 2 * PADDING


def _edge(source: _Place, target: _Place) -> str:
    """A curve, with an arrow where it ends at a box; straight on where it passes a rank."""
    x, tip = source.x + source.width, target.x - (7 if target.lines else 0)
    middle = (x + tip) / 2
    curve = f"M{x:.1f} {source.y:.1f} C{middle:.1f} {source.y:.1f} {middle:.1f} {target.y:.1f} {tip:.1f} {target.y:.1f}"
    if not target.lines:
        curve += f" h{target.width:.1f}"
    drawn = f'<path d="{curve}" fill="none" stroke="#8a8f98" stroke-width="1.5"/>'
    if target.lines:
        drawn += f'<path d="M{target.x:.1f} {target.y:.1f} l-8 -4 v8 z" fill="#8a8f98"/>'
    return drawn


def _box(place: _Place) -> str:
    fill, stroke = COLOURS[place.level]
    top = place.y - place.height / 2
    shape = (
        f'<rect x="{place.x:.1f}" y="{top:.1f}" width="{place.width:.1f}" height="{place.height:.1f}" rx="7" '
        f'fill="{fill}" stroke="{stroke}" stroke-width="1.5"/>'
    )
    lines = [shape]
    for i, line in enumerate(place.lines):
        look = ('font-weight="600" fill="#1d232b"', f'fill="{stroke}"', 'fill="#4a525c"')[min(i, 2)]
        middle = place.x + place.width / 2
        text_y = top + PADDING + 9 + i * LINE
        lines.append(f'<text x="{middle:.1f}" y="{text_y:.1f}" text-anchor="middle" {look}>{_safe(line)}</text>')
    return f"<g><title>{_safe(place.title)}</title>{''.join(lines)}</g>"


def _printable(text: str) -> str:
    """Text without the control characters that XML does not know."""
    return re.sub(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\ufffd", text)


def _safe(text: str) -> str:
    return escape(_printable(text))
