"""The pages of the site, without a build: sessions print what they show, names exist, the navigation is complete.

The build itself, links and anchors are checked by `make docs`.
"""

import ast
import doctest
import re
from pathlib import Path

import pytest

from tests.scripts import docs_script

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(
    path
    for path in DOCS.rglob("*.md")
    if "assets" not in path.parts and path.name not in ("table.md", "head.md", "verdicts.md")
)
BLOCK = re.compile(r"^( *)```python\n(.*?)^\1```", flags=re.MULTILINE | re.DOTALL)
FENCE = re.compile(r"^ *```(\w*)[^\n]*\n.*?^ *```", flags=re.MULTILINE | re.DOTALL)
REFERENCE = re.compile(r"\[((?:dar_ref|tests)\.[\w.]+)\]|^::: ((?:dar_ref|tests)[\w.]*)", flags=re.MULTILINE)


def name(path):
    return str(path.relative_to(DOCS))


def session(path):
    """The page's sessions as one doctest, with the line numbers of the file."""
    text = path.read_text(encoding="utf-8")
    lines = [""] * (text.count("\n") + 1)
    for block in BLOCK.finditer(text):
        first = text.count("\n", 0, block.start(2))
        for offset, line in enumerate(block.group(2).splitlines()):
            lines[first + offset] = line.removeprefix(block.group(1))
    return doctest.DocTestParser().get_doctest("\n".join(lines), {}, name(path), str(path), 0)


@pytest.mark.parametrize("path", [path for path in PAGES if session(path).examples], ids=name)
def test_sessions_print_what_they_say(path):
    outcome = doctest.DocTestRunner().run(session(path))
    assert outcome.failed == 0


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_every_block_marked_python_is_a_session(path):
    text = path.read_text(encoding="utf-8")
    assert all(">>> " in block.group(2) for block in BLOCK.finditer(text))
    kinds = {"python", "bash", "text", "bibtex", "py", "coq"}  # py: a file shown whole
    assert {fence.group(1) for fence in FENCE.finditer(text)} <= kinds


def test_home_getting_started_and_every_statement_have_a_session():
    wanted = [DOCS / "index.md", DOCS / "start.md", *(DOCS / "theory" / f"t{k}.md" for k in range(1, 12))]
    assert [name(path) for path in wanted if not session(path).examples] == []


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_names_that_are_referred_to_exist(path):
    for match in REFERENCE.finditer(path.read_text(encoding="utf-8")):
        dotted = match.group(1) or match.group(2)
        assert exists(dotted), f"{name(path)} refers to {dotted}"


def exists(dotted):
    """Whether this dotted name is a module, or a name that a module defines, imports or has in a class."""
    parts = dotted.split(".")
    for length in range(len(parts), 0, -1):
        module = ROOT.joinpath(*parts[:length])
        file = module / "__init__.py" if module.is_dir() else module.with_suffix(".py")
        if file.is_file():
            return holds(ast.parse(file.read_text(encoding="utf-8")).body, parts[length:])
    return False


def holds(body, names):
    if not names:
        return True
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == names[0]:
            return holds(node.body, names[1:])
        if isinstance(node, ast.ImportFrom) and names[0] in [a.asname or a.name for a in node.names]:
            return True
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if names[0] in [target.id for target in targets if isinstance(target, ast.Name)]:
            return True
    return False


def test_the_navigation_names_every_page_and_no_other():
    named = re.findall(r"[\w/-]+\.(?:md|ipynb)", (ROOT / "mkdocs.yml").read_text(encoding="utf-8").split("\nnav:")[1])
    notebooks = [f"notebooks/{path.name}" for path in (ROOT / "notebooks").glob("[0-9]*.ipynb")]
    assert len(named) == len(set(named))
    assert set(named) == {*map(name, PAGES), *notebooks}


PICTURE = re.compile(r"!\[([^\]]+)\]\(|<img[^>]* alt=\"([^\"]+)\"")


