"""Sentences of the results and findings that compare methods: each has its interval behind it.

The rule. A paragraph **compares** if it names two methods, or if one of its sentences names a method and has a word of
comparison ("better", "behind", "than"). Before the next paragraph or heading a session must compute an interval from
result files: it calls `paired_difference` or `student`, reads the `low` or `high` of a stored interval, or uses a name
of the page that was made so. An exact computation by `dar_ref.theory` stands for an interval of width zero, and a link
to a test of this suite for a statement that the test holds. Or the paragraph says aloud that there is nothing behind
it: "no test", "not tested", "not compared", "says nothing", "say nothing". Question, Setting and Command are what was
asked and done, not what came out, and are left out. A row of a table that a person wrote links to the page that has the
interval; the FAQ's rows too.

`test_docs.py` runs the sessions. That a session is about the very sentence above it, only a reader can see.
"""

import ast
import doctest
import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parent.parent / "docs"
PAGES = sorted([*(DOCS / "results").glob("*.md"), *(DOCS / "findings").glob("*.md")])
METHODS = {
    "DAR": r"\bDAR\b|`dar`",
    "DAO": r"\bDAO\b|`dao`",
    "GRPO": r"\bGRPO\b|`grpo`",
    "RLOO": r"\bRLOO\b|`rloo`",
    "dual PPO": r"\b[Dd]ual PPO\b|`dual_ppo`",
    "PPO": r"(?<![Dd]ual )\bPPO\b|`ppo`",
    "online DPO": r"\b[Oo]nline DPO\b|`online_dpo`",
    "DPO": r"(?<![Oo]nline )\bDPO\b|`dpo`",
    "IPO": r"\bIPO\b|`ipo`",
    "SLiC": r"\bSLiC\b|`slic`",
    "best-of-N": r"\b[Bb]est-of-N\b|best of four|`best_of_n`",
    "zero-sum DAR": r"\b[Zz]ero-sum\b",
}
COMPARATIVE = re.compile(
    r"\b(than|ahead|behind|better|worse|best|worst|higher|lower|highest|lowest|more|less|most|least|fewer|above|below"
    r"|larger|smaller|largest|smallest|nearer|further|furthest|longer|shorter|noisier|quieter|faster|slower|steadier"
    r"|wins|loses|beats?|leads?|differs?|equal|alike|as much as|as many as|as well as)\b"
)
NO_TEST = re.compile(r"\b(no test|not tested|not compared|says? nothing)\b")
ASKED = re.compile(r"\*\*(Question|Setting|Command)\.\*\*")
INTERVALS = {"paired_difference", "student", "low", "high"}
BLOCK = re.compile(r"^```python\n(.*?)^```", flags=re.MULTILINE | re.DOTALL)


def parts(text):
    """Paragraphs and sessions of a page in order, as ("prose" or "session", text); "break" at headings."""
    pieces = re.split(r"(^```\w*\n.*?^```\n)", text, flags=re.MULTILINE | re.DOTALL)
    for piece in pieces:
        if piece.startswith("```"):
            if match := BLOCK.match(piece):
                yield "session", match.group(1)
            continue
        for block in re.split(r"\n\s*\n", piece):
            first = block.lstrip()
            if first.startswith("#"):
                yield "break", first
            elif first and not first.startswith(("|", "!", "<!--", "--8<--", "\\[", "[results.json]")):
                yield "prose", plain(first)


def plain(block):
    """A paragraph without formulas and the addresses of its links, except those of tests."""
    without = re.sub(r"\\\(.*?\\\)|\\\[.*?\\\]", "", block, flags=re.DOTALL)
    return re.sub(r"\]\([^)]*\)|\]\[(?!tests\.)[^]]*\]", "]", without)


def compares(paragraph):
    """Whether it names two methods, or has a sentence that names one and a comparative."""

    def named(text):
        return [name for name, pattern in METHODS.items() if re.search(pattern, text)]

    if ASKED.match(paragraph):
        return False
    sentences = re.split(r"(?<=[.:;?!])\s+", paragraph)
    return len(named(paragraph)) > 1 or any(named(s) and COMPARATIVE.search(s) for s in sentences)


def has_leave(paragraph):
    """Whether it says that nothing is behind it, or names the test that is."""
    return bool(NO_TEST.search(paragraph)) or "][tests." in paragraph


