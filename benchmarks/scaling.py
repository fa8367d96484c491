"""Does training scale? Time against images, time against the batch, and memory against epochs.

    python benchmarks/scaling.py

A slope is that of the line on double logarithmic paper: 1 says that twice as much takes twice as long.
"""
import argparse, statistics
from fastai.vision.all import Callback
from byol_fastai.all import load_source
from ledger import record
from timing import command, interleaved, medians, memory_mb, set_threads, slope
from throughput import LR, Task, fastai_epoch, learner

def against_images(x, sizes: list, bs: int, repeats: int) -> dict:
    "Seconds of an epoch over the first `n` images"
    times = interleaved({n: fastai_epoch(Task(x[:n], bs)) for n in sizes}, repeats)
    return dict(seconds=medians(times, digits=3), slope=slope(sizes, [statistics.median(times[n]) for n in sizes]))

def against_batch(x, batches: list, repeats: int) -> dict:
    "Milliseconds of a step, and images per second"
    times = interleaved({bs: fastai_epoch(Task(x, bs)) for bs in batches}, repeats)
    steps = {bs: 1e3*statistics.median(times[bs])/(len(x)//bs) for bs in batches}
    return dict(milliseconds={bs: round(o, 1) for bs, o in steps.items()}, images_per_second={bs: round(1e3*bs/o, 1) for bs, o in steps.items()},
        slope=slope(batches, steps.values()))

class Memory(Callback):
    "Megabytes that the process holds after every epoch"
    def before_fit(self): self.held = []
    def after_epoch(self): self.held.append(memory_mb())

def against_epochs(x, bs: int, epochs: int) -> dict:
    "Memory after each epoch, and what the second half of the epochs adds to it"
    learn, memory = learner(Task(x, bs)), Memory()
    with learn.no_bar(), learn.no_logging(): learn.fit_byol(epochs, LR, cbs=memory)
    return dict(megabytes={i+1: o for i, o in enumerate(memory.held)}, growth=round(memory.held[-1]-memory.held[epochs//2-1], 1))

def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--data', default='shapes', help='a source of byol_dls')
    parser.add_argument('--images', type=int, nargs='+', default=[512, 1024, 2048, 4096], help='images in an epoch')
    parser.add_argument('--batches', type=int, nargs='+', default=[32, 64, 128, 256], help='images in a batch')
    parser.add_argument('--bs', type=int, default=128, help='images in a batch, where that does not change')
    parser.add_argument('--epochs', type=int, default=20)
    parser.add_argument('--threads', type=int, default=2, help='of torch')
    parser.add_argument('--repeats', type=int, default=3)
    a = parser.parse_args(argv)
    set_threads(a.threads)
    x = load_source(a.data, 32, max(a.images)).train.x
    few = x[:max(max(a.batches), a.images[0])*2]
    figures = dict(images=against_images(x, a.images, a.bs, a.repeats), batch=against_batch(few, a.batches, a.repeats), epochs=against_epochs(few, a.bs, a.epochs))
    path = record('scaling', 'Seconds of an epoch against images, milliseconds of a step against the batch, memory against epochs', figures, command(), **vars(a))
    print(path.read_text())

if __name__ == '__main__': main()
