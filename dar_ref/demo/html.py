"""One self-contained HTML page from text, tables and figures. Pictures are embedded; nothing is loaded from outside."""

import base64
import html
from collections.abc import Sequence
from pathlib import Path

STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; }
body { font: 16px/1.55 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { line-height: 1.2; } h2 { margin-top: 2.5rem; border-bottom: 1px solid var(--line); padding-bottom: .2rem; }
img { max-width: 100%; height: auto; background: #fff; border-radius: 6px; }
figure { margin: 1.2rem 0; } figcaption { margin-top: .4rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; display: block; overflow-x: auto; }
th, td { padding: .3rem .8rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th.left, td.left { text-align: left; }
.pass { color: #00795a; font-weight: 600; } .fail { color: #c03a00; font-weight: 600; }
@media (prefers-color-scheme: dark) { .pass { color: #35c99a; } .fail { color: #ff8a5c; } }
code { background: var(--soft); padding: .1rem .3rem; border-radius: 4px; }
"""


def page(title: str, body: Sequence[str]) -> str:
    """The whole document; `body` are blocks made by the functions below."""
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{html.escape(title)}</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<style>{STYLE}</style>\n</head>\n<body>\n<h1>{html.escape(title)}</h1>\n"
        + "\n".join(body)
        + "\n</body>\n</html>\n"
    )


def heading(text: str) -> str:
    """A section heading."""
    return f"<h2>{html.escape(text)}</h2>"


def paragraph(text: str) -> str:
    """A paragraph of plain text; `code` between backticks."""
    parts = html.escape(text).split("`")
    return "<p>" + "".join(f"<code>{p}</code>" if i % 2 else p for i, p in enumerate(parts)) + "</p>"


def table(header: Sequence[str], rows: Sequence[Sequence[str]], text_columns: int = 1) -> str:
    """A table of strings. The first `text_columns` columns are left-aligned, the others right-aligned; PASS and FAIL
    are coloured."""
    verdicts = {"PASS": "pass", "FAIL": "fail"}

    def line(tag: str, cells: Sequence[str]) -> str:
        kinds = [verdicts.get(cell, "left" if i < text_columns else "") for i, cell in enumerate(cells)]
        inner = (f'<{tag} class="{k}">{html.escape(cell)}</{tag}>' for k, cell in zip(kinds, cells, strict=True))
        return "<tr>" + "".join(inner) + "</tr>"

    head, lines = line("th", header), [line("td", row) for row in rows]
    return f"<table>\n<thead>{head}</thead>\n<tbody>\n" + "\n".join(lines) + "\n</tbody>\n</table>"


def figure(path: Path, alt: str, caption: str) -> str:
    """A PNG, embedded, with alternative text and a caption that says what to see."""
    data = base64.b64encode(path.read_bytes()).decode("ascii")
    return (
        f'<figure>\n<img src="data:image/png;base64,{data}" alt="{html.escape(alt, quote=True)}">\n'
        f"<figcaption>{html.escape(caption)}</figcaption>\n</figure>"
    )