def words(tree):
    """Names, attributes and string subscripts that a piece of code uses."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def source(session):
    return ast.parse("".join(example.source for example in doctest.DocTestParser().get_examples(session)))


def without_evidence(text):
    """The paragraphs of a page that compare methods with nothing behind them."""
    telling, open_paragraph, faults = INTERVALS | {"theory"}, None, []
    for kind, content in parts(text):
        if kind == "session":
            tree = source(content)
            for node in tree.body:  # a function, or a name, that is made of an interval tells as much as one
                if telling & set(words(node)):
                    telling |= {node.name} if isinstance(node, ast.FunctionDef) else set(targets(node))
            statements = [
                node for node in tree.body if not isinstance(node, ast.FunctionDef | ast.Import | ast.ImportFrom)
            ]
            if any(telling & set(words(node)) for node in statements):
                open_paragraph = None
            continue
        if open_paragraph is not None:
            faults.append(open_paragraph)
        compared = kind == "prose" and compares(content) and not has_leave(content)
        open_paragraph = content if compared else None
    return faults if open_paragraph is None else [*faults, open_paragraph]


def targets(node):
    return [
        name.id for target in getattr(node, "targets", []) for name in ast.walk(target) if isinstance(name, ast.Name)
    ]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_paragraph_that_compares_methods_has_its_interval_behind_it(path):
    assert without_evidence(path.read_text(encoding="utf-8")) == []


EVIDENCE = re.compile(r"\]\(((\.\./)?(results|findings|theory)/)?[\w-]+\.md[^)]*\)|\]\[tests\.")


def rows_without_page(text):
    """The rows of tables that compare methods and link to no page of results, findings or theory, and to no test."""
    rows = re.findall(r"^\|.*$(?!\n\| ?:?---)", text, flags=re.MULTILINE)  # without their heads
    return [row for row in rows if compares(plain(row)) and not EVIDENCE.search(row)]


@pytest.mark.parametrize("path", [*PAGES, DOCS / "faq.md"], ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_row_that_compares_methods_links_to_where_its_interval_is(path):
    assert rows_without_page(path.read_text(encoding="utf-8")) == []


def test_the_rule_for_rows_finds_a_bad_row_and_passes_a_good_one():
    assert len(rows_without_page("| DAR is ahead of GRPO | no |\n")) == 1
    assert len(rows_without_page("| DAR is ahead of GRPO | [methods](methods/dar.md) |\n")) == 1
    assert rows_without_page("| DAR is ahead of [GRPO](compare.md) |\n| DAR | one |\n") == []


SESSION = """```python
>>> from dar_ref.evaluation import paired_difference, student
>>> def ahead(first, second):
...     return paired_difference(first, second).low > 0
>>> {}

```"""


@pytest.mark.parametrize(
    ("page", "faults"),
    [
        ("DAR is ahead of GRPO.", 1),
        ("DAR is better.\n\nNothing else.", 1),
        ("DAR rose. It is steadier than before.", 0),  # the sentence with the comparative names no method
        ("DAR rose, and so did GRPO.", 1),
        ("Dual PPO fell.", 0),  # one method, not two
        ("**Question.** Is DAR ahead of GRPO?", 0),
        ("DAR is ahead of GRPO: that is not tested.", 0),
        ("[DAR is ahead of GRPO](compare.md) there.", 1),
        ("DAR is [ahead of GRPO][tests.toy.test_train.test_it].", 0),
        ("DAR is ahead of GRPO.\n\n" + SESSION.format("ahead(dar, grpo)"), 0),
        ("DAR is ahead of GRPO.\n\n" + SESSION.format("student(dar)"), 0),
        ("DAR is ahead of GRPO.\n\n" + SESSION.format("max(dar) > max(grpo)"), 1),  # defines an interval, uses none
        ("DAR is ahead of GRPO.\n\nA word between.\n\n" + SESSION.format("ahead(dar, grpo)"), 1),
        ("DAR is ahead of GRPO.\n\n## Why\n\n" + SESSION.format("ahead(dar, grpo)"), 1),
        ("DAR is ahead of GRPO.\n\n![DAR](a.png)\n\n" + SESSION.format("ahead(dar, grpo)"), 0),
        (SESSION.format("won = ahead(dar, grpo)") + "\n\nDAR wins.\n\n```python\n>>> won\nTrue\n\n```", 0),
        (SESSION.format("1") + "\n\nDAR wins.\n\n```python\n>>> max(dar)\n1\n\n```", 1),
        ("DAR is ahead of GRPO.\n\n```bash\nstudent\n```", 1),
    ],
)
def test_the_rule_finds_a_bad_paragraph_and_passes_a_good_one(page, faults):
    assert len(without_evidence(page + "\n")) == faults
