"""Execute lessons top to bottom, store their outputs, and enter the time they took into the ledger.

    python docs/execute.py                        # all lessons, in the profile of this computer
    python docs/execute.py nbs/05_ema.ipynb       # one of them
"""
import runpy, subprocess, sys, tempfile, time
from pathlib import Path
import nbformat
from nbclient import NotebookClient
from byol_fastai.course import ledger, profile_name
from website.project import ROOT
from website.stamp import stamp_notebook

record = runpy.run_path(str(ROOT/'benchmarks'/'ledger.py'))['record'] # only measurements write into the ledger

def execute(path: Path) -> float:
    "Execute the notebook in an empty folder, store its outputs, and return the seconds it took"
    nb = nbformat.read(path, 4)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        NotebookClient(nb, timeout=1200, kernel_name='python3', coalesce_streams=True, resources={'metadata': {'path': folder}}).execute()
    seconds = time.perf_counter() - start
    for cell in nb.cells: cell.metadata.pop('execution', None)
    nbformat.write(nb, path)
    return seconds

def enter(name: str, seconds: float):
    "The time of one lesson, beside those already in the ledger"
    figures = (ledger('lessons') or {'figures': {}})['figures']
    figures.setdefault(profile_name(), {})[name] = round(seconds)
    record('lessons', 'Seconds to execute each lesson, by profile', figures, 'python docs/execute.py')

if __name__ == '__main__':
    paths = [Path(o) for o in sys.argv[1:]] or sorted((ROOT/'nbs').glob('*.ipynb'))
    for path in paths:
        seconds = execute(path)
        enter(path.stem, seconds)
        stamp_notebook(path)
        subprocess.run(['nbdev-clean', '--fname', str(path)], check=True, cwd=ROOT)
        print(f'{path.name}: {seconds:.0f} s', flush=True)
