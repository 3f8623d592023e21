"""The cache: what is damaged later is named with the folder to remove; two that make one folder leave it whole."""

import json
import shutil
import threading

import pytest

from dar_ref.toy import cache
from dar_ref.toy.config import RunConfig
from dar_ref.toy.experiments.runner import Job, run_jobs
from dar_ref.toy.start import load_start
from tests.small_start import SMALL


def cut(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def foreign(file):
    file.write_bytes(b"\x80\x04\x95\x05\x00\x00\x00\x00\x00\x00\x00]\x94.")  # a pickle


def a_folder(file):
    file.unlink()
    file.mkdir()


def one_bit(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


DAMAGE = {
    "cut": cut,
    "another format": foreign,
    "one bit": one_bit,
    "removed": lambda file: file.unlink(),
    "a folder": a_folder,
}
FILES = (
    *("sft/*/policy/model.safetensors", "sft/*/policy/config.json", "preferences/*/comparisons.json"),
    *("reward/*/reward_model/model.safetensors", "reward/*/metrics.json"),
)


@pytest.mark.usefixtures("start")  # it fills `toy_cache`
@pytest.mark.parametrize("pattern", FILES)
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_start_names_the_folder_to_remove_and_is_made_again_without_it(toy_cache, tmp_path, pattern, damage):
    for part in ("sft", "preferences", "reward"):
        shutil.copytree(toy_cache / part, tmp_path / part)
    (file,) = tmp_path.glob(pattern)
    DAMAGE[damage](file)
    folder = tmp_path.joinpath(*file.relative_to(tmp_path).parts[:2])
    with pytest.raises(ValueError, match=f"{folder} in the cache cannot be read .*; remove this folder") as refused:
        load_start(SMALL, tmp_path)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("content", ["", "[1]", '{"seconds": 1}', "{"])
def test_a_damaged_result_names_its_folder(tmp_path, content):
    job = Job("tiny", RunConfig(steps=1))
    folder = tmp_path / "runs" / job.key
    folder.mkdir(parents=True)
    (folder / "results.json").write_text(content)
    (folder / "run.json").write_text(json.dumps({}))
    with pytest.raises(ValueError, match=f"{folder} in the cache cannot be read"):
        run_jobs([job], tmp_path, 1)


def test_a_file_in_the_place_of_a_folder_is_named(tmp_path):
    (tmp_path / "a").write_text("")
    with pytest.raises(FileExistsError, match="is a file where the cache has a folder; remove it"):
        cache.made(tmp_path / "a", lambda _: None)


def test_two_that_make_one_folder_at_once_leave_it_whole(tmp_path):
    both = threading.Barrier(2)

    def make(folder):
        (folder / "part").write_text("one")
        both.wait(10)
        (folder / "rest").write_text("two")

    makers = [threading.Thread(target=cache.made, args=(tmp_path / "a", make)) for _ in range(2)]
    for maker in makers:
        maker.start()
    for maker in makers:
        maker.join()
    assert {name: (tmp_path / "a" / name).read_text() for name in ("part", "rest")} == {"part": "one", "rest": "two"}
    assert cache.read(tmp_path / "a", lambda folder: len(list(folder.iterdir()))) == 3  # and the hashes
    assert [folder.name for folder in tmp_path.iterdir()] == ["a"]
