"What is known elsewhere, written into the notebooks: badges and the Colab install line from `settings.ini`, minutes from the ledger."
import json, re
from pathlib import Path
from .project import ROOT, colab, repository, settings, site, source

LESSONS = ROOT/'byol_fastai'/'results'/'lessons.json'

def badges(name: str) -> str:
    "The row of badges of the notebook `name`, on one line"
    cfg = settings()
    row = [('Open in Colab', 'https://colab.research.google.com/assets/colab-badge.svg', colab(cfg, name)),
           ('On GitHub', 'https://img.shields.io/badge/GitHub-notebook-181717', source(cfg, name)),
           ('On the site', 'https://img.shields.io/badge/site-lesson-0072B2', f"{site(cfg)}{name}.html")]
    return ' '.join(f'[![{alt}]({image})]({link})' for alt, image, link in row)

def minutes(name: str, profile: str) -> str | None:
    "How long a lesson takes, as `docs/execute.py` measured it"
    figures = json.loads(LESSONS.read_text())['figures'] if LESSONS.exists() else {}
    seconds = figures.get(profile, {}).get(name)
    return None if seconds is None else f'{max(1, round(seconds/60))} min'

def stamp(text: str, name: str) -> str:
    "The cell source `text` of the notebook `name` with badges, links and minutes brought up to date"
    text = re.sub(r'^<!-- badges -->(\n\[!\[.*)?$', lambda m: f'<!-- badges -->\n{badges(name)}', text, flags=re.M)
    cpu, gpu = minutes(name, 'cpu'), minutes(name, 'gpu')
    takes = f"**Takes** {f'{cpu} on CPU' if cpu else '? min on CPU'}, {f'{gpu} on a T4' if gpu else 'not yet run on a T4'}."
    text = re.sub(r'\*\*Takes\*\* .*? on CPU, .*? on a T4\.', lambda m: takes, text)
    text = re.sub(r'\[documentation site\]\([^)]*\)', lambda m: f'[documentation site]({site(settings())})', text)
    return re.sub(r'git\+https://github\.com/[\w.-]+/[\w.-]+', lambda m: f'git+{repository(settings())}', text)

def stamp_notebook(path: Path) -> bool:
    "Bring one notebook up to date in place; True where something changed"
    before = path.read_text(encoding='utf-8')
    nb = json.loads(before)
    for cell in nb['cells']: cell['source'] = stamp(''.join(cell['source']), path.stem).splitlines(True)
    after = json.dumps(nb, ensure_ascii=False, indent=1, sort_keys=True) + '\n'
    if json.loads(after) != json.loads(before): path.write_text(after, encoding='utf-8')
    return json.loads(after) != json.loads(before)
