"""Cut shards in parallel processes that end when their parent does."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from typing import Any

import cv2

from siamkd_core.cut import Job, write_shard
from siamkd_core.errors import DataError


def run_jobs(jobs: Iterator[Job], workers: int, progress: Callable[[int], None]) -> None:
    """Do all jobs, here or in ``workers`` processes; ``progress`` gets the targets done so far."""
    done = 0
    if not workers:

        def advance(count: int) -> None:
            nonlocal done
            done += count
            progress(done)

        for job in jobs:
            write_shard(job, advance)
        return
    # not forked from this process, which has threads; the server imports once, for all workers
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["siamkd_core.cut", "webdataset"])
    counter = context.Value("q", 0)
    with ProcessPoolExecutor(workers, context, _begin, (counter,)) as pool:
        # two jobs a worker: the list of a hundred million targets never lies in memory
        running: set[Future[None]] = {pool.submit(_work, job) for job in islice(jobs, 2 * workers)}
        try:
            while running:
                ready, running = wait(running, 0.5, FIRST_COMPLETED)
                for future in ready:
                    future.result()
                running |= {pool.submit(_work, job) for job in islice(jobs, len(ready))}
                progress(counter.value)
        except BrokenProcessPool as error:
            raise DataError(
                "a worker was killed (out of memory?); the finished shards are kept: "
                "run again with fewer --workers to go on"
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


_counter: Any = None


def _begin(counter: Any) -> None:
    """Set up a worker: one thread, and an end when its parent is killed."""
    global _counter
    _counter = counter
    cv2.setNumThreads(1)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    parent = multiprocessing.parent_process()
    if parent is not None:

        def follow() -> None:
            parent.join()
            os._exit(1)

        threading.Thread(target=follow, daemon=True).start()


def _work(job: Job) -> None:
    def advance(count: int) -> None:
        with _counter.get_lock():
            _counter.value += count

    write_shard(job, advance)
