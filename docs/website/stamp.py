"What is known elsewhere, written into the notebooks: badges and the cell that installs the package from `settings.ini`, minutes from the ledger and from the length of the lesson."
import json, re
from pathlib import Path
from .project import ROOT, colab, repository, settings, site, source, wheel

LESSONS = ROOT/'byol_fastai'/'results'/'lessons.json'

def badges(name: str) -> str:
    "The row of badges of the notebook `name`, on one line"
    cfg = settings()
    row = [('Open in Colab', 'https://colab.research.google.com/assets/colab-badge.svg', colab(cfg, name)),
           ('On GitHub', 'https://img.shields.io/badge/GitHub-notebook-181717', source(cfg, name)),
           ('On the site', 'https://img.shields.io/badge/site-lesson-0072B2', f"{site(cfg)}{name}.html")]
    return ' '.join(f'[![{alt}]({image})]({link})' for alt, image, link in row)

def setup_cell() -> str:
    "The cell that makes sure of the package, wherever the notebook was opened: it installs this version where none is there, and says what else can be done where that fails"
    cfg = settings()
    return f'''#| code-fold: true
try: import {cfg['lib_name']}.course
except ImportError: # a notebook on Colab or Kaggle, or downloaded alone
    %pip install -q "{cfg['lib_name']} @ git+{repository(cfg)}@v{cfg['version']}"
    try: import {cfg['lib_name']}.course
    except ImportError: raise SystemExit("""{cfg['lib_name']} is not installed, and GitHub could not be reached for it. Two other ways, in a terminal:
  pip install {site(cfg)}{wheel(cfg)}
  git clone {repository(cfg)} && pip install ./{cfg['repo']}
Then restart the kernel and run this cell again.""") from None'''

def is_setup(source: str) -> bool:
    "Is it the cell that `setup_cell` writes, as it is now or as it once was?"
    return bool(re.match(r"(?:#\| code-fold: true\n)?(?:import sys\nif 'google\.colab' in sys\.modules:|try: import \w+\.course\nexcept ImportError)", source))

def minutes(name: str, profile: str) -> str | None:
    "How long a lesson takes, as `docs/execute.py` measured it"
    figures = json.loads(LESSONS.read_text())['figures'] if LESSONS.exists() else {}
    seconds = figures.get(profile, {}).get(name)
    return None if seconds is None else f'{max(1, round(seconds/60))} min'

WORDS,LINES = 200, 15 # a minute: as one reads, and as one reads code, runs it and looks at what comes out

def work(cells: list) -> str:
    "How long it takes to work through the `cells` of a notebook, to five minutes; the line that says so does not count"
    source = lambda kind: '\n'.join(''.join(c['source']) for c in cells if c['cell_type']==kind)
    text = re.sub(r'(?s)<!--.*?-->|\]\([^)]*\)|<[^>]+>', ' ', re.sub(r'\*\*Takes\*\*.*', '', source('markdown')))
    lines = [o for o in source('code').splitlines() if o.strip() and not o.startswith('#|')]
    return f'{max(5, 5*round((len(text.split())/WORDS + len(lines)/LINES)/5))} min'

def stamp(text: str, name: str, length: str=None) -> str:
    "The cell source `text` of the notebook `name` with badges, setup, links and minutes brought up to date; `length` is what `work` says"
    if is_setup(text): return setup_cell()
    text = re.sub(r'^<!-- badges -->(\n\[!\[.*)?$', lambda m: f'<!-- badges -->\n{badges(name)}', text, flags=re.M)
    takes = f"**Takes** Run {minutes(name, 'cpu') or '? min'} · work {length or '? min'}."
    text = re.sub(r'\*\*Takes\*\* (.*? on CPU, .*? on a T4|Run .*? min · work .*? min)\.', lambda m: takes, text)
    return re.sub(r'\[documentation site\]\([^)]*\)', lambda m: f'[documentation site]({site(settings())})', text)

def stamp_notebook(path: Path) -> bool:
    "Bring one notebook up to date in place; True where something changed"
    before = path.read_text(encoding='utf-8')
    nb = json.loads(before)
    length = work(nb['cells'])
    for cell in nb['cells']: cell['source'] = stamp(''.join(cell['source']), path.stem, length).splitlines(True)
    after = json.dumps(nb, ensure_ascii=False, indent=1, sort_keys=True) + '\n'
    if json.loads(after) != json.loads(before): path.write_text(after, encoding='utf-8')
    return json.loads(after) != json.loads(before)
