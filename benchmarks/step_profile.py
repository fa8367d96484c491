"""Where the time of one training step goes: milliseconds of each part, measured inside the `Learner` while it trains.

    python benchmarks/step_profile.py
"""
import argparse, statistics, time
from collections import defaultdict
from byol_fastai.all import load_source
from ledger import record
from timing import command, set_threads, synchronize
from throughput import LR, Task, learner

class Stopwatch:
    "Seconds that the wrapped functions took, step by step"
    def __init__(self, device): self.device, self.now, self.steps, self.last = device, defaultdict(float), [], None

    def clock(self) -> float:
        synchronize(self.device)
        return time.perf_counter()

    def wrap(self, part: str, owner, name: str):
        "Time every call of `owner.name` under the name of `part`"
        func = getattr(owner, name)
        def timed(*args, **kwargs):
            start = self.clock()
            try: return func(*args, **kwargs)
            finally: self.now[part] += self.clock()-start
        setattr(owner, name, timed)

    def wrap_batch(self, learn):
        "What lies between two batches is the loader's time; what no part accounts for is the rest"
        func = learn.one_batch
        def timed(i, b):
            start = self.clock()
            func(i, b)
            end = self.clock()
            if self.last and i: self.steps.append(dict(self.now, data=start-self.last, rest=end-start-sum(self.now.values()), step=end-self.last))
            self.now.clear()
            self.last = end
        learn.one_batch = timed

def watched(learn, device) -> Stopwatch:
    "`learn` with a stopwatch at every part of its step"
    watch, model = Stopwatch(device), learn.model
    watch.wrap('view 1', learn.two_views, 'view1')
    watch.wrap('view 2', learn.two_views, 'view2')
    watch.wrap('target forward', model, 'targets')
    watch.wrap('online forward', model, 'forward')
    watch.wrap('loss', learn, 'loss_func')
    watch.wrap('backward', learn, '_backward')
    watch.wrap('optimizer', learn, '_step')
    watch.wrap('target update', model, 'update_target')
    watch.wrap_batch(learn)
    return watch

PARTS = ['data', 'view 1', 'view 2', 'target forward', 'online forward', 'loss', 'backward', 'optimizer', 'target update', 'rest']

def measure(task: Task, epochs: int = 4, **kwargs) -> dict:
    "Milliseconds of each part in the middle step; the first epoch warms up"
    learn = learner(task, **kwargs)
    with learn.no_bar(), learn.no_logging():
        learn.fit_byol(1, LR)
        watch = watched(learn, task.device)
        learn.fit_byol(epochs, LR)
    def middle(part): return round(1e3*statistics.median(o.get(part, 0.) for o in watch.steps), 3)
    return {o: middle(o) for o in [*PARTS, 'step']}

def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--data', default='shapes', help='a source of byol_dls')
    parser.add_argument('--n', type=int, default=2048, help='images in an epoch')
    parser.add_argument('--bs', type=int, default=128)
    parser.add_argument('--size', type=int, default=32)
    parser.add_argument('--threads', type=int, default=2, help='of torch')
    parser.add_argument('--epochs', type=int, default=4)
    a = parser.parse_args(argv)
    set_threads(a.threads)
    task = Task(load_source(a.data, a.size, a.n).train.x, a.bs)
    path = record('step_profile', f'Milliseconds of each part of a step of {a.bs} images: medians over the steps', measure(task, a.epochs), command(),
        **vars(a), steps=a.epochs*(a.n//a.bs-1), arch=task.arch, n_hidden=task.n_hidden, n_proj=task.n_proj, opt='sgd')
    print(path.read_text())

if __name__ == '__main__': main()
