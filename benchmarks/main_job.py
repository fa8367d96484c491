"""The main job, `byol_pretrain` without options, for five seeds: how good beside its rivals, how long, how much memory.

    python benchmarks/main_job.py
"""
import json, subprocess, sys, tempfile
from functools import partial
from pathlib import Path
from statistics import median
from byol_fastai.all import run_config
from seeds import experiment, means

ROWS = {'raw pixels': 'pixels', 'grey pixels': 'grey', 'Fourier magnitudes': 'fourier', 'random encoder': 'random', 'BYOL': 'byol', 'supervised': 'supervised'}
NOT_RIVALS = 'BYOL', 'supervised' # the one is measured, the other is the ceiling
PROBES = dict(knn='kNN', linear='linear')

def report_of(config, seed: int) -> dict:
    "The report of one run, made by the program itself in a process of its own"
    preset = run_config('shapes')
    given = [x for o in ('n', 'epochs', 'bs', 'threads') if (v := getattr(config, o)) != getattr(preset, o) for x in (f'--{o}', str(v))]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)/'run'
        subprocess.run([sys.executable, '-m', 'byol_fastai', 'pretrain', *given, '--seed', str(seed), '--out', str(out)], check=True)
        return json.loads((out/'report.json').read_text())

def rows(report: dict):
    "Each row of the table that the program prints; of BYOL also its history and what it cost, and last, so that a run counts as done when all is written"
    found = {row: {k: o.get(column) for k, column in PROBES.items()} for row, o in report['probes'].items() if 'stored' not in o} # what was measured beforehand is no run
    more = dict(seconds=report['seconds'], peak_memory_gb=report['peak_memory_gb'], history=report['history'])
    for row in sorted(found, key=lambda o: o == 'BYOL'): yield row, found[row] | (more if row == 'BYOL' else {})

def summary(runs: dict) -> dict:
    "Medians under short names; and of BYOL how far apart its seeds are, the worst, and the least distance to the best rival of the same seed"
    def of(row, k): return {s: o[k] for s, o in runs.get(row, {}).items() if o.get(k) is not None}
    res = means(runs) | {short: {k: round(median(v.values()), 4) for k in PROBES if (v := of(row, k))} for row, short in ROWS.items() if runs.get(row)}
    for k in PROBES:
        if not (ours := of('BYOL', k)): continue
        best = {s: max([of(row, k)[s] for row in runs if row not in NOT_RIVALS and s in of(row, k)], default=0.) for s in ours}
        here = dict(spread=max(ours.values())-min(ours.values()), worst=min(ours.values()), ahead=min(ours[s]-best[s] for s in ours))
        for name, v in here.items(): res.setdefault(name, {})[k] = round(v, 4)
    cost = {k: [*of('BYOL', k).values()] for k in ('seconds', 'peak_memory_gb')}
    if cost['seconds']: res |= dict(seconds=median(cost['seconds']), most_seconds=max(cost['seconds']), peak_memory_gb=max(cost['peak_memory_gb']))
    return res

def one(config, seed: int): return rows(report_of(config, seed))

def jobs(config) -> dict: return {('BYOL',): partial(one, config)}

def main(argv=None):
    experiment('main_job', 'The main job on the embedded shapes beside its rivals, on images that were kept apart', jobs, argv, __doc__, settings=[*ROWS], summary=summary, threads=None)

if __name__ == '__main__': main()
