"""Build hook: the glossary's terms get an anchor each, and their first use on a page links there.

The glossary defines a term in two lines, `Term` and `:   what it means.` (Markdown's definition list). In the text of
every other page the first use of each term becomes a link that shows the definition. Headings, code (also the hidden
copy of a notebook's cell), formulas, tables' headers and texts that are links already are left alone. Case does not
count, and a plural counts as the term.
"""

import html
import re
from pathlib import Path
from posixpath import relpath
from typing import Any

GLOSSARY = "reference/glossary"
DEFINITION = re.compile(r"^(?P<term>\w[^\n:|]*)\n:   (?P<text>.+(?:\n    .+)*)", flags=re.MULTILINE)
NAME = re.compile(r"<dt>(.*?)</dt>")
PIECE = re.compile(
    r"<div class=\"clipboard-copy-txt.*?</div>|<!--.*?-->|<[^>]+>"  # markup
    r"|\\\(.*?\\\)|\\\[.*?\\\]|\$\$.*?\$\$|\$[^$<]+\$"  # formulas
    r"|[^<\\$]+|[\\$]",  # text
    flags=re.DOTALL,
)
TAG = re.compile(r"<(?P<closing>/?)(?P<name>[a-z][a-z0-9]*)")
NO_TERMS = {"a", "button", "code", "label", "pre", "script", "style", "summary", "th"}
NO_TERMS |= {f"h{level}" for level in range(1, 7)}


def definitions() -> dict[str, str]:
    """Term -> what it means, as the glossary has it."""
    page = (Path(__file__).parent / f"{GLOSSARY}.md").read_text(encoding="utf-8")
    return {found["term"]: " ".join(found["text"].split()) for found in DEFINITION.finditer(page)}


def on_page_content(content: str, page: Any, **_: Any) -> str:
    """Return the page with its terms linked; the glossary, with an anchor for each term."""
    uri = page.file.src_uri
    if uri == f"{GLOSSARY}.md":
        return NAME.sub(lambda found: f'<dt id="{anchor(found[1])}">{found[1]}</dt>', content)
    if uri.startswith(("api/", "project/")):
        return content
    folder = uri.rpartition("/")[0] or "."
    return linked(content, definitions(), relpath(f"{GLOSSARY}.html", folder))


def linked(content: str, terms: dict[str, str], glossary: str) -> str:
    """HTML with the first use of each term as a link to the page `glossary`."""
    left = {term.lower(): term for term in terms}
    closed = 0  # elements around this piece in which no term is linked
    pieces = []
    for piece in PIECE.findall(content):
        tag = TAG.match(piece)
        if tag and tag["name"] in NO_TERMS:
            closed += -1 if tag["closing"] else 1
        elif not closed and left and not piece.startswith(("<", "\\", "$")):
            piece = _with_links(piece, left, terms, glossary)
        pieces.append(piece)
    return "".join(pieces)


def anchor(term: str) -> str:
    """The id of a term on the glossary's page."""
    return re.sub(r"\W+", "-", term.lower()).strip("-")


def _with_links(text: str, left: dict[str, str], terms: dict[str, str], glossary: str) -> str:
    """A text with links; the terms that were found are taken out of `left`. The longest term comes first."""
    words = "|".join(re.escape(word) for word in sorted(left, key=len, reverse=True))

    def link(found: re.Match[str]) -> str:
        term = left.pop(found[1].lower(), None)
        if term is None:  # used twice in this text
            return found[0]
        meaning = html.escape(re.sub(r"[`*]", "", terms[term]), quote=True)
        return f'<a class="term" href="{glossary}#{anchor(term)}" title="{meaning}">{found[0]}</a>'

    return re.sub(rf"(?<![\w-])({words})(?:s|es)?(?![\w-])", link, text, flags=re.IGNORECASE)
