"""Build hook: sessions that check a page are folded; notebook pages load nothing from outside and describe figures.

A page states its numbers in sentences and proves them in sessions, which tests/test_docs.py runs. A reader wants the
sentences, so on pages of `FOLDED` the sessions are folded, except after a line `<!-- shown -->`. On other pages
sessions show how to use the package, and one is folded after `<!-- folded -->`.

The notebook template loads MathJax and Mermaid from a content delivery network. This hook removes both: `assets/katex`
renders the formulas, and no notebook uses Mermaid. A figure in a notebook has no alternative text, so it gets one from
the heading above it and the call that drew it. Wide figures get a class, see `site.css`.
"""

import base64
import html
import re
from typing import Any

SCRIPTS = re.compile(
    r"<!-- Load mathjax -->.*?<!-- End of mathjax configuration -->|<script type=\"module\">(?:(?!</script>).)*mermaid"
    r"(?:(?!</script>).)*</script>",
    flags=re.DOTALL,
)
NO_ALT = "No description has been provided for this image"  # what the notebook template writes
PARTS = re.compile(
    r"<h[1-6][^>]*>(?P<heading>.*?)</h[1-6]>"
    r"|<div class=\"clipboard-copy-txt\"[^>]*>(?P<code>.*?)</div>"
    rf"|<img alt=\"{NO_ALT}\"\s+class=\"[^\"]*\"\s+src=\"data:image/png;base64,(?P<png>[\w+/]{{32}})",
    flags=re.DOTALL,
)
FOLDED = ("findings/", "llm/", "results/")
SESSION = re.compile(
    r"^(?P<indent> *)(?:<!-- (?P<wish>shown|folded) -->\n+(?P=indent))?(?P<block>```python\n.*?^(?P=indent)```)$",
    flags=re.MULTILINE | re.DOTALL,
)
TABLE = re.compile(r"<table>.*?</table>", flags=re.DOTALL)
HEADER, ROW = re.compile(r"<th[ >].*?</th>", flags=re.DOTALL), re.compile(r"<tr>\s*<td.*?</tr>", flags=re.DOTALL)
INTERVAL = re.compile(r"(?<=>)(-?[\d.]+)( \[-?[\d.]+, -?[\d.]+\])(?=</td>)")
MANY = 6  # columns; so many do not fit on a phone
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
        return describe_figures(SCRIPTS.sub("", content))
    return TABLE.sub(lambda table: arranged(table[0]), content)


def arranged(table: str) -> str:
    """A table whose intervals stand below their numbers; one of many columns names the column in every cell."""
    table = INTERVAL.sub(r'\1<span class="interval">\2</span>', table)
    titles = [html.escape(plain(title), quote=True) for title in HEADER.findall(table)]
    if len(titles) < MANY:
        return table
    return ROW.sub(lambda row: named(row[0], titles), table.replace("<table>", "<table data-wide>", 1))


def named(row: str, titles: list[str]) -> str:
    """A row whose cells carry the titles of their columns, for screens on which the columns do not fit."""
    left = iter(titles)
    return re.sub(r"<td", lambda _: f'<td data-label="{next(left, "")}"', row)


def describe_figures(content: str) -> str:
    """Give every figure of a notebook page an alternative text: the heading above it and the call that drew it."""
    heading, call = "", ""

    def describe(part: re.Match[str]) -> str:
        nonlocal heading, call
        if part["heading"] is not None:
            heading = re.sub(r"[$\\]", "", plain(part["heading"]))  # screen readers spell TeX out
        elif part["code"] is not None:
            drawing = [line.strip() for line in plain(part["code"]).splitlines() if "_figure(" in line]
            call = f", drawn by {drawing[-1]}" if drawing else ""
        else:
            alt = html.escape(f"Figure of the section “{heading}”{call}", quote=True)
            width = int.from_bytes(base64.b64decode(part["png"])[16:20], "big")  # bytes 16 to 19 of a PNG are its width
            kind = "wide" if width > WIDE else ""
            return f'<img alt="{alt}" class="{kind}" src="data:image/png;base64,{part["png"]}'
        return part[0]

    return PARTS.sub(describe, content)


def plain(markup: str) -> str:
    """The text of a piece of HTML, without the ¶ of a permanent link."""
    return html.unescape(re.sub(r"<[^>]+>", "", markup)).replace("¶", "").strip()
