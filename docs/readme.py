"""Make `README.md` from `nbs/index.ipynb`.

    python docs/readme.py
"""
import re, sys
from pathlib import Path
import nbformat

sys.path.insert(0, str(Path(__file__).parent))
from stamp import ROOT, repository, settings

def outputs(cell) -> list:
    "The Markdown that a code cell has shown"
    shown = [o['data'] for o in cell.outputs if o.output_type in ('display_data', 'execute_result')]
    return [''.join(o['text/markdown']) for o in shown if 'text/markdown' in o]

def readme() -> str:
    "`index.ipynb` as Markdown: its text, the tables that its code made, and of its code only what is meant to be read"
    nb = nbformat.read(ROOT/'nbs'/'index.ipynb', 4)
    parts = []
    for cell in nb.cells:
        if cell.cell_type == 'markdown': parts.append(cell.source)
        else: parts += outputs(cell) if '#| echo: false' in cell.source else [f'```python\n{cell.source}\n```', *outputs(cell)]
    cfg = settings()
    text = '\n\n'.join(p.strip() for p in parts if p.strip() and '#| hide' not in p) + '\n'
    return re.sub(r'\]\((\d\d\w*\.ipynb)\)', lambda m: f"]({repository(cfg)}/blob/{cfg['branch']}/nbs/{m[1]})", text)

if __name__ == '__main__': (ROOT/'README.md').write_text(readme(), encoding='utf-8')
