"""Offline DAR: the weights and the gradient by an independent computation, the target of T3, and what is refused."""

import json
import math
import shutil

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, TrainerCallback

from dar_ref.llm import DAROfflineConfig, DAROfflineTrainer, load_rated
from dar_ref.llm.build import make_arguments
from dar_ref.llm.data.rated import check_rows, encode_row, offline_advantages
from dar_ref.llm.dry_run import dry_run
from dar_ref.llm.options import make_options
from dar_ref.llm.plan import plan
from dar_ref.llm.train import train
from dar_ref.theory import regression_target
from tests.llm.models.small_lm import bytes_tokenizer, save_small_lm
from tests.llm.training import CPU

TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}<eos>\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("policy")
    save_small_lm(folder)
    return folder


ROWS = [
    {"prompt": "one", "completion": "a", "reward": 1.0},
    {"prompt": "one", "completion": "bcd", "reward": 0.0},
    {"prompt": "another", "completion": "ef", "reward": 2.0},
    {"prompt": "alone", "completion": "g", "reward": 9.0},
    {"prompt": "another", "completion": "hijkl", "reward": 5.0},
    {"prompt": "another", "completion": "", "reward": 2.0},
    {"prompt": "alone too", "completion": "m", "reward": -9.0},
]


def make(folder, out, rows=ROWS, dtype=torch.float64, callbacks=(), **options):
    tokenizer = bytes_tokenizer()
    arguments = {**CPU, "report_to": "none", "lr_scheduler_type": "constant", "max_steps": 1, **options}
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
    args = DAROfflineConfig(str(out), **arguments)
    return DAROfflineTrainer(model, args, Dataset.from_list(rows), tokenizer, callbacks=list(callbacks))


def logp(model, tokenizer, row):
    """Log-prob of a completion and its EOS, from whole logits and without padding."""
    prompt, answer = tokenizer(row["prompt"])["input_ids"], tokenizer(row["completion"])["input_ids"]
    ids = torch.tensor([*prompt, *answer, tokenizer.eos_token_id])
    logps = model(ids[None]).logits[0, :-1].log_softmax(dim=-1).gather(-1, ids[1:, None])[:, 0]
    return logps[len(prompt) - 1 :].sum()


class Gradients(TrainerCallback):
    def on_pre_optimizer_step(self, _args, _state, _control, model=None, **_):
        self.found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(("size", "accumulated"), [(5, 1), (1, 5), (2, 3), (3, 2)])  # the last micro-batch is short
@pytest.mark.parametrize("writer", ["logps", "sampler", "pi_0"])
def test_gradient(folder, tmp_path, writer, size, accumulated):
    tokenizer, pi_0 = bytes_tokenizer(), AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64)
    other = tmp_path / "sampler"
    moved = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64)
    with torch.no_grad():
        for parameter in moved.parameters():
            parameter.mul_(1.3)
    moved.save_pretrained(other)
    counted = [row for row in ROWS if not row["prompt"].startswith("alone")]
    with torch.no_grad():
        old = [logp(pi_0 if writer == "pi_0" else moved, tokenizer, row).item() for row in ROWS]
    rows = [{**row, "old_logps": value} if writer == "logps" else row for row, value in zip(ROWS, old, strict=True)]
    extra = {} if writer == "pi_0" else {"alpha": 0.3}
    extra |= {"sampler": str(other)} if writer == "sampler" else {}
    caught = Gradients()
    sizes = {"per_device_train_batch_size": size, "gradient_accumulation_steps": accumulated}
    trainer = make(folder, tmp_path / "out", rows, callbacks=[caught], beta=0.7, w_clip=3.0, **extra, **sizes)
    trainer.train()

    centred = np.array([0.5, -0.5, -1.0, 2.0, -1.0])
    advantages = centred / centred.std()
    old = [value for value, row in zip(old, ROWS, strict=True) if row in counted]
    logps = [logp(pi_0, tokenizer, row) for row in counted]
    weights = [
        min(math.exp(0.3 * (ref.item() - before) + a / 0.7), 3.0)
        for ref, before, a in zip(logps, old, advantages, strict=True)
    ]
    loss = -sum(w * value for w, value in zip(weights, logps, strict=True)) / len(counted)
    loss.backward()
    expected = {name: p.grad for name, p in pi_0.named_parameters()}
    for name, found in caught.found.items():
        assert (found - expected[name]).abs().max() <= 1e-9 * (1 + expected[name].abs().max())
    log = trainer.state.log_history[0]
    assert log["loss"] == pytest.approx(loss.item(), rel=1e-6)
    assert log["weight/mean"] == pytest.approx(np.mean(weights), rel=1e-6)
    assert log["rows/excluded"] == pytest.approx(2 / 7)


