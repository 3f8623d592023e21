"""2N steps equal N steps, a kill, and N resumed steps, bit for bit; and a resumed run refuses what does not fit."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from dar_ref.llm import keeper, train
from dar_ref.llm.checkpoint import STOPPED, content_hash
from dar_ref.llm.options import make_options, options_as_json
from tests.llm.training import options

SAVED = {"save_strategy": "steps", "save_steps": 2, "max_steps": 6, "gradient_accumulation_steps": 2}
LORA = {"r": 3, "alpha": 6}


def run_of(exported, training=(), **rest):
    return options(exported, training={**SAVED, **dict(training)}, **rest)


def weights(folder):
    return {file.name: load_file(file) for file in (folder / "policy").glob("*.safetensors")}


def assert_same(first, second, ignored=()):
    found, expected = weights(first), weights(second)
    assert found.keys() == expected.keys()
    for name, tensors in expected.items():
        assert tensors.keys() == found[name].keys()
        assert all(torch.equal(tensors[key], found[name][key]) for key in tensors)
    logs = [json.loads((folder / "results.json").read_text())["log"] for folder in (first, second)]
    assert_same_logs(*logs, ignored)


def assert_same_logs(first, second, ignored):
    rows = [[{k: v for k, v in row.items() if k not in ignored} for row in log] for log in (first, second)]
    assert rows[0] == rows[1]


class KilledError(Exception):
    pass


def killed_run(chosen, out, monkeypatch, after):
    """Train for `after` steps and die in the middle of the next one, like a run that is killed."""
    make = train.make_trainer

    def dying(*args, **kwargs):
        trainer = make(*args, **kwargs)
        training_step = trainer.training_step

        def step(*inputs):
            if trainer.state.global_step == after:
                raise KilledError
            return training_step(*inputs)

        trainer.training_step = step
        return trainer

    with monkeypatch.context() as patch:
        patch.setattr(train, "make_trainer", dying)
        with pytest.raises(KilledError):
            train.train(chosen, out)


@pytest.mark.parametrize(
    ("method", "lora", "training", "generation"),
    [
        ("dar", None, {}, {}),
        ("dar", LORA, {}, {}),
        ("dar", None, {}, {"num_iterations": 2}),  # a rollout lasts two steps
        ("dar", None, {}, {"steps_per_generation": 4}),
        ("dar", None, {"max_steps": 14, "gradient_accumulation_steps": 4}, {}),  # into a second epoch
        ("ppo_critic_free", None, {}, {}),
        ("dao", None, {}, {}),
        ("dual_ppo_critic_free", None, {}, {}),
        ("grpo", None, {"max_steps": 14, "gradient_accumulation_steps": 4}, {}),
        ("rloo", None, {"max_steps": 14, "gradient_accumulation_steps": 4}, {}),
        ("online_dpo", None, {"max_steps": 14, "per_device_train_batch_size": 4}, {}),
        ("dpo", None, {"max_steps": 14, "per_device_train_batch_size": 32}, {}),
        ("dar_offline", None, {"max_steps": 14, "per_device_train_batch_size": 32}, {}),
    ],
    ids=str,
)
def test_a_killed_run_goes_on_bit_for_bit(exported, tmp_path, monkeypatch, method, lora, training, generation):
    chosen = run_of(exported, method=method, lora=lora, training=training, generation=generation)
    train.train(chosen, tmp_path / "whole")
    killed_run(chosen, tmp_path / "killed", monkeypatch, after=5)
    train.train(chosen, tmp_path / "killed", resume=True)
    counter = ("num_tokens",) if method == "dpo" else ()  # TRL's DPO does not save it
    assert_same(tmp_path / "killed", tmp_path / "whole", counter)


def test_a_run_that_ends_inside_a_rollout_buffer_goes_on_from_the_boundary_before(exported, tmp_path):
    """transformers saves the last step wherever it is; the buffer is not in a checkpoint."""
    constant = {"save_steps": 4, "lr_scheduler_type": "constant"}
    shorter, longer = (
        run_of(exported, training={**constant, "max_steps": steps}, generation={"num_iterations": 4})
        for steps in (6, 8)
    )
    train.train(shorter, tmp_path / "prolonged")
    assert [folder.name for folder in (tmp_path / "prolonged" / "checkpoints").glob("checkpoint-*")] == ["checkpoint-4"]
    train.train(longer, tmp_path / "prolonged", resume=True)
    train.train(longer, tmp_path / "whole")
    assert_same(tmp_path / "prolonged", tmp_path / "whole")


def test_two_runs_are_the_same_bytes(exported, tmp_path):
    chosen = run_of(exported)
    for out in ("first", "second"):
        train.train(chosen, tmp_path / out)
    assert_same(tmp_path / "first", tmp_path / "second")


def test_a_checkpoint_that_was_cut_off_is_passed_over(exported, tmp_path, monkeypatch):
    chosen = run_of(exported)
    train.train(chosen, tmp_path / "whole")
    killed_run(chosen, tmp_path / "killed", monkeypatch, after=5)
    last = tmp_path / "killed" / "checkpoints" / "checkpoint-4"
    (last / "pi_0.json").unlink()
    next(last.glob("*.safetensors")).write_bytes(b"half a file")
    train.train(chosen, tmp_path / "killed", resume=True)
    assert_same(tmp_path / "killed", tmp_path / "whole")


def test_what_was_cut_off_is_said(exported, tmp_path, monkeypatch, capsys):
    chosen = run_of(exported)
    train.train(chosen, tmp_path / "new", resume=True)
    assert "no whole checkpoint; the run begins from the start" in capsys.readouterr().err
    killed_run(chosen, tmp_path / "run", monkeypatch, after=5)
    (tmp_path / "run" / "checkpoints" / "checkpoint-4" / "pi_0.json").unlink()
    train.train(chosen, tmp_path / "run", resume=True)
    said = capsys.readouterr().err
    assert "goes on from" in said
    assert "(checkpoint-4: no whole checkpoint, cut off" in said


@pytest.mark.parametrize("left", ["policy and results", "policy cut off", "nothing"])
def test_a_finished_run_takes_no_further_step(exported, tmp_path, capsys, left):
    """Finished, or killed at any moment of the final save."""
    chosen = run_of(exported)
    train.train(chosen, tmp_path / "whole")
    shutil.copytree(tmp_path / "whole", tmp_path / "again")
    if left != "policy and results":
        (tmp_path / "again" / "results.json").unlink()
        policy = tmp_path / "again" / "policy"
        policy.rename(policy.with_name("policy.partial")) if left == "policy cut off" else shutil.rmtree(policy)
    assert train.train(chosen, tmp_path / "again", resume=True).trainer.state.global_step == SAVED["max_steps"]
    assert "nothing is left to train" in capsys.readouterr().err
    assert_same(tmp_path / "again", tmp_path / "whole")
    names = ("results.json", "policy/model.safetensors")
    assert all((tmp_path / "again" / n).read_bytes() == (tmp_path / "whole" / n).read_bytes() for n in names)
    found = sorted(path.name for path in (tmp_path / "again").iterdir())
    assert found == ["checkpoints", "policy", "results.json", "run.json"]
    assert not list((tmp_path / "again").glob("checkpoints/checkpoint-7"))


def test_a_finished_run_keeps_its_best_policy(exported, tmp_path):
    """The shortest answers are asked for, so that an early checkpoint is the best one."""
    training = {
        "eval_strategy": "steps",
        "eval_steps": 2,
        "load_best_model_at_end": True,
        "metric_for_best_model": "eval_reward",
        "greater_is_better": False,
    }
    content = options_as_json(run_of(exported, training=training))
    prompts = {"eval_prompts": str(exported / "prompts" / "validation.jsonl"), "limit": 16}
    chosen = make_options(content | {"data": content["data"] | prompts})
    done = train.train(chosen, tmp_path)
    assert Path(done.trainer.state.best_model_checkpoint).name != "checkpoint-6"  # or nothing is tested here
    before = (tmp_path / "policy" / "model.safetensors").read_bytes()
    train.train(chosen, tmp_path, resume=True)
    assert (tmp_path / "policy" / "model.safetensors").read_bytes() == before


def test_data_reward_model_and_server_may_move_if_they_stay_the_same(exported, tmp_path):
    shutil.copytree(exported, tmp_path / "before")

    def chosen(folder, steps):
        content = options_as_json(run_of(exported, training={"max_steps": steps}))
        reward = {"kind": "model", "name": str(folder / "reward_model"), "dtype": "float32", "separator": " "}
        data = content["data"] | {"prompts": str(folder / "prompts" / "train.jsonl")}
        return make_options(content | {"reward": reward, "data": data})

    train.train(chosen(tmp_path / "before", 2), tmp_path / "run")
    (tmp_path / "before").rename(tmp_path / "after")
    done = train.train(chosen(tmp_path / "after", 4), tmp_path / "run", resume=True)
    assert done.trainer.state.global_step == 4


def test_a_run_beyond_its_last_step_is_refused(exported, tmp_path):
    train.train(run_of(exported), tmp_path)
    with pytest.raises(ValueError, match="at step 6 already, beyond its 4 steps; raise"):
        train.train(run_of(exported, training={"max_steps": 4}), tmp_path, resume=True)


PARTS = ["optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json", "model.safetensors", "config.json"]


@pytest.fixture(scope="module")
def two_steps(exported, tmp_path_factory):
    """A run of two steps with its checkpoint, to be copied."""
    out = tmp_path_factory.mktemp("two_steps") / "run"
    train.train(run_of(exported, training={"max_steps": 2}), out)
    return out


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("damage", ["missing", "changed", "cut"])
def test_a_checkpoint_is_whole_or_refused_by_name(exported, two_steps, tmp_path, part, damage):
    shutil.copytree(two_steps, tmp_path / "run")
    file = tmp_path / "run" / "checkpoints" / "checkpoint-2" / part
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.unlink() if damage == "missing" else file.write_bytes(content if damage == "changed" else content[:10])
    word = "is missing" if damage == "missing" else "was changed"
    with pytest.raises(ValueError, match=f"checkpoint-2 is damaged: {part} {word}; .* remove the folder"):
        train.train(run_of(exported, training={"max_steps": 4}), tmp_path / "run", resume=True)


@pytest.mark.parametrize("mark", ["", "{}", "[]", "null", '{"sha256": "0", "options": {}}', '{"sha256": 1'])
def test_a_damaged_mark_is_refused_by_name(exported, two_steps, tmp_path, mark):
    shutil.copytree(two_steps, tmp_path / "run")
    (tmp_path / "run" / "checkpoints" / "checkpoint-2" / "pi_0.json").write_text(mark)
    with pytest.raises(ValueError, match=r"pi_0.json is damaged, or of another version .* remove the folder"):
        train.train(run_of(exported, training={"max_steps": 4}), tmp_path / "run", resume=True)


def test_checkpoints_that_lack_the_optimizer_are_refused_before_the_run(exported, tmp_path):
    with pytest.raises(ValueError, match="save_only_model = True leaves out what --resume needs"):
        train.train(run_of(exported, training={"save_only_model": True}), tmp_path)


@pytest.mark.parametrize("limit", [1, 2])
def test_a_kill_before_the_mark_leaves_a_whole_checkpoint(exported, tmp_path, monkeypatch, limit):
    chosen = run_of(exported, training={"save_total_limit": limit})
    train.train(chosen, tmp_path / "whole")
    assert len(list((tmp_path / "whole" / "checkpoints").glob("checkpoint-*"))) == limit

    def killed(self, args, state, control, **_):
        if state.global_step == 4:
            raise KilledError
        return usual(self, args, state, control)

    usual = keeper.Keeper.on_save
    with monkeypatch.context() as patch:
        patch.setattr(keeper.Keeper, "on_save", killed)
        with pytest.raises(KilledError):
            train.train(chosen, tmp_path / "killed")
    marks = sorted(path.parent.name for path in (tmp_path / "killed" / "checkpoints").glob("*/pi_0.json"))
    assert marks == ["checkpoint-2"]
    train.train(chosen, tmp_path / "killed", resume=True)
    assert_same(tmp_path / "killed", tmp_path / "whole")
    assert len(list((tmp_path / "killed" / "checkpoints").glob("checkpoint-*"))) == limit


REWARD = """import own_numbers
def score(prompts, completion_ids, **_):
    return [float(sum(ids) % 5 + own_numbers.NUMBER) for ids in completion_ids]
