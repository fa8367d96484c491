"""Three hundred short epochs: do memory, open files, threads and the time of an epoch stay where they were?

    python benchmarks/soak.py

A leak of a few kilobytes a batch is seen by nobody in ten minutes and ends a training of a week. Every epoch writes its checkpoint, so the files are exercised as well.
"""
import argparse, os, tempfile, threading, time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from fastai.vision.all import Callback
from byol_fastai.config import Run, run_config
from byol_fastai.runs import run_learner
from byol_fastai.saving import Checkpoint
from byol_fastai.views import byol_policies
from ledger import record
from timing import command, memory_mb, set_threads

class Watch(Callback):
    "After each epoch: seconds of the CPU, megabytes, open files and threads of this process"
    order = Checkpoint.order+1
    def before_fit(self): self.rows, self.before = [], time.process_time()
    def after_epoch(self):
        now = time.process_time() # beside other programs the clock says little
        self.rows.append(dict(cpu_seconds=now-self.before, memory_mb=memory_mb(), files=len(os.listdir('/proc/self/fd')), threads=threading.active_count()))
        self.before = now

def tenth(rows: list, key: str, last: bool) -> float:
    "The median over the second or the last tenth of the epochs: the first one warms up"
    n = max(1, len(rows)//10)
    return median(o[key] for o in (rows[-n:] if last else rows[n:2*n] or rows))

FAST = dict(tensors=False, numbers=True) # are the losses of an epoch kept as fastai keeps them, or as `LossNumbers` does?

def soak(epochs: int, folder: Path, fast: bool = True) -> dict:
    "What the second and the last tenth of the epochs took, and how many times the one the other is"
    run = Run.create(folder/'run', run_config('shapes', n=2000, bs=128, epochs=epochs, probe_every=10))
    watch = Watch()
    learn, _ = run_learner(run.config, fast=fast, policies=byol_policies(24, scale=(.2, 1.))) # crops of many sizes, as for the shipped encoder
    learn.logger = lambda row: None
    with learn.no_bar(): learn.fit_byol(epochs, run.config.lr, cbs=[Checkpoint(run.path/'checkpoint'), watch])
    early, late = ({k: round(tenth(watch.rows, k, last), 4) for k in watch.rows[0]} for last in (False, True))
    return dict(epochs=len(watch.rows), early=early, late=late, growth={k: round(late[k]/early[k], 3) for k in early})

def alone(epochs: int, threads: int, fast: bool) -> dict:
    "A soak in a process of its own, whose memory no other has used before"
    set_threads(threads)
    with tempfile.TemporaryDirectory() as folder: return soak(epochs, Path(folder), fast)

def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--epochs', type=int, default=300)
    parser.add_argument('--threads', type=int, default=1, help='of torch')
    a = parser.parse_args(argv)
    if a.epochs < 1: parser.error('--epochs: give at least 1')
    figures = {}
    for name, fast in FAST.items():
        with ProcessPoolExecutor(1, get_context('spawn')) as other: figures[name] = other.submit(alone, a.epochs, a.threads, fast).result()
    path = record('soak', 'A training of many short epochs: CPU seconds of an epoch, memory, open files and threads in the second and in the last tenth of them', figures, command(),
        epochs=a.epochs, threads=a.threads)
    print(path.read_text())

if __name__ == '__main__': main()
