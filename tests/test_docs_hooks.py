"""What docs/hooks.py does: sessions fold; figures of notebook pages are described, nothing is loaded from outside."""

import base64
import json
import types

import pytest

from tests.scripts import docs_script

IMAGE = '<img alt="No description has been provided for this image" class="" src="data:image/png;base64,{png}">'
INPUT = '<div class="jp-Cell-inputWrapper"><div>code</div></div>'
CODE = f'<div class="jp-Cell">\n<div class="jp-Cell" id="cell-id={{id}}">{INPUT}<div>output</div></div>\n</div>'


@pytest.fixture(scope="module")
def hooks():
    return docs_script("hooks")


def png(width):
    header = b"\x89PNG\r\n\x1a\n" + b"\x00\x00\x00\rIHDR" + width.to_bytes(4, "big") + (50).to_bytes(4, "big")
    return base64.b64encode(header + bytes(30)).decode()


def notebook(tmp_path, *cells):
    """The page of a notebook with these cells."""
    path = tmp_path / "03.ipynb"
    path.write_text(json.dumps({"cells": cells}), encoding="utf-8")
    file = types.SimpleNamespace(src_uri="notebooks/03.ipynb", abs_src_path=str(path))
    return types.SimpleNamespace(file=file, meta={})


def cell(name="a", alt="", figures=0, tags=()):
    return {
        "id": name,
        "metadata": {"alt": alt, "tags": list(tags)},
        "outputs": figures * [{"data": {"image/png": ""}}],
    }


def test_each_figure_has_the_text_of_its_cell_and_a_wide_one_is_marked(hooks, tmp_path):
    page = notebook(tmp_path, cell("a", "first & best", 1), cell("b"), cell("c", "a pair", 2))
    content = IMAGE.format(png=png(1000)) + IMAGE.format(png=png(1001)) + IMAGE.format(png=png(400))
    assert hooks.on_page_content(content, page) == (
        f'<img alt="first &amp; best" class="" src="data:image/png;base64,{png(1000)}">'
        f'<img alt="a pair" class="wide" src="data:image/png;base64,{png(1001)}">'
        f'<img alt="a pair" class="" src="data:image/png;base64,{png(400)}">'
    )


def test_a_cell_of_tests_is_folded_as_a_whole(hooks, tmp_path):
    page = notebook(tmp_path, cell("a"), cell("b", tags=["checks"]))
    content = CODE.format(id="a") + CODE.format(id="b") + "<p>end</p>"
    summary = "<summary>Show the assertions that check this page</summary>"
    fold = f'<details class="checked">{summary}{CODE.format(id="b")}</details>'
    assert hooks.on_page_content(content, page) == f"{CODE.format(id='a')}{fold}<p>end</p>"


def test_of_a_cell_that_only_draws_the_code_is_folded_and_the_figure_stays(hooks, tmp_path):
    page = notebook(tmp_path, cell("a"), cell("b", tags=["plot"]))
    content = CODE.format(id="a") + CODE.format(id="b")
    fold = f'<details class="checked"><summary>Show the code of this figure</summary>{INPUT}</details>'
    assert hooks.on_page_content(content, page) == CODE.format(id="a") + CODE.format(id="b").replace(INPUT, fold)


def test_the_simplex_stands_where_a_notebook_names_it(hooks, tmp_path):
    made_of = hooks.on_page_content("<p>a</p><!-- simplex --><p>b</p>", notebook(tmp_path, cell()))
    assert made_of.startswith('<p>a</p><section id="simplex"')
    assert made_of.endswith('<script src="../assets/simplex/start.js"></script><p>b</p>')


def test_only_notebook_pages_change(hooks):
    assert hooks.on_page_content(IMAGE, page_of("index.md")) == IMAGE


SESSION = "```python\n>>> print(1, end='')\n\n1\n```"
INDENTED = SESSION.replace("\n", "\n    ").replace("\n    \n", "\n\n")


def page_of(source):
    return types.SimpleNamespace(file=types.SimpleNamespace(src_uri=source), meta={})


def made(hooks, source, markdown):
    return hooks.on_page_markdown(markdown, page_of(source))


@pytest.mark.parametrize("source", ["results/compare.md", "llm/index.md", "findings/clip.md"])
def test_sessions_that_check_a_page_are_folded_unless_they_are_wanted(hooks, source):
    assert made(hooks, source, f"a\n\n{SESSION}\n\nb") == f'a\n\n??? checked "Checked by"\n\n    {INDENTED}\n\nb'
    assert made(hooks, source, f"a\n\n<!-- shown -->\n{SESSION}") == f"a\n\n{SESSION}"


def test_sessions_of_other_pages_are_shown_unless_they_are_to_be_folded(hooks):
    assert made(hooks, "theory/t1.md", f"a\n\n{SESSION}\n\nb") == f"a\n\n{SESSION}\n\nb"
    assert made(hooks, "index.md", f"<!-- folded -->\n{SESSION}") == f'??? checked "Checked by"\n\n    {INDENTED}'


def test_a_session_in_a_list_is_folded_in_its_place(hooks):
    deeper = INDENTED.replace("\n    ", "\n        ")
    assert (
        made(hooks, "llm/a.md", f"1. a\n\n    {INDENTED}")
        == f'1. a\n\n    ??? checked "Checked by"\n\n        {deeper}'
    )


def test_blocks_that_are_no_sessions_stay(hooks):
    block = "```bash\nmake docs\n```"
    assert made(hooks, "llm/index.md", block) == block


def table(columns):
    head = "".join(f"<th>c{k} &amp;</th>" for k in range(columns))
    cells = "".join(f'<td style="x">1.{k} [-0.5, 2]</td>' for k in range(columns))
    return f"<table>\n<thead>\n<tr>{head}</tr></thead><tbody><tr>\n{cells}</tr></tbody></table>"


def test_intervals_stand_below_their_numbers_and_the_cells_of_wide_tables_name_their_column(hooks):
    narrow = hooks.on_page_content(table(4), page_of("results/a.md"))
    assert '<td style="x">1.1<span class="interval"> [-0.5, 2]</span></td>' in narrow
    assert "data-" not in narrow
    wide = hooks.on_page_content(f"{table(6)} {table(4)}", page_of("results/a.md"))
    assert [f'<td data-label="c{k} &amp;" style="x">1.{k}<span' in wide for k in range(6)] == [True] * 6
    assert wide.count('<table data-columns="6">') == 1
    assert wide.count("data-label") == 6


def test_pages_of_results_take_the_width_of_the_contents(hooks):
    results, other = page_of("results/compare.md"), page_of("theory/t1.md")
    hooks.on_page_markdown("", results)
    hooks.on_page_markdown("", other)
    assert (results.meta, other.meta) == ({"hide": ["toc"]}, {})
