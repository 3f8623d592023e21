"""What decides the last digits of a run, and how to make them the same on every x86 machine.

The same seed gives the same bytes on machines of one type only. torch, MKL and oneDNN choose their kernels by what the
processor can do; kernels of other widths add in another order, and training multiplies the difference: after a few
hundred steps two runs of one seed are two runs of two seeds. `make_portable` has all of them take the kernels that
every x86 processor can run. Two things are left to the caller: an optimizer needs `fused=True`, since MKL's square root
of a whole tensor begins with an approximation that processors make differently; and the number of threads must be the
same.
"""

import os
import sys

PORTABLE = {
    "ATEN_CPU_CAPABILITY": "default",  # torch's own kernels
    "MKL_CBWR": "COMPATIBLE",  # matrix products
    "ONEDNN_MAX_CPU_ISA": "SSE41",  # oneDNN's kernels
}


def make_portable() -> None:
    """Have this process and those that it starts compute the same bytes on every x86 machine, more slowly.

    Raises:
        RuntimeError: torch is loaded already and has chosen its kernels.
    """
    if "torch" in sys.modules:
        raise RuntimeError(
            "torch is loaded and has chosen its kernels; call make_portable() before the first import of torch"
        )
    os.environ.update(PORTABLE)


def instruction_set() -> str:
    """The kernels that torch computes with here: "AVX512", "AVX2", "DEFAULT", ..., or "portable".

    Settings from outside that change the choice are added, as in "AVX512, MKL_CBWR=AVX2". Loads torch.
    """
    import torch

    chosen = {name: os.environ[name] for name in PORTABLE if name in os.environ}
    if chosen == PORTABLE:
        return "portable"
    chosen.pop("ATEN_CPU_CAPABILITY", None)  # torch names it itself
    names = [torch.backends.cpu.get_cpu_capability(), *(f"{name}={value}" for name, value in chosen.items())]
    return ", ".join(names)