@pytest.mark.parametrize("known", [True, False])
def test_it_ends_at_the_target_of_the_regression(folder, tmp_path, known):
    """Four answers, each one byte, as often as mu wrote them. T4 says where the weighted fit ends."""
    arms, counts, rewards = "abcd", [5, 3, 1, 1], [0.0, 1.0, 3.0, -2.0]
    mu = np.array(counts) / 10
    rows = [
        {"prompt": "?", "completion": arm, "reward": reward, **({"old_logps": math.log(p)} if known else {})}
        for arm, reward, count, p in zip(arms, rewards, counts, mu, strict=True)
        for _ in range(count)
    ]
    options = {"beta": 1.5, "w_clip": 3.0, **({"alpha": 0.4} if known else {})}
    tokenizer, pi_0 = bytes_tokenizer(), AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64)
    sizes = {"max_steps": 600, "learning_rate": 1e-2, "per_device_train_batch_size": 10, "logging_steps": 600}
    trainer = make(folder, tmp_path, rows, **options, **sizes, lr_scheduler_kwargs=None)
    trainer.train()
    with torch.no_grad():
        log_pi_0, log_pi = (
            np.array([logp(model, tokenizer, {"prompt": "?", "completion": arm}).item() for arm in arms])
            for model in (pi_0, trainer.model)
        )
    raw = np.array(rewards) - (mu * rewards).sum()
    advantage = raw / math.sqrt((mu * raw**2).sum())
    # an arm that nobody writes stands for all other answers of pi_0
    log_pi_0, advantage = np.append(log_pi_0, np.log1p(-np.exp(log_pi_0).sum())), np.append(advantage, 0.0)
    with np.errstate(divide="ignore"):
        log_mu = np.log(np.append(mu, 0.0))
    if known:
        target = regression_target(advantage, log_pi_0, log_mu, 0.4, 1.5, 3.0)
    else:  # alpha = 0 with mu in the place of pi_t: what the data were written by, tilted
        target = regression_target(advantage, log_pi_0, log_mu, 0.0, 1.5, 3.0)
    assert np.abs(np.exp(log_pi) - np.exp(target[:4])).max() < 2e-3
    assert np.abs(np.exp(target[:4]) - mu).max() > 0.1


def test_a_pair_is_two_rows_with_the_rewards_1_and_0(exported):
    options = make_options(script(exported, "dar_offline", max_prompt_tokens=8))
    rows = load_rated(options.data, bytes_tokenizer())
    raw = [json.loads(line) for line in (exported / "preferences.jsonl").read_text().splitlines()]
    pairs = [pair for pair in raw if pair["chosen"] != pair["rejected"]]
    assert len(rows.dataset) == 2 * len(pairs)
    assert rows.dataset[0] == {"prompt": pairs[0]["prompt"], "completion": pairs[0]["chosen"], "reward": 1.0}
    assert rows.dataset[1] == {"prompt": pairs[0]["prompt"], "completion": pairs[0]["rejected"], "reward": 0.0}


