"""What a measurement reads, seconds and peak memory, and the process that it is made in: for a CPU and for a GPU."""

import gc
import json
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any


class Processor:
    """Processor time, so other work on the machine hardly counts, and the resident set of this process."""

    before = 0

    def now(self) -> float:
        """Seconds."""
        return time.process_time()

    def restart(self) -> None:
        """Let the peak of memory begin again; `before` is what there is."""
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        self.before = of_process("VmRSS")

    def peak(self) -> int:
        """The most since then, bytes."""
        return of_process("VmHWM")


class Cuda:
    """Wall-clock time when all kernels have ended, and what torch has allocated on the GPU."""

    before = 0

    def now(self) -> float:
        """Seconds."""
        import torch

        torch.cuda.synchronize()
        return time.perf_counter()

    def restart(self) -> None:
        """Let the peak of memory begin again; `before` is what there is."""
        import torch

        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        self.before = torch.cuda.memory_allocated()

    def peak(self) -> int:
        """The most since then, bytes."""
        import torch

        return torch.cuda.max_memory_allocated()


METERS = {"cpu": Processor, "cuda": Cuda}


def of_process(name: str) -> int:
    """VmRSS or VmHWM of this process, bytes."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(name)).split()[1])


# --- processes --------------------------------------------------------------------------------------------------------


def in_a_fork(work: Callable[[], Any]) -> Any:
    """The result of `work`, as JSON has it, from a child that has all that this process has loaded."""
    sys.stdout.flush()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            found = work()
            with os.fdopen(writing, "w") as stream:
                json.dump(found, stream)
            code = 0
        finally:
            os._exit(code)
    os.close(writing)
    with os.fdopen(reading) as stream:
        text = stream.read()
    if os.waitpid(child, 0)[1] != 0:
        raise RuntimeError("a measurement failed; its output is above")
    return json.loads(text)


def freed(work: Callable[..., Any], *arguments: Any) -> Any:
    """The result of work in a process that stays: what it held on a GPU is free afterwards."""
    import torch

    found = work(*arguments)
    gc.collect()  # trainer and callbacks hold each other
    torch.cuda.empty_cache()  # nothing on a CPU
    return found


class Spawned:
    """A process for each name, which stays: CUDA survives no fork, and imports take longer than a measurement."""

    def __init__(self) -> None:
        self.processes: dict[str, ProcessPoolExecutor] = {}

    def begin(self, name: str, work: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """Start `work(*arguments)` in the process of that name, and `freed` after it."""
        if name not in self.processes:
            self.processes[name] = ProcessPoolExecutor(1, mp_context=get_context("spawn"))
        return self.processes[name].submit(freed, work, *arguments)

    def do(self, name: str, work: Callable[..., Any], *arguments: Any) -> Any:
        """The result of `work(*arguments)`; a process in which it failed ends, and with it all that it held."""
        try:
            return self.begin(name, work, *arguments).result()
        except BaseException:
            self.end(name)
            raise

    def end(self, *names: str) -> None:
        """End these processes when they have done their work; without names all."""
        for name in names or list(self.processes):
            self.processes.pop(name).shutdown()
