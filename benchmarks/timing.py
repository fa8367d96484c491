"What the benchmarks share: rounds in which everybody takes a turn, medians, ratios, and a word about what is not installed."
import argparse, contextlib, gc, importlib.metadata, random, statistics, sys, time
from importlib.util import find_spec
from pathlib import Path
import cv2, torch

def set_threads(n: int):
    "As many threads for torch, and for OpenCV, as everybody gets"
    torch.set_num_threads(n)
    cv2.setNumThreads(n)

def synchronize(device='cpu'):
    if torch.device(device).type == 'cuda': torch.cuda.synchronize()

def seconds(job, device='cpu') -> float:
    "How long `job()` takes, with all that it has sent to the device"
    gc.collect()
    synchronize(device)
    start = time.perf_counter()
    job()
    synchronize(device)
    return time.perf_counter()-start

def interleaved(jobs: dict, repeats: int, device='cpu') -> dict:
    """Seconds of each job in each round. In a round all take their turn, so that whatever else the computer does meets them all,
    in an order of its own, so that nobody always comes after the same other one; the first round warms up and does not count"""
    rounds = [{name: seconds(jobs[name], device) for name in random.Random(i).sample([*jobs], len(jobs))} for i in range(repeats+1)]
    return {name: [o[name] for o in rounds[1:]] for name in jobs}

def medians(times: dict, scale: float = 1., digits: int = 2) -> dict:
    return {name: round(scale*statistics.median(o), digits) for name, o in times.items()}

def ratio(times: dict, theirs: str, ours: str) -> float:
    "How many times as long `theirs` takes as `ours`: the median over the rounds"
    return round(statistics.median(t/o for t, o in zip(times[theirs], times[ours])), 3)

def slope(xs, ys) -> float:
    "Of the line through the points on double logarithmic paper: 1 where `ys` grow in proportion to `xs`"
    return round(statistics.linear_regression(*[torch.tensor(list(o), dtype=torch.float64).log().tolist() for o in (xs, ys)]).slope, 3)

def memory_mb(peak: bool = False) -> float:
    "What this process holds now, or has held at most; `nan` where there is no /proc"
    status = Path('/proc/self/status')
    if not status.exists(): return float('nan')
    lines = dict(o.split(':', 1) for o in status.read_text().splitlines())
    return round(int(lines['VmHWM' if peak else 'VmRSS'].split()[0])/1024, 1)

def forget_peak():
    "Let the peak of `memory_mb` begin anew, where the system can"
    with contextlib.suppress(OSError): Path('/proc/self/clear_refs').write_text('5')

def present(peers: dict) -> dict:
    "Of the `peers`, module to package, those that are installed, with their versions; the others are named and left out"
    missing = [o for o in peers if find_spec(o) is None]
    if missing: print(f"Not installed, so left out: {', '.join(peers[o] for o in missing)}. To have them: pip install -e \".[bench]\"")
    return {o: importlib.metadata.version(p) for o, p in peers.items() if o not in missing}

def command() -> str:
    "What was typed, but for `--out`: where somebody keeps the files of a run changes no figure"
    parser = argparse.ArgumentParser(allow_abbrev=False, add_help=False)
    parser.add_argument('--out')
    return ' '.join(['python', 'benchmarks/'+Path(sys.argv[0]).name, *parser.parse_known_args()[1]])
