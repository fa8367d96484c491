"""Bring up to date what notebooks and README repeat from elsewhere, in place and without running a lesson:
badges and the Colab line (from `settings.ini`), minutes and tables (from the ledger), the README (from `nbs/index.ipynb`).

    python docs/refresh.py
"""
from website import readme
from website.project import ROOT
from website.stamp import stamp_notebook
from website.tables import refresh_notebook

if __name__ == '__main__':
    for path in sorted((ROOT/'nbs').glob('*.ipynb')):
        if stamp_notebook(path) | refresh_notebook(path): print(f'refreshed {path.name}')
    readme.write()
