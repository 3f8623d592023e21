"""The configurations in the package. For every method they load into the training classes; every value names its
source; every command in them makes as many samples per update; accelerate reads its files."""

import re
import shlex
from pathlib import Path

import pytest
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import launch_command_parser

from dar_ref.llm.build import make_arguments
from dar_ref.llm.data.load import DATASETS
from dar_ref.llm.options import CONFIGS, METHODS, ONLINE, REAL_MODEL, find_config, load_options
from dar_ref.llm.yaml_file import read_yaml
from dar_ref.losses import dar_loss

# a laptop's: fewer samples an update, and no pairs
REAL = ("smollm2-135m-harmless", "smollm2-135m-sentiment", "smollm2-135m-tldr")
NAMES = (
    "qwen2-0.5b-tldr",
    "qwen2-7b-harmless",
    "qwen2-7b-helpful",
    "qwen2-7b-instruct-helpsteer2",
    "qwen2-7b-tldr",
    *REAL,
    "toy_cpu",
)
ACCELERATE = sorted((CONFIGS / "accelerate").glob("*.yaml"))
CPU = ["training.use_cpu=true"]  # without a GPU, transformers refuses bf16 unless use_cpu is set


def samples(name):
    return 32 if name in REAL else 128


def methods(*names):
    """(configuration, method) for all methods of `names` that it has data for."""
    return [(c, m) for m in names for c in NAMES if m in ONLINE or c not in REAL]


def arguments(name, method, out, *overrides):
    return make_arguments(load_options(name, [f"method={method}", *CPU, *overrides]), out)


def test_these_are_all():
    assert tuple(sorted(file.stem for file in CONFIGS.glob("*.yaml"))) == NAMES
    assert [file.stem for file in ACCELERATE] == ["ddp", "fsdp2", "multi_node", "zero3"]


@pytest.mark.filterwarnings("ignore:.*torch_dtype.*:FutureWarning")
@pytest.mark.parametrize(("name", "method"), methods(*METHODS))
def test_every_method_is_made_of_it_with_the_same_number_of_samples(name, method, tmp_path):
    made = arguments(name, method, tmp_path)
    rows = made.per_device_train_batch_size * made.gradient_accumulation_steps
    samples_a_row = 2 if method in ("dpo", "online_dpo") else 1
    assert rows * samples_a_row == samples(name)
    if method in ONLINE and samples_a_row == 1:
        assert made.num_generations == 4
        assert made.generation_batch_size == samples(name)  # one rollout per update: no sample is stale
    options = load_options(name)
    tokens = options.data.max_prompt_tokens + options.generation["max_completion_length"]
    assert getattr(made, "max_length", tokens) == tokens


@pytest.mark.parametrize("name", NAMES)
def test_grpo_and_rloo_are_as_they_were_published(name):
    methods = load_options(name).methods
    published = {"loss_type": "grpo", "beta": 0.04, "use_bias_correction_kl": False, "scale_rewards": "group"}
    assert published.items() <= methods["grpo"].items()
    assert methods["rloo"]["normalize_advantages"] is False


@pytest.mark.parametrize("name", NAMES)
def test_the_values_of_the_paper(name, tmp_path):
    made = arguments(name, "dar", tmp_path)
    assert {
        "alpha": made.alpha,
        "beta": made.beta,
        "w_clip": made.w_clip,
        "sample_weight": None,
    } == dar_loss.__kwdefaults__


@pytest.mark.parametrize("name", NAMES)
def test_data_and_reward(name):
    options = load_options(name)
    assert options.method == "dar"
    if name == "toy_cpu":
        assert {options.data.prompts.split("/")[2], options.model.name.split("/")[2]} == {"export"}
        assert options.reward.separator == " "
        return
    task = name.rpartition("-")[2]
    if name in REAL:
        assert options.model.name == REAL_MODEL
        assert options.data.prompts == f"out/real-prompts/{task}/train.jsonl"
        assert options.reward.name == f"dar_ref.llm.real.{task}:reward"
        assert options.data.max_prompt_tokens < 200
        return
    assert options.data.prompts == options.data.preferences == task
    assert task in DATASETS
    assert "Qwen2-" + name.split("-")[1].upper() in options.model.name
    assert not options.model.trust_remote_code
    assert not options.reward.trust_remote_code


