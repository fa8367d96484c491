"What the project is called and where it lives: `settings.ini`, read once for all who write it somewhere."
from configparser import ConfigParser
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent

def settings() -> dict:
    "The one place that knows owner, repository and version"
    ini = ConfigParser(delimiters='=', interpolation=None)
    ini.read(ROOT/'settings.ini', encoding='utf-8')
    return dict(ini['DEFAULT'])

def repository(cfg: dict) -> str: return f"https://github.com/{cfg['user']}/{cfg['repo']}"

def site(cfg: dict) -> str: return f"https://{cfg['user']}.github.io/{cfg['repo']}/"
