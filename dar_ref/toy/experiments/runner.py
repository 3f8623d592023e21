"""Many runs on all cores. Each run is done once, kept in the cache, and resumed if it was stopped.

cache/sft, preferences, reward   the stages of a start, see `start`
cache/runs/<key>/results.json     what start and configuration determine, same bytes every time
cache/runs/<key>/run.json        versions, commit, machine, seconds
cache/locks/<key>                held by the process that does the run
"""

import functools
import json
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import torch
from filelock import FileLock

from dar_ref import results
from dar_ref.progress import Report, reporting
from dar_ref.toy import cache
from dar_ref.toy.config import RunConfig, start_config
from dar_ref.toy.exact.frontier import exact_end
from dar_ref.toy.start import Start, load_start, start_key
from dar_ref.toy.train import train


class Job(NamedTuple):
    """One run. `config.seed` is also the seed of its start, so a spread over seeds includes all randomness."""

    task: str
    config: RunConfig

    @property
    def key(self) -> str:
        """Name of the run's folder. Options at their default are left out, so a new option renames no finished run."""
        start = start_key(start_config(self.task, self.config.seed))
        given, defaults = results.plain(self.config), results.plain(RunConfig())
        changed = {name: value for name, value in given.items() if value != defaults[name]}
        return cache.content_key({"start": start, "run": changed})


def run_jobs(jobs: Sequence[Job], folder: Path, processes: int) -> list[dict[str, Any]]:
    """Do all jobs that are not in the cache yet, with a progress bar.

    Args:
        jobs: any number; a job may be repeated.
        folder: the cache.
        processes: number of jobs at once, >= 1; results do not depend on it.

    Returns:
        The content of each `results.json`, in the order of `jobs`, with `seconds` added.

    Raises:
        OSError: the cache cannot be written.
        ValueError: a job has a wrong task or options.
    """
    for job in jobs:
        start_config(job.task, job.config.seed)  # raises here, before any work starts
    starts = dict.fromkeys((job.task, job.config.seed) for job in jobs if not _folder(job, folder).is_dir())
    todo = [job for job in dict.fromkeys(jobs) if not _folder(job, folder).is_dir()]
    if todo:
        context = get_context("spawn")
        with (
            ProcessPoolExecutor(processes, mp_context=context, initializer=_one_thread) as pool,
            reporting() as report,
        ):
            _all(pool, report, "starts", functools.partial(_make_start, folder), list(starts))
            _all(pool, report, "runs", functools.partial(run_job, folder), todo)
    return [cache.read(_folder(job, folder), _read) for job in jobs]


def run_job(folder: Path, job: Job) -> None:
    """Do one job and write its folder, unless the folder exists. Where another process does it, wait for that one."""
    target = _folder(job, folder)
    locks = folder / "locks"
    for made in (locks, target.parent):
        made.mkdir(parents=True, exist_ok=True)
    with FileLock(locks / target.name):
        if not target.is_dir():
            _do(folder, job, target)


def _do(folder: Path, job: Job, target: Path) -> None:
    began, start = time.time(), _start(folder, job.task, job.config.seed)
    checkpoint = target.with_name(f".{target.name}.checkpoint")
    run = train(start, job.config, checkpoint)

    def write(partial: Path) -> None:
        content = {
            "task": job.task,
            "config": results.plain(job.config),
            "start": start.metrics,
            "rollouts": run.rollouts,
            "evaluations": run.evaluations,
            "diverged": run.diverged,
        }
        if job.task == "tiny" and run.diverged is None:
            content["exact"] = exact_end(start, run.policy, getattr(start.prompts, job.config.evaluate_on))
        results.write_json(partial / "results.json", content)
        results.write_json(partial / "run.json", results.run_info(f"{job.task} {job.config.method}", began))

    cache.made(target, write)
    checkpoint.unlink(missing_ok=True)


def _all(
    pool: ProcessPoolExecutor, report: Report, name: str, work: Callable[[Any], None], items: Sequence[Any]
) -> None:
    report(name, 0, len(items))
    futures = [pool.submit(work, item) for item in items]
    try:
        for done, future in enumerate(as_completed(futures), 1):
            future.result()
            report(name, done, len(items))
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise


def _make_start(folder: Path, name: tuple[str, int]) -> None:
    _start(folder, *name)


@functools.lru_cache(maxsize=2)
def _start(folder: Path, task: str, seed: int) -> Start:
    return load_start(start_config(task, seed), folder)


def _folder(job: Job, folder: Path) -> Path:
    return folder / "runs" / job.key


def _read(folder: Path) -> dict[str, Any]:
    content = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    content["seconds"] = json.loads((folder / "run.json").read_text(encoding="utf-8"))["seconds"]
    return content


def _one_thread() -> None:
    """One thread per process: results do not depend on the number of cores, and small matrices run faster."""
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
