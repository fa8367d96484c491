"`README.md`, and the pictures in it, made from `nbs/index.ipynb`."
import re
import nbformat
from .project import ROOT, repository, settings

CHART = 'image/svg+xml' # sharp at any size

def shown(cell, kind: str) -> list:
    "The outputs of a code cell that are of one kind"
    return [''.join(o['data'][kind]) for o in cell.outputs if o.output_type in ('display_data', 'execute_result') and kind in o['data']]

def picture(cell) -> tuple:
    "Path in the repository, and the words that stand for it, of the picture that a cell draws by a function `draw_name`"
    name,alt = (re.search(o, cell.source, re.M)[1] for o in (r'^draw_(\w+)\(', r'^#\| fig-alt: (.+)$'))
    return f'docs/_static/{name}.svg', alt

def outputs(cell) -> list:
    "Tables and pictures, as Markdown"
    path,alt = picture(cell) if shown(cell, CHART) else (None, None)
    return shown(cell, 'text/markdown') + [f'![{alt}]({path})' for _ in shown(cell, CHART)]

def cells() -> list: return nbformat.read(ROOT/'nbs'/'index.ipynb', 4).cells

def pictures() -> dict:
    "Path and content of every picture of the README"
    return {picture(c)[0]: o.encode() for c in cells() if c.cell_type=='code' for o in shown(c, CHART)}

def readme() -> str:
    "`index.ipynb` as Markdown: its text, the tables and pictures that its code made, and of its code only what is meant to be read"
    parts = []
    for cell in cells():
        if cell.cell_type=='markdown': parts.append(cell.source)
        else: parts += outputs(cell) if '#| echo: false' in cell.source else [f'```python\n{cell.source}\n```', *outputs(cell)]
    cfg = settings()
    text = '\n\n'.join(p.strip() for p in parts if p.strip() and '#| hide' not in p).replace('](../docs/', '](docs/') + '\n'
    return re.sub(r'\]\((\w+\.ipynb)\)', lambda m: f"]({repository(cfg)}/blob/{cfg['branch']}/nbs/{m[1]})", text)

def write():
    "The file, and its pictures"
    for path,content in pictures().items(): (ROOT/path).write_bytes(content)
    (ROOT/'README.md').write_text(readme(), encoding='utf-8')
