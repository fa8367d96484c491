"""Two runs at once on one computer, beside one alone: how many times as long do they take?

    python benchmarks/two_at_once.py

Each is a program of its own that computes with one thread, as two people start them. Where there are two cores that nothing else keeps busy, both take hardly longer
than one; what they share is the memory and the disk.
"""
import argparse, os, subprocess, sys, tempfile
from pathlib import Path
from ledger import record
from timing import command, interleaved, medians, ratio

def program(out: Path, n: int, epochs: int, threads: int) -> list:
    "What is typed for one run, into the folder `out`"
    return [sys.executable, '-m', 'byol_fastai', *f'--n {n} --epochs {epochs} --threads {threads}'.split(), '--out', str(out)]

def at_once(many: int, **options):
    "Start so many runs together, and wait for the last of them; where one fails, its message ends this program"
    with tempfile.TemporaryDirectory() as folder:
        runs = [subprocess.Popen(program(Path(folder)/f'run{i}', **options), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) for i in range(many)]
        try: said = [o.communicate()[1] for o in runs]
        finally:
            for o in runs: o.kill()
    for o, words in zip(runs, said):
        if o.returncode: sys.exit(f'A run failed: {words.strip().splitlines()[-1] if words.strip() else o.returncode}')

def measure(repeats: int, **options) -> dict:
    "Seconds of one run and of two at once, in turn, and how many times as long the two take"
    times = interleaved({'one': lambda: at_once(1, **options), 'two at once': lambda: at_once(2, **options)}, repeats)
    return dict(seconds=medians(times), ratio=ratio(times, 'two at once', 'one'), cores=os.cpu_count())

def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--n', type=int, default=1000, help='images')
    parser.add_argument('--epochs', type=int, default=3)
    parser.add_argument('--repeats', type=int, default=3, help='rounds; one more warms up')
    parser.add_argument('--threads', type=int, default=1, help='of each run')
    a = parser.parse_args(argv)
    if min(a.n, a.epochs, a.repeats, a.threads) < 1: parser.error('all numbers must be positive')
    options = dict(n=a.n, epochs=a.epochs, threads=a.threads)
    path = record('two_at_once', 'Two runs at once beside one alone, each with threads of its own: seconds until the last has ended, and how many times as long that is',
        measure(a.repeats, **options), command(), repeats=a.repeats, **options)
    print(path.read_text())

if __name__ == '__main__': main()
