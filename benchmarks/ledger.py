"What every benchmark ends with: its figures in the ledger, with what was run, on what, and when."
import json, shutil, subprocess
from datetime import date
from pathlib import Path
from byol_fastai import course

def commit_of(folder: Path) -> str | None:
    "The short hash of the commit that is checked out in `folder`; nothing where there is no git, or no repository"
    git = shutil.which('git')
    return git and subprocess.run([git, 'rev-parse', '--short', 'HEAD'], cwd=folder, capture_output=True, text=True).stdout.strip() or None

def record(name: str, what: str, figures: dict, command: str, **config) -> Path:
    "Write `figures` into the file `name` of the ledger, with a sentence about what was measured, the command that measures it again, and all else that was chosen"
    path = Path(str(course.RESULTS/f'{name}.json'))
    path.parent.mkdir(exist_ok=True)
    entry = dict(what=what, figures=figures, command=command, config=config, device=course.device_name(), versions=course.versions(),
        commit=commit_of(path.parent), date=str(date.today()))
    path.write_text(json.dumps(entry, indent=2)+'\n')
    return path
