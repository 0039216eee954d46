"""Processes of their own for tests, forked from a server that has imported torch and the workers once."""

import multiprocessing

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["tests.workers.worker_main"])