def test_rows_of_one_s_own(exported, tmp_path):
    file = tmp_path / "rated.jsonl"
    file.write_text("".join(json.dumps({**row, "old_logps": -1.0, "note": "x"}) + "\n" for row in ROWS))
    options = make_options(script(exported, "dar_offline", rated=str(file), max_prompt_tokens=9))
    rows = load_rated(options.data, bytes_tokenizer(), max_length=8)
    # "another" and "hijkl" and EOS are longer; a row that is there twice counts twice
    assert [row["completion"] for row in rows.dataset] == ["a", "bcd", "g", ""]
    assert set(rows.dataset.column_names) == {"prompt", "completion", "reward", "old_logps"}
    file.write_text(json.dumps({"prompt": "a", "completion": "b"}) + "\n")
    with pytest.raises(ValueError, match="has no column 'reward'"):
        load_rated(options.data, bytes_tokenizer())


def script(exported, method, **data):
    sources = {"prompts": str(exported / "prompts" / "train.jsonl"), "preferences": str(exported / "preferences.jsonl")}
    return {
        "method": method,
        "model": {"name": str(exported / "policy"), "dtype": "float32"},
        "data": {**sources, "max_prompt_tokens": 4, **data},
        "training": dict(CPU),
        "methods": {method: {"max_length": 8}},
    }


@pytest.mark.parametrize(("known", "alpha"), [(True, "0.1"), (False, "no effect, pi_t is not known")])
def test_the_card_says_which_alpha_was_used(folder, tmp_path, known, alpha):
    rows = [row | ({"old_logps": -1.0} if known else {}) for row in ROWS]
    make(folder, tmp_path, rows, max_steps=7).create_model_card()
    card = (tmp_path / "README.md").read_text()
    assert f"- alpha: {alpha}\n" in card
    assert "- max_steps: 7\n" in card


def test_a_dry_run_shows_a_row_and_a_plan(exported, tmp_path, capsys):
    assert dry_run(make_options(script(exported, "dar_offline")), tmp_path) == 0
    printed = capsys.readouterr().out
    assert "method dar_offline, DAROfflineConfig" in printed
    assert "nothing was trained" in printed
    assert "plan:" not in printed  # it is planned


def test_the_plan_holds_no_second_copy_of_the_weights(exported):
    offline, pairs = (plan(make_options(script(exported, method))) for method in ("dar_offline", "dpo"))
    assert not offline.setup.reference
    assert pairs.setup.reference
    assert offline.setup.rows == offline.setup.batch
    assert offline.peak < pairs.peak


def test_a_conversation_is_what_the_template_writes():
    tokenizer = bytes_tokenizer(template=TEMPLATE)
    row = {"prompt": [{"role": "user", "content": "hi"}], "completion": [{"role": "assistant", "content": "yo"}]}
    found = encode_row(tokenizer, row)
    assert tokenizer.decode(found["input_ids"]) == "<user>hi<eos>\n<assistant>yo<eos>"
    assert tokenizer.decode(found["input_ids"][found["prompt_length"] :]) == "yo<eos>"


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({"reward": None}, {}, "row 1 has no reward"),
        ({"reward": math.nan}, {}, "row 1, reward = nan is not finite"),
        ({"old_logps": 0.5}, {}, "a log-probability is at most 0"),
        ({"old_logps": -1.0}, {}, "1 of 7 rows have old_logps"),
        ({}, {"alpha": 0.3}, "alpha = 0.3 has no effect: who wrote the rows is not known"),
    ],
)
def test_rows_that_do_not_fit_are_refused(change, options, message):
    rows = Dataset.from_list([{**ROWS[0], **change}, *ROWS[1:]])
    with pytest.raises(ValueError, match=message):
        check_rows(rows, options.get("alpha"), None)


def test_two_sources_of_pi_t_are_one_too_many():
    with pytest.raises(ValueError, match="the rows have old_logps of their own"):
        check_rows(Dataset.from_list([{**row, "old_logps": -1.0} for row in ROWS]), None, "folder")


