"""One word, one thing: the names of the package, and the names that the glossary gives, are held together here."""

import ast
import re
from collections import defaultdict
from pathlib import Path

import dar_ref

PACKAGE = Path(dar_ref.__file__).parent
ROOT = PACKAGE.parent
FILES = sorted(PACKAGE.rglob("*.py"))
TREES = {path.relative_to(PACKAGE): ast.parse(path.read_text(encoding="utf-8")) for path in FILES}

SAME_CLASS: dict[str, str] = {  # classes of one name, and why they may have it
}
EXACT = "the same quantity in ball arithmetic, the judge of the float64 function"
ENTRY = "what a command does"
ENGINES = "the same thing on each engine: the bandit, the toy engine, the language models"
SAME_FUNCTION = {  # public functions of one name in several layers, and why they may have it
    **dict.fromkeys(("dual_kl", "fixed_point", "kl", "objective", "optimum"), EXACT),
    **dict.fromkeys(("regression_loss", "regression_target", "sampled_advantages", "sampled_target"), EXACT),
    **dict.fromkeys(("main", "run"), ENTRY),
    **dict.fromkeys(("frontier_figure", "log_probs", "method_loss", "sample", "train", "tune"), ENGINES),
    "positive": "the theory's, with its rule for infinity, reads that of `scalars`",
    "non_negative": "the theory's, with its rule for infinity, reads that of `scalars`",
    "conflict_figure": "the conflict as a picture: on the simplex, and along training",
    "table": "rows as a table: in HTML, in Markdown",
    "weight_figure": "DAR's weights as a picture: of samples of a bandit, and along training",
}
ALONE = "minimal"  # the method in one file each, which repeats on purpose what the package has

FORBIDDEN = {  # word: what is written instead
    "answers": "what they are: completions, responses, scores",
    "border": "boundary",
    "clip_eps": "epsilon",
    "course": "path",
    "infinity": "inf",
    "inner_epochs": "epochs_per_rollout",
    "judging": "statement",
    "knob": "what_would_fit",
    "kl_optimum": "kl_optimum_to_pi",
    "knobs": "what_would_fit",
    "phases": "peaks",
    "statements_best": "t07_best_policy",
}
NOT_DRAWN = {  # functions with `figure` in their name that draw nothing
    ("demo/html.py", "figure"),  # a plot as an HTML element
}


def defined(kinds, *, public_only=True):
    """Name -> files, of what the files define at their top level."""
    places = defaultdict(list)
    for path, tree in TREES.items():
        for node in tree.body:
            if isinstance(node, kinds) and path.parts[0] != ALONE and not (public_only and node.name.startswith("_")):
                places[node.name].append(path)
    return places


def names_of(tree):
    """What a reader of the package meets: functions, classes, parameters, fields, constants, keys and short texts."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.isidentifier():
            yield node.value
        if isinstance(node, ast.ClassDef | ast.Module):
            for part in node.body:
                targets = part.targets if isinstance(part, ast.Assign) else [getattr(part, "target", None)]
                yield from (target.id for target in targets if isinstance(target, ast.Name))


def words(name):
    """The words of an identifier: `course_figure` and `CourseFigure` are course and figure."""
    return {word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z0-9]+", name)} | {name.lower()}


def test_no_two_classes_share_a_name():
    shared = {name for name, places in defined(ast.ClassDef).items() if len(places) > 1}
    assert shared == set(SAME_CLASS)


def test_no_two_layers_use_one_name_for_two_functions():
    shared = {n for n, places in defined(ast.FunctionDef).items() if len({path.parts[0] for path in places}) > 1}
    assert shared == set(SAME_FUNCTION)


def test_words_that_do_not_explain_themselves_are_no_names():
    said = {
        (str(path), word)
        for path, tree in TREES.items()
        if path.parts[0] != ALONE
        for name in {*path.with_suffix("").parts, *names_of(tree)}
        for word in words(name) & set(FORBIDDEN)
    }
    assert said == set()


def test_figures_are_plots():
    """A function with `figure` in its name draws, or is on the list."""
    numbers = {
        (str(path), node.name)
        for path, tree in TREES.items()
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and words(node.name) & {"figure", "figures"} and not draws(node)
    }
    assert numbers == NOT_DRAWN


def draws(node):
    """Whether a function makes figures: it returns one or several, or saves them."""
    return "Figure" in ast.unparse(node.returns or ast.Constant(None)) or any(
        isinstance(part, ast.Attribute) and part.attr in ("savefig", "write_figures") for part in ast.walk(node)
    )


def test_a_report_is_html():
    """A function with `report` in its name writes a page, or is the command `dar-ref evaluate report`."""
    named = {(p, node.name) for p, tree in TREES.items() for node in tree.body if isinstance(node, ast.FunctionDef)}
    elsewhere = {name for path, name in named if "report" in words(name) and "evaluate" not in str(path)}
    assert elsewhere == {"write_report"}


def test_result_files_have_one_name():
    suffixes = {".py", ".md", ".ipynb", ".yaml", ".toml", ".yml"}
    folders = [ROOT / name for name in ("dar_ref", "docs", "notebooks", "tests")]
    texts = [path for folder in folders for path in folder.rglob("*") if path.suffix in suffixes]
    assert texts
    name = "result" + ".json"
    said = {str(p.relative_to(ROOT)) for p in [*texts, ROOT / "README.md"] if name in p.read_text(encoding="utf-8")}
    assert said == {"docs/project/changelog.md"}  # which says what it was called before


# --- the page ---------------------------------------------------------------------------------------------------------

PAGE = (ROOT / "docs/reference/glossary.md").read_text(encoding="utf-8")


def code_names():
    """Every identifier of the package: defined, read, passed, or a text by itself such as a key or a file's name."""
    for path, tree in TREES.items():
        yield from path.with_suffix("").parts
        for node in ast.walk(tree):
            if isinstance(node, ast.Name):
                yield node.id
            elif isinstance(node, ast.keyword) and node.arg:
                yield node.arg
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value
        yield from names_of(tree)


def test_the_glossary_names_what_the_code_has():
    known = set(code_names())
    listed = re.findall(r"`([^`]+)`", PAGE)
    shapes = re.compile(r"\(?[A-Z.*= ,()1+]*\)?")  # `(B, T)`, `N`, `B = N*K`
    names = {name for text in listed if not shapes.fullmatch(text) for name in pieces(text)}
    assert len(names) > 40
    prefixes = {name for name in names if name.endswith("_")}
    assert all(any(name.startswith(prefix) for name in known) for prefix in prefixes)
    assert names - known - prefixes == set()


def pieces(text):
    """The names in a piece of code: `kl(log_p, log_q)` has three; a file's name, or one with a dash, is one."""
    return [text] if re.fullmatch(r"[\w-]+(\.json|-\w+)", text) else re.findall(r"[A-Za-z_]\w+", text)
