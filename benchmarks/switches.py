"""What each part of the fast path gains: milliseconds of a training step with everything, and with one part taken away or added.

    python benchmarks/switches.py
"""
import argparse, shutil
import torch
from fastai.vision.all import ChannelsLast
from byol_fastai.all import Compiled, CPUMixedPrecision, load_source
from byol_fastai.fast import CudnnBenchmark, DeviceLosses
from ledger import record
from timing import command, interleaved, medians, ratio, set_threads
from throughput import LR, Task, can_bfloat16, learner

def contiguous(learn):
    "The weights as PyTorch lays them out by default"
    learn.model.to(memory_format=torch.contiguous_format)
    return learn

def switches(task: Task, compiled: bool) -> dict:
    "For each way of training a function that makes its learner"
    on_card = [DeviceLosses(), ChannelsLast(), CudnnBenchmark()]
    def without(part): return lambda: learner(task, fast=[o for o in on_card if not isinstance(o, part)])
    res = {'as it comes': lambda: learner(task)}
    if task.device == 'cpu' and can_bfloat16(): res['bfloat16'] = lambda: learner(task, cbs=CPUMixedPrecision())
    if task.device == 'cpu': res |= {'optimizer not fused': lambda: learner(task, fast=False), 'channels not last': lambda: contiguous(learner(task))}
    else: res |= {'loss looked at every batch': without(DeviceLosses), 'channels not last': without(ChannelsLast), 'cuDNN not trying out': without(CudnnBenchmark), 'nothing fast': lambda: learner(task, fast=False)}
    if compiled: res['compiled'] = lambda: learner(task, cbs=Compiled())
    return res

def epoch_of(make):
    learn = make()
    def epoch():
        with learn.no_bar(), learn.no_logging(): learn.fit_byol(1, LR)
    return epoch

def measure(task: Task, repeats: int, compiled: bool) -> dict:
    "Milliseconds a step, and how many times as long as it comes"
    jobs = {name: epoch_of(make) for name, make in switches(task, compiled).items()}
    times = interleaved(jobs, repeats, task.device)
    return medians(times, 1e3/(len(task.x)//task.bs)) | dict(ratio={o: ratio(times, o, 'as it comes') for o in times if o != 'as it comes'})

def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--data', default='shapes', help='a source of byol_dls')
    parser.add_argument('--n', type=int, default=1024, help='images in an epoch')
    parser.add_argument('--bs', type=int, default=128)
    parser.add_argument('--size', type=int, default=32)
    parser.add_argument('--widths', type=int, nargs='+', default=[16, 32], help='of the small encoder')
    parser.add_argument('--threads', type=int, default=2, help='of torch')
    parser.add_argument('--repeats', type=int, default=7)
    parser.add_argument('--device', default='cpu')
    a = parser.parse_args(argv)
    set_threads(a.threads)
    compiled = shutil.which('g++') is not None
    if not compiled: print('There is no C++ compiler here, so compiling is left out.')
    x = load_source(a.data, a.size, a.n).train.x.to(a.device)
    figures = {f'width_{w}': measure(Task(x, a.bs, width=w, device=a.device), a.repeats, compiled) for w in a.widths}
    path = record('switches', 'Milliseconds of a training step, as it comes and with one part of the fast path taken away or added', figures, command(), **vars(a))
    print(path.read_text())

if __name__ == '__main__': main()
