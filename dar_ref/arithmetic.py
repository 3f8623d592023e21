"""Reproducible arithmetic: the same bytes from the same seed on every x86 machine.

Without this module the same seed gives the same bytes only on machines of one type. torch, MKL and oneDNN choose their
kernels by the instruction set of the processor. Kernels of different widths add in a different order, and training
amplifies the difference: after a few hundred steps two runs of one seed differ like runs of two seeds. `make_portable`
makes all three use the kernels that every x86 processor can run. The caller must do two more things: give the optimizer
`fused=True`, since MKL's square root of a whole tensor starts from an approximation that depends on the processor; and
use the same number of threads.
"""

import os
import sys

PORTABLE = {
    "ATEN_CPU_CAPABILITY": "default",  # torch's own kernels
    "MKL_CBWR": "COMPATIBLE",  # matrix products
    "ONEDNN_MAX_CPU_ISA": "SSE41",  # oneDNN's kernels
}


def make_portable() -> None:
    """Make this process and its children compute the same bytes on every x86 machine, at lower speed.

    Raises:
        RuntimeError: torch is loaded already and has chosen its kernels.
    """
    if "torch" in sys.modules:
        raise RuntimeError(
            "torch is loaded and has chosen its kernels; call make_portable() before the first import of torch"
        )
    os.environ.update(PORTABLE)


def as_run(command: str) -> str:
    """A command line of `dar-ref`, with `--portable` where this process computes so: its results depend on it."""
    if _chosen() != PORTABLE or not command.startswith("dar-ref ") or command.startswith("dar-ref --portable"):
        return command
    return command.replace("dar-ref", "dar-ref --portable", 1)


def instruction_set() -> str:
    """The kernels that torch uses on this machine: "AVX512", "AVX2", "DEFAULT", ..., or "portable".

    Environment variables that change the choice are appended, as in "AVX512, MKL_CBWR=AVX2". Loads torch.
    """
    import torch

    chosen = _chosen()
    if chosen == PORTABLE:
        return "portable"
    chosen.pop("ATEN_CPU_CAPABILITY", None)  # already in torch's own answer
    names = [torch.backends.cpu.get_cpu_capability(), *(f"{name}={value}" for name, value in chosen.items())]
    return ", ".join(names)


def _chosen() -> dict[str, str]:
    """Those of the variables of `PORTABLE` that are set."""
    return {name: os.environ[name] for name in PORTABLE if name in os.environ}
