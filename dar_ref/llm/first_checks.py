"""What is checked before torch is imported, which takes seconds: the configuration, its keys, the folder, the paths."""

import argparse
import glob
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dar_ref import scalars
from dar_ref.field_names import field_names
from dar_ref.llm.folder import check_folder
from dar_ref.llm.keys import CONFIGURATIONS, hint
from dar_ref.llm.options import METHODS, ONLINE, RunOptions, load_options

FILES = (".jsonl", ".json", ".jsonl.gz", ".json.gz", ".parquet")


def overrides(arguments: argparse.Namespace) -> list[str]:
    """The `key=value` pairs of a command line of `dar-ref train`, its flags among them."""
    pairs = list(arguments.options)
    if arguments.method is not None:
        pairs.append(f"method={scalars.choice('--method', arguments.method, METHODS)}")
    if arguments.random_init:
        pairs.append("model.random_init=true")
    return pairs


def checked_options(arguments: argparse.Namespace) -> RunOptions:
    """The options of a command line of `dar-ref train`, see `dar_ref.llm.arguments`.

    Raises:
        OSError: no such configuration, model or data.
        ValueError, TypeError: options that no run could have, or a folder that holds another run.
    """
    options = load_options(arguments.config, overrides(arguments))
    check_names(options)
    check_folder(arguments.out, arguments.resume)
    check_paths(options)
    return options


def free_options(options: RunOptions) -> Iterator[tuple[str, str, Any]]:
    """What the sections `training`, `generation` and `methods.<method>` set: key, name in the method's configuration,
    value."""
    sections = ("training", "generation", f"methods.{options.method}")
    for section in sections if options.method in ONLINE else (sections[0], sections[2]):
        for name, value in options.section(section).items():
            if section == "generation" and options.method == "online_dpo":
                if name == "num_generations":  # always pairs
                    continue
                yield f"{section}.{name}", {"max_completion_length": "max_new_tokens"}.get(name, name), value
            else:
                yield f"{section}.{name}", name, value


def check_names(options: RunOptions) -> None:
    """Raise ValueError for a free option that the method's configuration does not have."""
    known = field_names(*CONFIGURATIONS[options.method])
    for key, name, _ in free_options(options):
        if name not in known:
            of = CONFIGURATIONS[options.method][1]
            raise ValueError(f"{key} is not an option of {of}{hint(key, options.method)}")


def check_paths(options: RunOptions) -> None:
    """Raise FileNotFoundError for a model or data that can only be local, and is not there."""
    check_models(options)
    kinds = {"dpo": "preferences", "dar_offline": "rated" if options.data.rated else "preferences"}
    kind = kinds.get(options.method, "prompts")
    _check(f"data.{kind}", getattr(options.data, kind), options)


def check_models(options: RunOptions) -> None:
    """As `check_paths`, of the policy and the reward model."""
    _check("model.name", options.model.name, options)
    if options.reward is not None and options.reward.kind == "model" and options.method in ONLINE:
        _check("reward.name", options.reward.name, options)


def _check(key: str, name: str, options: RunOptions) -> None:
    if _only_local(name) and not Path(name).expanduser().exists():
        raise FileNotFoundError(f"{key} = {name!r}: there is no such folder; {_remedy(options)}")


def _only_local(name: str) -> bool:
    """Whether a name can be no model and no dataset of the hub, which are `name` or `owner/name`."""
    return not glob.has_magic(name) and (
        name.startswith((".", "/", "~")) or name.count("/") > 1 or name.lower().endswith(FILES)
    )


def _remedy(options: RunOptions) -> str:
    """`dar-ref toy export FOLDER` writes FOLDER/policy and FOLDER/prompts; other paths are the user's."""
    folder = Path(options.model.name).parent
    if (
        options.data.prompts
        and Path(options.model.name).name == "policy"
        and Path(options.data.prompts).parent == folder / "prompts"
    ):
        return (
            f"`dar-ref toy export {folder}` writes the model, reward model and data of this configuration: run it first"
        )
    return "check the path, or pass a name on the hub"
