"Hands the metadata of `settings.ini`, its only home, to setuptools; what nbdev must read statically stands in `pyproject.toml`."
from configparser import ConfigParser
from pathlib import Path
from setuptools import find_packages, setup

here = Path(__file__).parent
ini = ConfigParser(delimiters='=', interpolation=None)
ini.read(here/'settings.ini', encoding='utf-8')
cfg = ini['DEFAULT']
lines = lambda key: [line.strip() for line in cfg[key].strip().splitlines()]

setup(
    version=cfg['version'],
    description=cfg['description'],
    long_description=(here/'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    author=cfg['author'],
    author_email=cfg['author_email'],
    license=cfg['license'],
    keywords=cfg['keywords'].split(),
    packages=find_packages(include=['byol_fastai*']),
    package_data={'byol_fastai': ['results/*.json', 'weights/*', '*.html', '*.js']},
    install_requires=lines('requirements'),
    extras_require={o: lines(f'{o}_requirements') for o in ('dev', 'scale', 'export', 'explore', 'bench')},
    entry_points={'console_scripts': lines('console_scripts')},
)
