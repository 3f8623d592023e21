"""Rows are kept as soon as they are there, and never used if they changed."""

import json

import pytest

from dar_ref.llm.evaluate.store import RowFile, names, read_rows
from tests import file_faults

HEAD = {"policy": "p", "seed": 0}
BATCHES = [[{"id": "a", "text": "one\u2028"}, {"id": "b", "text": "\ud800"}], [{"id": "c", "text": "three"}]]
ORDER = [("c",), ("a",), ("b",)]
EXPECTED = [BATCHES[1][0], *BATCHES[0]]


def work(folder, head=None):
    return RowFile(folder / "rows", head or HEAD, ["id"])


def do(folder):
    """Do what is left of the work; returns the batches that it did."""
    found, did = work(folder), []
    for batch in BATCHES if not found.finished else ():
        if any((row["id"],) not in found.rows for row in batch):
            found.add(batch)
            did.append(batch)
    if not found.finished:
        found.finish(ORDER)
    return did


def test_a_finished_work_has_its_rows_in_order_and_is_read_back(tmp_path):
    assert do(tmp_path) == BATCHES
    assert read_rows(tmp_path / "rows").rows == EXPECTED
    assert [json.loads(line)["id"] for line in (tmp_path / "rows.jsonl").read_text().splitlines()] == ["c", "a", "b"]
    assert names(tmp_path) == ["rows"]
    assert do(tmp_path) == []


def test_a_kill_or_a_full_disk_at_any_operation_loses_at_most_one_batch(tmp_path):
    for stop in (file_faults._kill, no_room):
        for at in range(1, 40):
            folder = tmp_path / f"{stop.__name__} {at}"
            folder.mkdir()
            done = 0
            try:
                with file_faults.stopped_at(at, stop) as happened:
                    done = len(do(folder))
            except OSError:
                happened = [True]
            again = do(folder)
            assert read_rows(folder / "rows").rows == EXPECTED
            if not happened:
                assert (done, again) == (2, [])
                break
        assert at > 8


def no_room():
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("keep", [0.2, 0.5, 0.9])
def test_a_line_that_was_cut_off_is_made_again_and_the_others_are_not(tmp_path, keep):
    first = work(tmp_path)
    for batch in BATCHES:
        first.add(batch)
    file = tmp_path / "rows.partial.jsonl"
    lines = file.read_text().splitlines(keepends=True)
    file.write_text(lines[0] + lines[1][: int(keep * len(lines[1]))])
    assert set(work(tmp_path).rows) == {("a",), ("b",)}
    assert do(tmp_path) == BATCHES[1:]
    assert read_rows(tmp_path / "rows").rows == EXPECTED


def test_one_bit_of_a_batch_is_made_again(tmp_path):
    first = work(tmp_path)
    for batch in BATCHES:
        first.add(batch)
    file = tmp_path / "rows.partial.jsonl"
    file.write_text(file.read_text().replace("one", "ona"))
    assert set(work(tmp_path).rows) == {("c",)}
    assert do(tmp_path) == BATCHES[:1]
    assert read_rows(tmp_path / "rows").rows == EXPECTED


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json"])
@pytest.mark.parametrize(
    "damage",
    [lambda t: t[: len(t) // 2], lambda _: "", lambda t: t.replace("three", "four").replace('"p"', "5")],
    ids=["half", "empty", "changed"],
)
def test_a_finished_file_that_was_changed_is_refused_by_name(tmp_path, name, damage):
    do(tmp_path)
    file = tmp_path / name
    file.write_text(damage(file.read_text()))
    with pytest.raises(ValueError, match=r"rows"):
        work(tmp_path)


def test_a_finished_file_that_is_missing_is_refused_by_name(tmp_path):
    do(tmp_path)
    (tmp_path / "rows.jsonl").unlink()
    with pytest.raises(ValueError, match=r"rows.jsonl is damaged or not finished.*remove .*rows.json and"):
        work(tmp_path)


@pytest.mark.parametrize("finished", [True, False])
def test_rows_of_something_else_are_refused(tmp_path, finished):
    if finished:
        do(tmp_path)
    else:
        work(tmp_path).add(BATCHES[0])
    with pytest.raises(ValueError, match="made from something else: seed = 0 there and 1 here"):
        work(tmp_path, {**HEAD, "seed": 1})


def test_a_work_that_is_reopened_keeps_the_other_rows_at_every_operation(tmp_path):
    for at in range(1, 40):
        folder = tmp_path / str(at)
        folder.mkdir()
        do(folder)
        with file_faults.stopped_at(at) as happened:
            again = work(folder)
            again.reopen([("c",)])
            again.add([{"id": "c", "text": "new"}])
            again.finish(ORDER)
        found = work(folder)
        assert {("a",), ("b",)} <= set(found.rows)
        if not happened:
            assert found.rows["c",]["text"] == "new"
            break
    assert at > 4