"""


def other_prompts(folder):
    file = folder / "prompts" / "train.jsonl"
    file.write_text("".join(file.read_text().splitlines(keepends=True)[1:]))


def other_pairs(folder):
    file = folder / "preferences.jsonl"
    file.write_text("".join(reversed(file.read_text().splitlines(keepends=True))))


def other_function(_folder):
    Path("own_reward.py").write_text(REWARD.replace("5", "7"))


def other_module_that_it_imports(_folder):
    Path("own_numbers.py").write_text("NUMBER = 2")


def order_of_prompts(folder):
    file = folder / "prompts" / "train.jsonl"
    file.write_text("".join(reversed(file.read_text().splitlines(keepends=True))))


def other_template(folder):
    (folder / "policy" / "chat_template.jinja").write_text("{% for m in messages %}{{ m['content'] }}{% endfor %}")


def other_template_of_the_reward_model(folder):
    (folder / "reward_model" / "chat_template.jinja").write_text(
        "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    )


def other_weights(folder):
    file = folder / "reward_model" / "model.safetensors"
    tensors = load_file(file)
    tensors[min(tensors)] += 1e-3
    save_file(tensors, file, metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("method", "change", "named"),
    [
        ("dar", other_prompts, "rows"),
        ("dpo", other_pairs, "rows"),
        ("dar", other_function, "reward"),
        ("dar", other_module_that_it_imports, "reward"),
        ("grpo", order_of_prompts, "rows"),
        ("dpo", other_template, "tokenizer"),
        ("dar", other_weights, "reward"),
        ("rloo", other_template_of_the_reward_model, "reward"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_other_content_under_the_same_name_is_refused(exported, tmp_path, monkeypatch, method, change, named):
    shutil.copytree(exported, tmp_path / "exported")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))  # the working directory is added to it
    Path("own_reward.py").write_text(REWARD)
    Path("own_numbers.py").write_text("NUMBER = 1")
    for module in ("own_reward", "own_numbers"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    reward = {"kind": "function", "name": "own_reward:score"}
    if change in (other_weights, other_template_of_the_reward_model):
        reward = {"kind": "model", "name": "exported/reward_model", "dtype": "float32", "separator": " "}

    def chosen(steps):
        content = options_as_json(run_of(tmp_path / "exported", method=method, training={"max_steps": steps}))
        return make_options(content | {"reward": reward})

    train.train(chosen(2), tmp_path / "run")
    change(tmp_path / "exported")
    for module in ("own_reward", "own_numbers"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    with pytest.raises(ValueError, match=f"other options or other content: {named} = "):
        train.train(chosen(4), tmp_path / "run", resume=True)


def test_another_number_of_processes_is_refused(exported, two_steps, tmp_path, monkeypatch):
    shutil.copytree(two_steps, tmp_path / "run")
    monkeypatch.setattr(train, "PartialState", lambda: TwoProcesses())
    with pytest.raises(ValueError, match="processes = 1 there and 2 here"):
        train.train(run_of(exported, training={"max_steps": 4}), tmp_path / "run", resume=True)


class TwoProcesses:
    num_processes, is_main_process = 2, True
    local_main_process_first = staticmethod(contextlib.nullcontext)


def test_other_versions_are_said(exported, two_steps, tmp_path, capsys):
    shutil.copytree(two_steps, tmp_path / "run")
    mark = tmp_path / "run" / "checkpoints" / "checkpoint-2" / "pi_0.json"
    content = json.loads(mark.read_text())
    version = content["packages"]["torch"]
    mark.write_text(json.dumps(content | {"packages": content["packages"] | {"torch": "2.0.0"}}))
    train.train(run_of(exported, training={"max_steps": 4}), tmp_path / "run", resume=True)
    assert f"since the arithmetic changed: torch 2.0.0 there and {version} here" in capsys.readouterr().err


def test_another_pi_0_is_refused(exported, tmp_path, monkeypatch):
    copy = tmp_path / "exported"
    subprocess.run(["cp", "-r", exported, copy], check=True)
    killed_run(run_of(copy), tmp_path / "run", monkeypatch, after=3)
    file = copy / "policy" / "model.safetensors"
    tensors = load_file(file)
    tensors[min(tensors)] += 1e-3
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(ValueError, match="another pi_0"):
        train.train(run_of(copy), tmp_path / "run", resume=True)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"method": "grpo"}, "method = 'dar' there and 'grpo' here"),
        ({"alpha": 0.7}, "methods.dar.alpha = None there and 0.7 here"),
        ({"training": {"learning_rate": 1e-4}}, "training.learning_rate = 0.001 there and 0.0001 here"),
        ({"generation": {"temperature": 0.5}}, "generation.temperature = None there and 0.5 here"),
        ({"lora": LORA}, "lora.r = None there and 3 here"),
    ],
    ids=str,
)
def test_other_options_are_refused(exported, tmp_path, monkeypatch, changed, message):
    killed_run(run_of(exported), tmp_path, monkeypatch, after=3)
    with pytest.raises(ValueError, match=message):
        train.train(run_of(exported, **changed), tmp_path, resume=True)


def test_a_run_may_get_longer_and_be_logged_otherwise(exported, tmp_path):
    train.train(run_of(exported), tmp_path)
    longer = run_of(exported, training={"max_steps": 8, "logging_steps": 4, "save_steps": 4, "save_total_limit": 3})
    assert train.train(longer, tmp_path, resume=True).trainer.state.global_step == 8


def test_the_resumed_reference_is_pi_0_and_not_the_checkpoint(exported, tmp_path, monkeypatch):
    killed_run(run_of(exported), tmp_path / "run", monkeypatch, after=5)
    done = train.train(run_of(exported), tmp_path / "run", resume=True)
    pi_0 = load_file(exported / "policy" / "model.safetensors")
    reference = dict(done.trainer.ref_model.named_parameters())
    assert all(torch.equal(pi_0[name], p.detach()) for name, p in reference.items() if name in pi_0)
    policy = dict(done.trainer.model.named_parameters())
    assert any(not torch.equal(pi_0[name], p.detach()) for name, p in policy.items() if name in pi_0)


def test_a_run_is_not_overwritten(exported, tmp_path):
    train.train(run_of(exported), tmp_path)
    with pytest.raises(ValueError, match="--resume"):
        train.train(run_of(exported), tmp_path)
    shutil.rmtree(tmp_path / "checkpoints")
    for resume in (False, True):  # there is nothing to go on from
        with pytest.raises(ValueError, match="holds what a run has written"):
            train.train(run_of(exported, method="grpo"), tmp_path, resume)


@pytest.mark.parametrize(
    ("training", "generation", "message"),
    [
        ({"save_steps": 3}, {"num_iterations": 2}, "multiple of 2"),
        ({"save_strategy": "epoch"}, {}, "multiples of whole steps"),
        ({"save_steps": 0.5}, {}, "multiples of whole steps"),
        ({"gradient_accumulation_steps": 2}, {"steps_per_generation": 3}, "divide the other"),
    ],
)
def test_checkpoints_inside_a_rollout_buffer_are_refused(exported, tmp_path, training, generation, message):
    with pytest.raises(ValueError, match=message):
        train.train(run_of(exported, training=training, generation=generation), tmp_path)
    assert not (tmp_path / "checkpoints").exists()


def test_the_hash_names_content_and_not_place(exported, tmp_path):
    subprocess.run(["cp", "-r", exported / "policy", tmp_path / "copy"], check=True)
    assert content_hash(tmp_path / "copy") == content_hash(exported / "policy")
    with (tmp_path / "copy" / "config.json").open("a") as file:
        file.write(" ")
    assert content_hash(tmp_path / "copy") != content_hash(exported / "policy")


def test_the_hash_knows_the_tokens_that_end_a_completion(exported, tmp_path):
    shutil.copytree(exported / "policy", tmp_path / "copy")
    file = tmp_path / "copy" / "generation_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"eos_token_id": [0, 1]}))
    assert content_hash(tmp_path / "copy") != content_hash(exported / "policy")


def test_weights_that_would_run_code_are_refused(tmp_path):
    torch.save({}, tmp_path / "pytorch_model.bin")
    with pytest.raises(FileNotFoundError, match="safetensors"):
        content_hash(tmp_path)


def test_sigterm_saves_and_the_run_goes_on(exported, tmp_path):
    chosen = run_of(exported, training={"save_steps": 1000, "max_steps": 60})
    train.train(chosen, tmp_path / "whole")
    code = (
        "import sys, torch; from pathlib import Path; from dar_ref.llm import train; from dar_ref.llm.options import *;"
        "import tests.llm.training as t; torch.set_num_threads(1);"
        f"chosen = t.options(Path({str(exported)!r}), training={chosen.training!r});"
        f"done = train.train(chosen, Path({str(tmp_path / 'run')!r}));"
        f"sys.exit({STOPPED} if done.stopped else 0)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], env={**os.environ, "DAR_TEST_SLOW": "0.1"}, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    for line in process.stdout:  # the first logged step
        if "loss" in line:
            break
    time.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    process.stdout.read()
    process.stdout.close()
    assert process.wait(timeout=600) == STOPPED
    (saved,) = (tmp_path / "run" / "checkpoints").glob("checkpoint-*")
    assert 0 < int(saved.name.split("-")[1]) < 60
    train.train(chosen, tmp_path / "run", resume=True)
    assert_same(tmp_path / "run", tmp_path / "whole")
