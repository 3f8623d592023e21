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
WIDE = 1000  # pixels; a wider figure cannot be read on a phone


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Return the page with the sessions folded that only check it."""

    def fold(session: re.Match[str]) -> str:
        wish = session["wish"] or ("folded" if page.file.src_uri.startswith(FOLDED) else "shown")
        if wish == "shown":
            return session["indent"] + session["block"]
        body = "".join(f"    {line}" if line.strip() else line for line in session["block"].splitlines(keepends=True))
        return f'{session["indent"]}??? checked "Checked by"\n\n{session["indent"]}{body}'

    return SESSION.sub(fold, markdown)


def on_page_content(content: str, page: Any, **_: Any) -> str:
    """Return the page without the two scripts and with described figures. Only notebook pages change."""
    return describe_figures(SCRIPTS.sub("", content)) if page.file.src_uri.endswith(".ipynb") else content


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
