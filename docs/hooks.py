"""Build hook: sessions and tests that check a page are folded; notebook pages describe their figures.

A page states its numbers in sentences and proves them in sessions, which tests/test_docs.py runs. A reader wants the
sentences, so on pages of `FOLDED` the sessions are folded, except after a line `<!-- shown -->`. On other pages
sessions show how to use the package, and one is folded after `<!-- folded -->`. In a notebook a cell with the tag
`checks` is folded, of one with the tag `plot` the code, and `<!-- simplex -->` becomes the interactive simplex of the
home page.

A figure's alternative text is the `alt` in the metadata of the cell that draws it. Wide figures get a class, see
`site.css`. The notebook template loads MathJax and Mermaid from a content delivery network. Both are removed here:
`assets/katex` renders the formulas, and no notebook uses Mermaid.
"""

import base64
import html
import json
import re
from pathlib import Path
from typing import Any

SCRIPTS = re.compile(
    r"<!-- Load mathjax -->.*?<!-- End of mathjax configuration -->|<script type=\"module\">(?:(?!</script>).)*mermaid"
    r"(?:(?!</script>).)*</script>",
    flags=re.DOTALL,
)
NO_ALT = "No description has been provided for this image"  # what the notebook template writes
FIGURE = re.compile(rf"<img alt=\"{NO_ALT}\"\s+class=\"[^\"]*\"\s+src=\"data:image/png;base64,([\w+/]{{32}})")
SIMPLEX = "<!-- simplex -->"
FOLDED = ("findings/", "llm/", "results/")
SESSION = re.compile(
    r"^(?P<indent> *)(?:<!-- (?P<wish>shown|folded) -->\n+(?P=indent))?(?P<block>```python\n.*?^(?P=indent)```)$",
    flags=re.MULTILINE | re.DOTALL,
)
TABLE = re.compile(r"<table>.*?</table>", flags=re.DOTALL)
HEADER, ROW = re.compile(r"<th[ >].*?</th>", flags=re.DOTALL), re.compile(r"<tr>\s*<td.*?</tr>", flags=re.DOTALL)
INTERVAL = re.compile(r"(?<=>)(-?[\d.]+)( \[-?[\d.]+, -?[\d.]+\])(?=</td>)")
FOLDS = {  # tag of a cell of a notebook: what stands on its fold, and the element that is folded
    "checks": ("Show the assertions that check this page", "jp-Cell"),
    "plot": ("Show the code of this figure", "jp-Cell-inputWrapper"),
    "setup": ("Show the set-up", "jp-Cell-inputWrapper"),
}
MANY = 5  # columns; so many do not fit on a phone
WIDE = 1000  # pixels; a wider figure cannot be read on a phone


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Return the page with the sessions folded that only check it. Pages of results need the width of the contents."""
    if page.file.src_uri.startswith("results/"):
        page.meta.setdefault("hide", ["toc"])

    def fold(session: re.Match[str]) -> str:
        wish = session["wish"] or ("folded" if page.file.src_uri.startswith(FOLDED) else "shown")
        if wish == "shown":
            return session["indent"] + session["block"]
        body = "".join(f"    {line}" if line.strip() else line for line in session["block"].splitlines(keepends=True))
        return f'{session["indent"]}??? checked "Checked by"\n\n{session["indent"]}{body}'

    return SESSION.sub(fold, markdown)


def on_page_content(content: str, page: Any, **_: Any) -> str:
    """Return the page with readable tables, or the notebook page without the two scripts and with described figures."""
    if page.file.src_uri.endswith(".ipynb"):
        return notebook_page(SCRIPTS.sub("", content), Path(page.file.abs_src_path))
    return TABLE.sub(lambda table: arranged(table[0]), content)


def arranged(table: str) -> str:
    """A table whose intervals stand below their numbers; one of many columns names the column in every cell."""
    table = INTERVAL.sub(r'\1<span class="interval">\2</span>', table)
    titles = [html.escape(plain(title), quote=True) for title in HEADER.findall(table)]
    if len(titles) < MANY:
        return table
    return ROW.sub(
        lambda row: named(row[0], titles), table.replace("<table>", f'<table data-columns="{len(titles)}">', 1)
    )


def named(row: str, titles: list[str]) -> str:
    """A row whose cells carry the titles of their columns, for screens on which the columns do not fit."""
    left = iter(titles)
    return re.sub(r"<td", lambda _: f'<td data-label="{next(left, "")}"', row)


def notebook_page(content: str, path: Path) -> str:
    """The page of a notebook: figures described, tests and plotting code folded, the simplex where it is named."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    texts = iter([cell["metadata"].get("alt", "") for cell in cells for _ in range(figures_of(cell))])
    content = FIGURE.sub(lambda figure: described(figure, next(texts)), content)
    for cell in cells:
        for tag in FOLDS.keys() & set(cell["metadata"].get("tags", [])):
            content = folded(content, cell["id"], *FOLDS[tag])
    if SIMPLEX in content:
        widget = (Path(__file__).parent / "assets" / "simplex" / "simplex.html").read_text(encoding="utf-8")
        content = content.replace(SIMPLEX, f'{widget}<script src="../assets/simplex/start.js"></script>')
    return content


def figures_of(cell: dict[str, Any]) -> int:
    """How many PNGs a cell shows."""
    return sum("image/png" in output.get("data", {}) for output in cell.get("outputs", []))


def described(figure: re.Match[str], text: str) -> str:
    """The beginning of the figure's element, with the alternative text and, if it is wide, a class."""
    width = int.from_bytes(base64.b64decode(figure[1])[16:20], "big")  # bytes 16 to 19 of a PNG are its width
    kind = "wide" if width > WIDE else ""
    alt = html.escape(text or NO_ALT, quote=True)
    return f'<img alt="{alt}" class="{kind}" src="data:image/png;base64,{figure[1]}'


def folded(content: str, cell_id: str, summary: str, kind: str) -> str:
    """The page with one cell, or its code, folded: its element, of nested `div`, is put into `details`."""
    inner = content.index(f'id="cell-id={cell_id}"')
    if kind == "jp-Cell":  # the cell stands in an element of the same class
        start = content.rindex(f'<div class="{kind}', 0, content.rindex("<div", 0, inner))
    else:
        start = content.index(f'<div class="{kind}', inner)
    depth = 0
    for tag in re.finditer(r"<(/?)div\b", content[start:]):
        depth += -1 if tag[1] else 1
        if depth == 0:
            end = start + content[start + tag.end() :].index(">") + tag.end() + 1
            break
    fold = f'<details class="checked"><summary>{summary}</summary>{content[start:end]}</details>'
    return content[:start] + fold + content[end:]


def plain(markup: str) -> str:
    """The text of a piece of HTML, without the ¶ of a permanent link."""
    return html.unescape(re.sub(r"<[^>]+>", "", markup)).replace("¶", "").strip()
