"""Check of the built site: it loads nothing from outside, has no dead link, and no formula or include left as text.

    python docs/check.py [site]

Scripts, styles, images and fonts must be files of the site. Every internal link must lead to a file, and its anchor to
an id in that file. Formulas must stand where KaTeX finds them. Included files must be there, in code boxes too. The
script prints each fault and exits with 1 if there is one.
"""

import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

RESOURCES = {"script": "src", "img": "src", "source": "src", "iframe": "src", "audio": "src", "video": "src"}
NOT_TEXT = {"script", "style", "pre", "code", "textarea", "option", "annotation"}
VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}
OUTSIDE = re.compile(r"^(https?:)?//", flags=re.IGNORECASE)
CSS_URL = re.compile(r"url\(\s*[\"']?([^)\"']+)|@import\s+[\"']([^\"']+)")
REFERENCE = re.compile(r"\]\[([A-Za-z_][\w.]*)\]")
INCLUDE = re.compile(r"8\s*<\s*--.*")  # also one that a formatter has torn apart
IN_SCRIPT = re.compile(r"(?:src|href)\s*=\s*[\"']https?://|import[\s(]+[^;\n]*[\"']https?://|fetch\([\"']https?://")


class Page(HTMLParser):
    """The references of a page. `resources` load with the page, `links` only on a click; `text` is what readers see."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.resources: list[str] = []
        self.links: list[str] = []
        self.ids: set[str] = set()
        self.text: list[str] = []
        self.all_text: list[str] = []  # with code, whose words are elements of their own
        self.faults: list[str] = []
        self.is_notebook = False
        self.open: list[tuple[str, bool]] = []  # tag, and whether its text is mathematics for KaTeX
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collect references and ids."""
        values = {name: value or "" for name, value in attrs}
        classes = values.get("class", "").split()
        self.is_notebook |= "jupyter-wrapper" in classes
        if "id" in values:
            self.ids.add(values["id"])
        if tag == "a" and "name" in values:
            self.ids.add(values["name"])
        if tag == "img" and (not values.get("alt", "").strip() or values["alt"].startswith("No description")):
            self.faults.append(f"image without alt text: {values.get('src', '')[:60]}")
        if RESOURCES.get(tag) in values:
            self.resources.append(values[RESOURCES[tag]])
        if "srcset" in values:
            self.resources += [candidate.split()[0] for candidate in values["srcset"].split(",")]
        if tag == "blockquote":  # no page has a quotation, but ">= 0" at the start of a line becomes one
            self.faults.append("a line that begins with > became a quotation")
        if tag == "link" and values.get("rel") not in ("canonical", "prev", "next", "alternate", "edit"):
            self.resources.append(values.get("href", ""))
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        self.resources += [first or second for first, second in CSS_URL.findall(values.get("style", ""))]
        if tag not in VOID:
            self.open.append((tag, "arithmatex" in classes))

    def handle_endtag(self, tag: str) -> None:
        """Close the innermost element of this name."""
        for position in range(len(self.open) - 1, -1, -1):
            if self.open[position][0] == tag:
                del self.open[position:]
                return

    def handle_data(self, data: str) -> None:
        """Keep visible text, and check inline styles and scripts."""
        tags = [tag for tag, _ in self.open]
        if not {"style", "script"}.intersection(tags):
            self.all_text.append(data)
        if "style" in tags:
            self.resources += [first or second for first, second in CSS_URL.findall(data)]
        elif "script" in tags:
            self.faults += [f"script reaches outside: {found}" for found in IN_SCRIPT.findall(data)]
        elif "IPython.core.display" in data:  # also in code, where the template puts what it cannot show
            self.faults.append(f"an output that no browser shows: {data.strip()[:60]}")
        elif not NOT_TEXT.intersection(tags) and not any(mathematics for _, mathematics in self.open):
            self.text.append(data)


def mathematics_faults(page: Page) -> list[str]:
    """Delimiters that KaTeX does not find: on a page, any outside a formula; in a notebook, an odd number of $."""
    text = "".join(page.text)
    if page.is_notebook:
        return [f"odd number of $ in the text: {text.count('$')}"] if text.count("$") % 2 else []
    return [f"mathematics left as text: {text[m.start() : m.start() + 40]!r}" for m in re.finditer(r"\$|\\[(\[]", text)]


def reference_faults(page: Page) -> list[str]:
    """References to a name that is on no API page: `[text][name]` stays text. Notebooks may index arrays like that."""
    found = [] if page.is_notebook else REFERENCE.findall("".join(page.text))
    return [f"reference left as text: {name}" for name in found]


def include_faults(page: Page) -> list[str]:
    """Includes that were not resolved, in the text or in a code box."""
    return [f"include left as text: {found[0].strip()[:60]}" for found in INCLUDE.finditer("".join(page.all_text))]


def resource_fault(site: Path, holder: Path, reference: str) -> str | None:
    """Why a resource cannot be loaded from the site, or None."""
    if reference.startswith(("data:", "#")) or not reference:
        return None
    if OUTSIDE.match(reference):
        return f"loads from outside: {reference}"
    target = (holder.parent / unquote(urlsplit(reference).path)).resolve()
    return None if target.is_file() and target.is_relative_to(site) else f"missing resource: {reference}"


def link_fault(site: Path, holder: Path, link: str, pages: dict[Path, Page]) -> str | None:
    """Why an internal link is dead, or None. Links to other sites are not checked."""
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return None
    target = (holder.parent / unquote(parts.path)).resolve() if parts.path else holder
    target = target / "index.html" if target.is_dir() else target
    if not target.is_file() or not target.is_relative_to(site):
        return f"dead link: {link}"
    anchor = unquote(parts.fragment)
    if anchor and target in pages and anchor not in pages[target].ids and not anchor.startswith("__"):
        return f"dead anchor: {link}"
    return None


def check(site: Path) -> list[str]:
    """All faults of the site, each with the path of its page."""
    site = site.resolve()
    pages = {path: Page(path) for path in sorted(site.rglob("*.html"))}
    faults = []
    for path, page in pages.items():
        if path.name == "404.html":  # shown at any address: its links are absolute
            continue
        found = [resource_fault(site, path, reference) for reference in page.resources]
        found += [link_fault(site, path, link, pages) for link in page.links]
        found += [*mathematics_faults(page), *reference_faults(page), *include_faults(page), *page.faults]
        faults += [f"{path.relative_to(site)}: {fault}" for fault in found if fault]
    for path in sorted(site.rglob("*.css")):
        found = [
            resource_fault(site, path, first or second)
            for first, second in CSS_URL.findall(path.read_text(encoding="utf-8"))
        ]
        faults += [f"{path.relative_to(site)}: {fault}" for fault in found if fault]
    if not pages:
        faults.append(f"no page in {site}: build first")
    return faults


def main() -> int:
    """Check the folder named on the command line. Return 0 if it has no fault, else 1."""
    site = Path(sys.argv[1] if len(sys.argv) > 1 else "site")
    faults = check(site)
    print(
        "\n".join(faults)
        if faults
        else f"{len(list(site.rglob('*.html')))} pages: complete, every link leads somewhere"
    )
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
