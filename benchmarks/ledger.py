"What every benchmark ends with: its figures in the ledger, with what was run, on what, and when."
import json, shutil, subprocess
from datetime import date
from pathlib import Path
from byol_fastai import course
from byol_fastai.saving import write_atomically

def commit_of(folder: Path) -> str | None:
    "The short hash of the commit that is checked out in `folder`; nothing where there is no git, or no repository"
    git = shutil.which('git')
    return git and subprocess.run([git, 'rev-parse', '--short', 'HEAD'], cwd=folder, capture_output=True, text=True).stdout.strip() or None

def as_text(entry, indent: str = '') -> str:
    "JSON, a key a line and a list in one line: short enough to keep every epoch of many runs, and still to be read"
    if not isinstance(entry, dict) or not entry: return json.dumps(entry)
    lines = [f'{indent}  {json.dumps(str(k))}: {as_text(v, indent+"  ")}' for k, v in entry.items()]
    return '{\n' + ',\n'.join(lines) + f'\n{indent}}}'

def file_of(name: str) -> Path:
    "Where the ledger keeps the entry `name`"
    return Path(str(course.RESULTS/f'{name}.json'))

def record(name: str, what: str, figures: dict, command: str, protocols: dict | None = None, **config) -> Path:
    """Write `figures` into the file `name` of the ledger, with a sentence about what was measured, the command that measures it again, and all else that was chosen.
    `protocols` says of figures that are comparable with published ones on which `data` and by which `protocol` they were measured"""
    path = file_of(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    entry = dict(what=what, figures=figures, **(dict(protocols=protocols) if protocols else {}), command=command, config=config, device=course.device_name(),
        versions=course.versions(), commit=commit_of(path.parent), date=str(date.today()))
    write_atomically(path, lambda o: o.write_text(as_text(entry)+'\n'))
    return path