def test_the_baseline_decides_who_counts():
    advantages, keep = offline_advantages(ROWS, "prompt")
    assert keep.tolist() == [row["prompt"] in ("one", "another") for row in ROWS]
    assert advantages[~keep].tolist() == [0.0, 0.0]
    rewards = np.array([row["reward"] for row in ROWS])
    advantages, keep = offline_advantages(ROWS, "all")
    assert keep.all()
    assert advantages.numpy() == pytest.approx((rewards - rewards.mean()) / rewards.std())
    with pytest.raises(ValueError, match=r"no prompt has two .* different rewards.*baseline to all"):
        offline_advantages(ROWS[3:4] + ROWS[6:], "prompt")
    with pytest.raises(ValueError, match="all rewards are equal"):
        offline_advantages([ROWS[0], ROWS[0]], "all")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"baseline": "group"}, "prompt, all"),
        ({"beta": 0.0}, "beta"),
        ({"w_clip": 0.0}, "w_clip"),
        ({"alpha": 2.0}, "alpha"),
    ],
)
def test_options_out_of_range(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        DAROfflineConfig(str(tmp_path), use_cpu=True, **options)


def test_an_option_of_sampling_is_no_option_of_it(exported, tmp_path):
    chosen = script(exported, "dar_offline")
    chosen["methods"]["dar_offline"]["num_generations"] = 4
    with pytest.raises(ValueError, match="num_generations is not an option of DAROfflineConfig"):
        make_arguments(make_options(chosen), tmp_path)


def test_an_empty_answer_is_its_eos_alone():
    tokenizer = bytes_tokenizer(template=TEMPLATE)
    row = {"prompt": [{"role": "user", "content": "hi"}], "completion": [{"role": "assistant", "content": ""}]}
    found = encode_row(tokenizer, row)
    assert tokenizer.decode(found["input_ids"][found["prompt_length"] :]) == "<eos>"


@pytest.mark.parametrize("reward", [0.1, 1.2, 1.7, -0.3])
@pytest.mark.parametrize("count", [3, 7])
def test_equal_rewards_are_equal_whatever_the_rounding_of_their_mean(reward, count):
    rows = [{"prompt": "one", "completion": "a", "reward": reward}] * count
    for baseline in ("prompt", "all"):
        with pytest.raises(ValueError, match="all advantages are 0"):
            offline_advantages(rows, baseline)


@pytest.mark.parametrize(("sampler", "message"), [("nowhere", "is not a folder here"), ("here", "has other tokens")])
@pytest.mark.parametrize("check", [dry_run, train])
def test_a_sampler_that_cannot_score_the_rows_is_refused_first(exported, folder, tmp_path, check, sampler, message):
    content = script(exported, "dar_offline")
    content["methods"]["dar_offline"]["sampler"] = str(folder if sampler == "here" else tmp_path / "nowhere")
    with pytest.raises((OSError, ValueError), match=f"methods.dar_offline.sampler = .*{message}"):
        check(make_options(content), tmp_path / "out")


def test_a_run_does_not_go_on_with_another_sampler(exported, tmp_path):
    sampler, content = tmp_path / "sampler", script(exported, "dar_offline")
    shutil.copytree(exported / "policy", sampler)
    content["methods"]["dar_offline"]["sampler"] = str(sampler)
    content["training"] |= {"max_steps": 1, "save_steps": 1, "save_strategy": "steps"}
    train(make_options(content), tmp_path / "out")
    moved = AutoModelForCausalLM.from_pretrained(sampler)
    with torch.no_grad():
        moved.get_output_embeddings().weight.mul_(1.01)
    moved.save_pretrained(sampler)
    content["training"]["max_steps"] = 2
    with pytest.raises(ValueError, match="other options or other content: sampler = "):
        train(make_options(content), tmp_path / "out", resume=True)