def leaves(file):
    """(line number, key, comment on the line or right above) of each value."""
    above = ""
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
        if line.lstrip().startswith("#"):
            above += line.lstrip()[1:].strip() + " "
            continue
        if match := re.fullmatch(r"\s*(\w+): +([^#\s].*?)(?:\s+# (.*))?", line):
            yield number, match[1], match[3] or above.strip()
        above = ""


def number_of_values(content):
    return sum(number_of_values(value) if isinstance(value, dict) else 1 for value in content.values())


@pytest.mark.parametrize("name", NAMES)
def test_every_value_says_where_it_comes_from(name):
    seen = set()
    for number, key, comment in leaves(find_config(name)):
        place = f"{name}.yaml:{number} {key}"
        if key in ("method", "lora"):
            continue
        tag = re.match(r"(P|Q|X|us|toy)\b", comment)
        assert tag, f"{place} has no source: {comment!r}"
        assert tag[1] != "us" or re.match(r"us: \w+", comment), f"{place}: a choice of ours has a reason"
        seen.add(key)
    assert len([*leaves(find_config(name))]) == number_of_values(read_yaml(find_config(name)))
    assert {"learning_rate", "num_generations", "alpha", "beta", "w_clip", "prompts", "max_grad_norm"} <= seen


@pytest.mark.parametrize("file", ACCELERATE, ids=lambda file: file.stem)
def test_every_value_of_accelerate_has_a_reason(file):
    assert all(comment for _, _, comment in leaves(file))


@pytest.mark.parametrize("file", ACCELERATE, ids=lambda file: file.stem)
def test_accelerate_reads_it(file):
    content = load_config_from_file(str(file))
    known = {action.dest for action in launch_command_parser()._actions}
    for section in (content.fsdp_config, content.deepspeed_config):
        assert set(section or {}) <= known
    assert content.num_processes == 8 * content.num_machines
    assert content.mixed_precision == "bf16"


def commands(name):
    """The command lines in a configuration's first comment."""
    text = find_config(name).read_text(encoding="utf-8").partition("\nmethod:")[0]
    lines = re.sub(r"\\\n#\s*", "", text).splitlines()
    return [shlex.split(line[1:]) for line in lines if re.match(r"#\s+(dar-ref train|accelerate launch)", line)]


@pytest.mark.parametrize(("name", "method"), methods("dar", "dpo", "dar_offline"))
def test_every_command_in_it_makes_the_same_number_of_samples(name, method, tmp_path):
    found = commands(name)
    assert len(found) == {"qwen2-0.5b-tldr": 2}.get(name, 1 if name in ("toy_cpu", *REAL) else 5)
    for words in found:
        devices = 1
        if words[0] == "accelerate":
            file = Path(words[words.index("--config_file") + 1])
            assert file.parent == Path("my-configs/accelerate")
            assert words[words.index("-m") + 1] == "dar_ref.llm.train"
            devices = load_config_from_file(str(CONFIGS / "accelerate" / file.name)).num_processes
        assert words[words.index("--config") + 1] == name
        made = arguments(name, method, tmp_path, *words[words.index("--config") + 2 :])
        rows = made.per_device_train_batch_size * made.gradient_accumulation_steps * devices
        assert rows * (2 if method == "dpo" else 1) == samples(name), words


def test_what_is_sampled_is_what_is_scored(tmp_path):
    for name in NAMES:
        made = arguments(name, "grpo", tmp_path)
        assert (made.top_p, made.top_k, made.min_p, made.repetition_penalty) == (1.0, 0, None, 1.0)
        assert made.temperature == 1.0
    assert set(ONLINE) < set(METHODS)
