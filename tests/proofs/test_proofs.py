"""The proofs are checked by Coq where `coqc` is there; what the pages quote and claim of them is checked everywhere.

A proof checker that accepts everything proves nothing, so a sign is broken in every statement: Coq must refuse it.
"""

import re
import shutil

import pytest

from tests.proofs import check

needs_coq = pytest.mark.skipif(not shutil.which("coqc"), reason="coqc is not there; `make proofs` installs it")
THEOREMS = {theorem.name: theorem for theorem in check.theorems()}
SOURCES = {name: (check.HERE / f"{name}.v").read_text(encoding="utf-8") for name in check.FILES}
DOCS = check.ROOT / "docs"
PAGES = {path: path.read_text(encoding="utf-8") for path in sorted(DOCS.rglob("*.md"))}

# One broken sign for each statement: what stands there once, and what to put in its place.
BROKEN = {
    "KL_nonneg": ("0 <= KL p q", "0 >= KL p q"),
    "KL_zero": ("p y = q y", "p y = - q y"),
    "gibbs": ("<= - E", ">= - E"),
    "lse_normalises": ("f y - lse f", "f y + lse f"),
    "lse_gap": ("lse f - (", "lse f + ("),
    "T1_finite": ("1 - alpha <> 0", "1 + alpha <> 0"),
    "T1": ("- ln (C", "+ ln (C"),
    "C_at_ends": ("C pi_0 pi_t 1 = 1", "C pi_0 pi_t 1 = - 1"),
    "C_le_1": ("alpha <= 1.", "alpha >= 1."),
    "C_eq_1": ("alpha = 1", "alpha = - 1"),
    "C_pos": ("0 < C", "0 > C"),
    "pi_ref_policy": ("0 < C", "0 <= C"),
    "T1_constant": ("0 <= - ln", "0 <= ln"),
    "T1_constant_zero": ("pi_0 y = pi_t y", "pi_0 y = - pi_t y"),
    "full_support": ("0 < pi_0 y", "0 <= pi_0 y"),
    "T1_renyi": ("(1 - alpha)", "(alpha - 1)"),
    "pi_star_policy": ("0 < C", "0 <= C"),
    "T2_value": ("= beta * ln", "= - beta * ln"),
    "T2_gap": ("- J", "+ J"),
    "T2_optimum": ("beta pi <= J", "beta pi >= J"),
    "regression_gap": ("- L", "+ L"),
    "regression_minimum": ("<= L", ">= L"),
    "T3_condition": ("alpha <> 1", "alpha <> - 1"),
    "T3": ("- L", "+ L"),
    "T3_restricted": ("= normalise", "= - normalise"),
    "T4": ("- L", "+ L"),
    "T4_proportions": ("w_clip <= w A pi_0 pi_t alpha beta y", "w_clip >= w A pi_0 pi_t alpha beta y"),
    "T4_moves": ("best z <", "best z >"),
    "pi_inf_policy": ("policy pi_0 ->", "~ policy pi_0 ->"),
    "T5_contraction": ("(1 - alpha)", "(1 + alpha)"),
    "T5_fixed_point": ("beta (pi_inf", "(- beta) (pi_inf"),
    "T5_one_step": ("pi_inf A pi_0 1 beta", "pi_inf A pi_0 1 (- beta)"),
    "T5_lost_support": ("alpha < 1", "alpha <= 1"),
    "T5_path": ("(1 - alpha)", "(1 + alpha)"),
    "T5_rate": ("(1 - alpha) ^ t * r", "- (1 - alpha) ^ t * r"),
    "T5_end": ("(pi_inf", "(- pi_inf"),
    "T5_unique": ("pi y = pi_inf", "pi y = - pi_inf"),
    "T5_end_is_optimal": ("<= E last", ">= E last"),
    "T5_alpha_0": ("A y = A z", "A y = - A z"),
    "T5_alpha_0_path": ("+ INR t", "- INR t"),
    "T5_alpha_0_run": ("exp (- (", "exp (("),
    "T5_weight_at_the_end": ("= Z", "= - Z"),
    "T5_clip_above": ("= last y", "= - last y"),
    "T5_clip_below": ("(- / alpha)", "(/ alpha)"),
    "T5_centred": ("pi y = pi_inf", "pi y = - pi_inf"),
    "T11": ("(1 - alpha)", "(1 + alpha)"),
    "T11_rate": (" <=\n", " >=\n"),
    "T11_falls": ("<= KL", ">= KL"),
    "T11_strict": ("< KL last", "> KL last"),
    "T11_limit": ("exp (alpha", "exp (- alpha"),
    "T6_identity": ("- ln", "+ ln"),
    "C_S_is_C": ("0 < alpha < 1", "0 <= alpha <= 1"),
    "T6_sound": (">= - ln", "<= - ln"),
    "T6_certificate": ("alpha < 0", "alpha > 0"),
    "T6_touching": ("pi y = pi_ref_S", "pi y = - pi_ref_S"),
    "T6_complete": ("0 <= margin", "0 >= margin"),
    "T6": ("+ ln", "- ln"),
    "T7_gap": ("(e_t - KL", "(e_t + KL"),
    "T7": ("E pi A <= E best A", "E pi A >= E best A"),
    "T7_conditions": ("best_in_region pi_0 pi_t e_0 e_t", "best_in_region pi_0 pi_t e_0 (- e_t)"),
    "T7_frontier": ("0 < beta", "0 > beta"),
    "T7_ball": ("+ ln", "- ln"),
    "T12": ("E (path t) A <= E", "E (path t) A >= E"),
    "T12_end": ("E q A <= E", "E q A >= E"),
    "T10_identity": ("(K - 1) / K", "(K + 1) / K"),
    "T10": ("(INR K - 1)", "(INR K + 1)"),
    "T10_leave_one_out": ("- loss", "+ loss"),
    "normalised_fixed_point": ("= 1 / (alpha", "= - 1 / (alpha"),
}
QUICK = {"gibbs", "T1", "T2_gap", "T4", "T11_falls", "T6", "T12_end", "T10", "normalised_fixed_point"}  # one a file


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    """A folder in which all files are compiled: every proof is complete."""
    folder = tmp_path_factory.mktemp("proofs")
    check.compile_all(folder)
    return folder


