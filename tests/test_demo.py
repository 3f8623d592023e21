"""A short `dar-ref demo` end to end: its files, the same bytes from the same seed, a page that loads nothing."""

import json
import re
import struct
from dataclasses import replace

import pytest
import torch

from dar_ref import cli, results, theory
from dar_ref.bandit import digits_config
from dar_ref.demo import page, run


@pytest.fixture
def short(monkeypatch):
    monkeypatch.setattr(run, "CASES", 5)
    monkeypatch.setattr(run, "SEEDS", 2)
    monkeypatch.setattr(run, "digits_config", lambda method: replace(digits_config(method), steps=4))


@pytest.mark.usefixtures("short")
def test_demo_writes_everything_and_repeats_to_the_byte(tmp_path, capsys):
    threads = torch.get_num_threads()
    assert cli.main(["demo", "--out", str(tmp_path / "one"), "--seed", "3"]) == 0
    assert cli.main(["demo", "--out", str(tmp_path / "two"), "--seed", "3"]) == 0
    assert torch.get_num_threads() == threads
    names = {p.name for p in (tmp_path / "one").iterdir()}
    figures = {f"{name}.png" for name in page.FIGURES}
    assert names == {"results.json", "run.json", "report.html"} | figures
    for name in {"results.json", "report.html"} | figures:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name
    content = json.loads((tmp_path / "one" / "results.json").read_text(encoding="utf-8"))
    assert content["verify"]["passed"] is True
    assert content["digits"]["seeds"] == [3, 4]
    assert set(content["digits"]["runs"]) == {"dar", "grpo", "dao"}
    assert all(len(run["gold"]) == 4 for runs in content["digits"]["runs"].values() for run in runs.values())
    info = json.loads((tmp_path / "one" / "run.json").read_text(encoding="utf-8"))
    assert info["command"] == "dar-ref demo --seed 3"
    assert info["packages"]["numpy"]
    printed = capsys.readouterr().out
    assert re.search(r"(\d+) of \1 statements pass", printed)


@pytest.mark.usefixtures("short")
def test_another_seed_gives_other_results(tmp_path):
    for seed in ("0", "5"):
        assert cli.main(["demo", "--out", str(tmp_path / seed), "--seed", seed]) == 0
    one, two = (json.loads((tmp_path / s / "results.json").read_text(encoding="utf-8")) for s in ("0", "5"))
    assert one["digits"]["start"]["0"] != two["digits"]["start"]["5"]
    assert one["verify"]["statements"][0]["worst"] != two["verify"]["statements"][0]["worst"]


@pytest.mark.usefixtures("short")
def test_a_demo_of_another_seed_does_not_overwrite_one(tmp_path, capsys):
    assert cli.main(["demo", "--out", str(tmp_path)]) == 0
    assert cli.main(["demo", "--out", str(tmp_path), "--seed", "1"]) == 2
    assert "holds what `dar-ref demo --seed 0` has written" in capsys.readouterr().err
    with results.locked(tmp_path):
        assert cli.main(["demo", "--out", str(tmp_path)]) == 2
    assert "wait until it ends" in capsys.readouterr().err


@pytest.mark.usefixtures("short")
def test_the_page_is_self_contained_and_says_what_the_file_says(tmp_path):
    cli.main(["demo", "--out", str(tmp_path)])
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert re.findall(r"(?:src|href)=\"(?!data:)", text) == []
    assert "http" not in text
    assert text.count("<img ") == text.count('alt="') == len(page.FIGURES)
    content = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    ends = [run["gold"][-1] for run in content["digits"]["runs"]["dar"].values()]
    assert f"{sum(ends) / len(ends):.3f} [{min(ends):.2f}, {max(ends):.2f}]" in text
    for statement in content["verify"]["statements"]:
        assert f"{statement['worst']:.1e}" in text
    for name in page.FIGURES:
        data = (tmp_path / f"{name}.png").read_bytes()
        width, height = struct.unpack(">II", data[16:24])
        assert width > 800
        assert height > 350


@pytest.mark.usefixtures("short")
def test_a_failed_statement_fails_the_demo(tmp_path, monkeypatch):
    monkeypatch.setattr(theory, "kl", lambda p, q: theory.renyi(p, q, 0.5))
    assert cli.main(["demo", "--out", str(tmp_path)]) == 1
    assert "FAIL" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_a_place_that_cannot_be_written_is_refused_before_the_work(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(run, "verify", lambda *_, **__: pytest.fail("worked before checking"))
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    assert cli.main(["demo", "--out", str(blocked)]) == 2
    assert str(blocked) in capsys.readouterr().err


def test_result_files_are_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "results.json"
    results.write_json(path, {"b": 1, "a": [0.1]})
    before = path.read_bytes()
    with pytest.raises(ValueError, match="not JSON compliant"):
        results.write_json(path, {"a": float("nan")})
    assert path.read_bytes() == before
    assert json.loads(before) == {"a": [0.1], "b": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["results.json"]


def test_run_info_names_versions_and_commit(tmp_path, monkeypatch):
    info = results.run_info("some command", started=0.0)
    assert info["command"] == "some command"
    assert info["seconds"] > 1e9
    assert (
        info["packages"]["torch"] == torch.__version__.split("+")[0] or info["packages"]["torch"] == torch.__version__
    )
    assert info["commit"] is None or re.fullmatch(r"[0-9a-f]{40}(-dirty)?", info["commit"])
    monkeypatch.setattr(results, "__file__", str(tmp_path / "module.py"))
    assert results.run_info("x", 0.0)["commit"] is None
    monkeypatch.setattr(results, "PACKAGES", ("no-such-package",))
    assert results.run_info("x", 0.0)["packages"] == {}
