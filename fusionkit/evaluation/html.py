"""Parts of a page that is one file and needs no network."""

from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, "DejaVu Sans", sans-serif; color: #1f2937; margin: 0 auto; max-width: 60rem; padding: 1.5rem; }
h1 { margin-bottom: 0; } h2 { margin-top: 2.5rem; border-bottom: 1px solid #e5e7eb; } h3 { margin-top: 1.8rem; }
p.lead { font-size: 1.1rem; } .muted { color: #6b7280; } .scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; } th, td { padding: .25rem .7rem; text-align: right; white-space: nowrap; font-size: .85rem; }
td small, th small { color: #6b7280; font-weight: 400; }
th:first-child, td:first-child { text-align: left; } tr + tr td { border-top: 1px solid #f3f4f6; } thead th { border-bottom: 2px solid #d1d5db; }
tr.own td { background: #eff6ff; font-weight: 600; } .note { background: #fffbeb; border-left: 4px solid #f59e0b; padding: .5rem 1rem; margin: .4rem 0; }
figure { display: inline-block; margin: .5rem 1rem .5rem 0; vertical-align: top; } figcaption { font-size: .85rem; color: #6b7280; }
svg { max-width: 100%; height: auto; } pre { background: #f9fafb; padding: 1rem; overflow-x: auto; font-size: 12px; }
details { margin: .6rem 0; } summary { cursor: pointer; font-weight: 600; }
@media (prefers-color-scheme: dark) {
  body { background: #111827; color: #e5e7eb; } .muted, td small, th small, figcaption { color: #9ca3af; }
  h2 { border-color: #374151; } tr + tr td { border-color: #1f2937; } thead th { border-color: #4b5563; }
  tr.own td { background: #1e3a5f; } .note { background: #3a2f0b; } pre { background: #1f2937; }
  figure svg { background: #fff; border-radius: 6px; padding: .5rem; box-sizing: border-box; }
}
"""


def page(title: str, body: Iterable[str]) -> str:
    """A whole page."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>{escape(title)} - fusionkit</title><style>{STYLE}</style></head><body>\n"
        + "\n".join(body)
        + "\n</body></html>\n"
    )


def figure(drawing: str, caption: str) -> str:
    """A drawing with a line below."""
    return f"<figure>{drawing}<figcaption>{escape(caption)}</figcaption></figure>"


def table(header: Iterable[str], lines: Iterable[tuple[list[str], bool]]) -> str:
    """Lines of cells, each with whether it stands out."""
    head = "".join(f"<th>{_cell(cell)}</th>" for cell in header)
    body = "".join(
        f"<tr{' class=own' if own else ''}>{''.join(f'<td>{_cell(cell)}</td>' for cell in cells)}</tr>"
        for cells, own in lines
    )
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def versions(environment: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    """Machine and versions of a run."""
    lines = [([name, str(value)], False) for name, value in environment.items() if name != "packages"]
    lines += [([name, value], False) for name, value in environment["packages"].items()]
    lines.append((["study digest", facts["study"]["digest"][:16]], False))
    return f"<details><summary>machine and versions</summary>{table(['what', 'value'], lines)}</details>"


def _cell(text: str) -> str:
    """A second line is smaller."""
    first, _, second = text.partition("\n")
    return escape(first) + (f"<br><small>{escape(second)}</small>" if second else "")
