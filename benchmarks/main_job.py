"""The main job, `byol_pretrain` without options, for three seeds: how good, how long, how much memory.

    python benchmarks/main_job.py
"""
import json, statistics, subprocess, sys, tempfile
from pathlib import Path
from ledger import record

SEEDS = 0, 1, 2
COMMAND = 'byol_pretrain'

def one(seed: int, folder: Path) -> dict:
    "The report of one run, made by the program itself in a process of its own"
    out = folder/str(seed)
    subprocess.run([COMMAND, '--seed', str(seed), '--out', str(out)], check=True)
    return json.loads((out/'report.json').read_text())

def middle(reports: list, row: str, column: str) -> float:
    return statistics.median(r['probes'][row][column] for r in reports)

if __name__ == '__main__':
    with tempfile.TemporaryDirectory() as folder: reports = [one(s, Path(folder)) for s in SEEDS]
    rows = dict(pixels='raw pixels', random='random encoder', byol='BYOL')
    figures = {short: dict(knn=middle(reports, row, 'kNN'), linear=middle(reports, row, 'linear')) for short, row in rows.items()}
    figures |= dict(
        knn_by_seed={str(s): r['probes']['BYOL']['kNN'] for s, r in zip(SEEDS, reports)},
        least_ratio=round(min(r['probes']['BYOL']['kNN']/r['probes']['raw pixels']['kNN'] for r in reports), 2),
        seconds=statistics.median(r['seconds'] for r in reports), most_seconds=max(r['seconds'] for r in reports),
        peak_memory_gb=max(r['peak_memory_gb'] for r in reports))
    print(record('main_job', 'The main job on the embedded shapes: medians over three seeds, on images that were kept apart', figures,
        'python benchmarks/main_job.py', seeds=list(SEEDS), run=reports[0]['config']))
    sys.exit(figures['least_ratio'] < 2.5)
