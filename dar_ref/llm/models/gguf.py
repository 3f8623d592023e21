"""A model folder from a GGUF file: `python -m dar_ref.llm.models.gguf FILE FOLDER`, with the package `gguf`.

A GGUF file holds quantised weights for inference. Training needs the numbers that they stand for, so they are
dequantised once and written as safetensors, with config and tokenizer beside them. What the quantisation has rounded
stays rounded: pi_0 is the model of the file, not the one from which the file was made.
"""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from dar_ref.errors import exit_status


def write_folder(file: Path, folder: Path) -> None:
    """Write the model of a GGUF file as a folder that transformers reads; in float32, whole or not at all.

    Args:
        file: a `.gguf` file of an architecture that transformers dequantises.
        folder: to write; it must not exist.

    Raises:
        FileNotFoundError, FileExistsError: no such file, or the folder is there.
        ModuleNotFoundError: the package `gguf` is not installed.
    """
    if not file.is_file():
        raise FileNotFoundError(f"{file} is not a file; pass a .gguf file")
    if folder.exists():
        raise FileExistsError(f"{folder} is there already; remove it, or pass another folder")
    import_module("gguf")  # what transformers says if it is missing names no remedy
    partial = folder.with_name(folder.name + ".partial")
    AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name).save_pretrained(partial)
    read = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
    del read.config.quantization_config  # the weights are no longer quantised; transformers would refuse to save them
    read.config.dtype = "float32"
    model = AutoModelForCausalLM.from_config(read.config, dtype=torch.float32)
    model.load_state_dict(read.state_dict())
    model.generation_config = read.generation_config
    model.save_pretrained(partial)
    partial.rename(folder)


def main(argv: Sequence[str] | None = None) -> int:
    """Write the folder; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m dar_ref.llm.models.gguf", description=write_folder.__doc__)
    parser.add_argument("file", type=Path, help="a .gguf file")
    parser.add_argument("folder", type=Path, help="to write")
    arguments = parser.parse_args(argv)

    def work() -> int:
        write_folder(arguments.file, arguments.folder)
        print(arguments.folder)
        return 0

    return exit_status("dar_ref.llm.models.gguf", work, debug=False)


if __name__ == "__main__":
    sys.exit(main())