@pytest.mark.parametrize(
    "path",
    [path for path in PAGES if path.match("theory/t*.md") or path.parent.name in ("findings", "methods")],
    ids=name,
)
def test_statements_findings_and_methods_have_a_picture_that_is_described(path):
    text = path.read_text(encoding="utf-8")
    if path.parent.name == "theory":
        text = text.partition("## Statement")[0]
        assert re.search(r"^\*\*.+\*\*$", text, flags=re.MULTILINE), "no plain sentence before the statement"
    if path.name != "index.md":
        descriptions = [first or second for first, second in PICTURE.findall(text)]
        assert descriptions
        assert min(map(len, descriptions)) >= 60


def test_every_picture_is_made_by_the_command_and_shown():
    made = set(docs_script("figures").PICTURES)
    pages = "".join(path.read_text(encoding="utf-8") for path in PAGES)
    assert {path.stem for path in (DOCS / "images").glob("*.png")} == made
    assert {picture for picture in made if f"images/{picture}.png" in pages} == made


@pytest.mark.parametrize(
    ("fault", "found"),
    [
        ('<script src="https://example.org/a.js"></script>', "loads from outside: https://example.org/a.js"),
        ('<link rel="stylesheet" href="//example.org/a.css">', "loads from outside: //example.org/a.css"),
        ('<script type="module">import a from "https://example.org/a.js"</script>', "script reaches outside"),
        ("<style>@import 'http://example.org/a.css';</style>", "loads from outside: http://example.org/a.css"),
        ('<p style="background: url(https://example.org/a.png)">', "loads from outside: https://example.org/a.png"),
        ('<img src="gone.png" alt="a picture">', "missing resource: gone.png"),
        ('<picture><source srcset="gone.png 2x"></picture>', "missing resource: gone.png"),
        ('<img src="here.css">', "image without alt text: here.css"),
        ('<a href="gone.html">a</a>', "dead link: gone.html"),
        ('<a href="../index.html">a</a>', "dead link: ../index.html"),
        ('<a href="#gone">a</a>', "dead anchor: #gone"),
        ('<a href="other.html#gone">a</a>', "dead anchor: other.html#gone"),
        ("<p>[<code>f</code>][dar_ref.gone]</p>", "reference left as text: dar_ref.gone"),
        ("<ul><li>seed: <blockquote><p>= 0</p></blockquote></li></ul>", "a line that begins with > became a quotation"),
        ("<pre>&lt;IPython.core.display.Image object&gt;</pre>", "an output that no browser shows: <IPython.core"),
        ("<pre><span>--8</span> <span>&lt; --</span>&quot;a.py&quot;</pre>", 'include left as text: 8 < --"a.py"'),
        ("<p>--8&lt;-- &quot;table.md&quot;</p>", 'include left as text: 8<-- "table.md"'),
        (r"<p>costs $5</p>", "mathematics left as text: '$5"),
        (r"<p>the weight \(w\)</p>", "mathematics left as text: '\\\\(w"),
        (r'<div class="jupyter-wrapper"><p>the weight $w</p></div>', "odd number of $ in the text: 1"),
    ],
)
def test_the_checker_finds(fault, found, tmp_path):
    (tmp_path / "other.html").write_text('<p id="here">other</p>', encoding="utf-8")
    (tmp_path / "here.css").write_text("p { color: red }", encoding="utf-8")
    (tmp_path / "index.html").write_text(f"<body>{fault}</body>", encoding="utf-8")
    faults = docs_script("check").check(tmp_path)
    assert len(faults) == 1
    assert faults[0].startswith(f"index.html: {found}")


def test_the_checker_passes_a_sound_page_and_refuses_an_empty_site(tmp_path):
    assert docs_script("check").check(tmp_path) == [f"no page in {tmp_path.resolve()}: build first"]
    page = r"""<a href="https://arxiv.org/abs/2602.11523">paper</a> <a href="#here">here</a> <a href="">top</a>
    <p id="here"><span class="arithmatex">\(w\)</span> <code>$HOME</code> <code>[text][dar_ref.name]</code></p>
    <img src="data:image/png;base64," alt="dot">"""
    (tmp_path / "index.html").write_text(page, encoding="utf-8")
    assert docs_script("check").check(tmp_path) == []
