"What the project is called and where it lives: `settings.ini`, read once for all who write it somewhere."
from configparser import ConfigParser
from pathlib import Path
from urllib.parse import quote

ROOT = Path(__file__).resolve().parent.parent.parent

def settings() -> dict:
    "The one place that knows owner, repository and version"
    ini = ConfigParser(delimiters='=', interpolation=None)
    ini.read(ROOT/'settings.ini', encoding='utf-8')
    return dict(ini['DEFAULT'])

def repository(cfg: dict) -> str: return f"https://github.com/{cfg['user']}/{cfg['repo']}"

def site(cfg: dict) -> str: return f"https://{cfg['user']}.github.io/{cfg['repo']}/"

def notebook(cfg: dict, name: str) -> str:
    "Where the notebook `name` stands in the repository"
    return f"{cfg['user']}/{cfg['repo']}/blob/{cfg['branch']}/nbs/{name}.ipynb"

def colab(cfg: dict, name: str) -> str: return f'https://colab.research.google.com/github/{notebook(cfg, name)}'

def source(cfg: dict, name: str) -> str: return f'https://github.com/{notebook(cfg, name)}'

def report(cfg: dict, page: str) -> str:
    "A new issue that names the page in its title"
    return f"{repository(cfg)}/issues/new?title={quote(f'{page}: ')}"

def wheel(cfg: dict) -> str:
    "The file that the site serves beside the lessons, to install from"
    return f"{cfg['lib_name']}-{cfg['version']}-py3-none-any.whl"
