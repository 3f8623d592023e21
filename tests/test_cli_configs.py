"""`dar-ref configs` copies what the package brings, and overwrites nothing."""

from dar_ref import cli
from dar_ref.llm.options import CONFIGS, load_options


def test_configurations_are_copied_and_can_be_run(tmp_path, capsys):
    assert cli.main(["configs", str(tmp_path / "a" / "b")]) == 0
    listed = capsys.readouterr().out.split()
    assert listed == sorted(str(tmp_path / "a" / "b" / p.relative_to(CONFIGS)) for p in CONFIGS.rglob("*.yaml"))
    assert load_options(tmp_path / "a" / "b" / "toy_cpu.yaml") == load_options("toy_cpu")
    copied = (tmp_path / "a" / "b" / "accelerate" / "fsdp2.yaml").read_text()
    assert copied == (CONFIGS / "accelerate" / "fsdp2.yaml").read_text()


def test_nothing_is_written_where_one_of_the_files_is(tmp_path, capsys):
    (tmp_path / "accelerate").mkdir()
    (tmp_path / "accelerate" / "zero3.yaml").write_text("mine")
    assert cli.main(["configs", str(tmp_path)]) == 2
    assert "zero3.yaml is there already; remove it" in capsys.readouterr().err
    assert [p.name for p in tmp_path.rglob("*.yaml")] == ["zero3.yaml"]
    assert (tmp_path / "accelerate" / "zero3.yaml").read_text() == "mine"
