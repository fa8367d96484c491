"The package as a wheel, which the site serves beside the lessons: who reads them there can install from there."
import shutil, subprocess, sys, tempfile
from pathlib import Path
from .project import ROOT

def build_wheel(to: Path):
    "Build it into the folder `to`, without network, from a copy: setuptools leaves traces where it works"
    with tempfile.TemporaryDirectory() as folder:
        for name in 'setup.py settings.ini pyproject.toml README.md LICENSE'.split(): shutil.copy(ROOT/name, folder)
        shutil.copytree(ROOT/'byol_fastai', Path(folder)/'byol_fastai', ignore=shutil.ignore_patterns('__pycache__'))
        command = 'import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])'
        done = subprocess.run([sys.executable, '-c', command, to], cwd=folder, capture_output=True, text=True)
        if done.returncode: raise RuntimeError(f'The wheel could not be built: {done.stderr}')