@needs_coq
def test_every_theorem_is_proved_from_the_axioms_of_the_library(build):
    everything = ", ".join(f"@{name}" for name in THEOREMS)
    library, all_theorems = check.axioms(
        build, [check.LIBRARY, "everything"], extra=f"Definition everything := ({everything})."
    )
    assert len(library) > 0
    assert all_theorems == library == check.committed()[check.LIBRARY]


@needs_coq
def test_a_proof_that_is_left_open_shows_up_as_an_axiom(build, tmp_path):
    for file in build.glob("*.vo"):
        shutil.copy(file, tmp_path)
    theorem = check.THEOREM.search(SOURCES["normalised"])
    (tmp_path / "open.v").write_text(SOURCES["normalised"].replace(theorem["proof"] + "Qed.", " Admitted."))
    assert check.coqc(tmp_path / "open.v").returncode == 0
    (found,) = check.axioms(tmp_path, [theorem["name"]], files=["open"])
    assert theorem["name"] in found


@needs_coq
@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in BROKEN]
)
def test_a_broken_sign_is_refused(name, build):
    theorem = THEOREMS[name]
    before, _, rest = SOURCES[theorem.file].partition(theorem.statement)
    proof, _, _ = rest.partition("Qed.")
    file = build / f"broken_{name}.v"
    file.write_text(f"{before}{theorem.statement.replace(*BROKEN[name])}{proof}Qed.\n", encoding="utf-8")
    outcome = check.coqc(file)
    assert outcome.returncode != 0
    line = int(re.search(r"line (\d+)", outcome.stderr)[1])
    statement_ends = before.count("\n") + theorem.statement.count("\n") + 1
    assert line > statement_ends, "not the proof fails, but the statement cannot be read"


def test_every_statement_has_one_sign_to_break():
    assert list(BROKEN) == list(THEOREMS)
    assert [name for name, (sign, _) in BROKEN.items() if THEOREMS[name].statement.count(sign) != 1] == []


def test_the_committed_assumptions_are_those_of_the_library_for_every_theorem():
    committed = check.committed()
    assert list(committed) == [check.LIBRARY, *THEOREMS]
    assert [name for name in THEOREMS if not committed[name] <= committed[check.LIBRARY]] == []
    assert check.ASSUMPTIONS.read_text(encoding="utf-8") == check.written(committed)
    assert check.TABLE.read_text(encoding="utf-8") == check.table(committed)


@pytest.mark.parametrize("name", check.FILES)
def test_nothing_is_assumed_or_left_open_in_the_text(name):
    text = re.sub(r"\(\*.*?\*\)", "", SOURCES[name], flags=re.DOTALL)
    forbidden = r"\b(Admitted|admit|give_up|Abort|Axioms?|Parameters?|Conjecture|Hypothes[ei]s|bypass_check|Unset)\b"
    assert re.findall(forbidden, text) == []
    assert text.count("Proof.") == text.count("Qed.")
    assert len(check.THEOREM.findall(text)) == len(re.findall(r"^Theorem ", text, flags=re.MULTILINE))


def test_whoever_reads_the_definitions_has_read_all_of_them():
    defining = {
        name
        for name in check.FILES
        if re.search(r"^ *(Definition|Fixpoint|Inductive|Notation|Infix) ", SOURCES[name], flags=re.MULTILINE)
    }
    assert defining == {"sums", "bandit", "examples"}


def test_all_files_are_in_the_list():
    assert sorted(check.FILES) == sorted(path.stem for path in check.HERE.glob("*.v"))


def quotations(text):
    """The pieces of a page's Coq blocks, split at empty lines, without the indentation of the block."""
    for indent, block in re.findall(r"^( *)```coq\n(.*?)^ *```", text, flags=re.MULTILINE | re.DOTALL):
        lines = [line.removeprefix(indent) for line in block.splitlines()]
        yield from filter(None, "\n".join(lines).split("\n\n"))


@pytest.mark.parametrize("path", [path for path, text in PAGES.items() if "```coq" in text], ids=lambda path: path.stem)
def test_what_a_page_quotes_stands_in_the_files(path):
    quoted = list(quotations(PAGES[path]))
    assert quoted
    assert [piece for piece in quoted if not any(piece in source for source in SOURCES.values())] == []


@pytest.mark.parametrize("page", ["t1", "t2", "t3", "t4", "t5", "t6", "t7", "t10", "t11", "t12"])
def test_a_theory_page_says_which_file_proves_it_and_quotes_its_theorem(page):
    section = (
        PAGES[DOCS / "theory" / f"{page}.md"].partition("## Proved for every finite bandit\n")[2].partition("\n## ")[0]
    )
    (file,) = re.findall(r"`tests/proofs/(\w+)\.v`", section)
    named = re.findall(r"`(T\d+\w*|\w+_\w+)`", section)
    assert named
    assert [name for name in named if THEOREMS[name].file != file] == []
    assert any(piece.startswith("Theorem T") for piece in quotations(section))
