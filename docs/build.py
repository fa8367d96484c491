"""Build the documentation site from the notebooks, without network and without executing them.

    python docs/build.py            # the site lies in docs/_site afterwards
    python docs/build.py FOLDER     # or there
"""
import re, shutil, sys, tempfile
from importlib.metadata import files
from pathlib import Path
import nbformat
from sphinx.cmd.build import main as sphinx

from website.lessons import lessons, page, toctrees, undescribed
from website.links import link, modules
from website.mend import mend
from website.pages import references, results
from website.pictures import social
from website.project import ROOT, repository, settings, site, wheel
from website.reference import index_table, module_page, page_name, promised
from website.robots import not_found, robots, sitemap
from website.search import findable
from website.wheel import build_wheel

DOCS = ROOT/'docs'
PLAYGROUND = 'play.html' # a page that needs nothing, and is served as it is
WRITTEN = 'cheatsheet glossary cite'.split() # pages that stand in this folder, in Markdown

def sources(to: Path):
    "Write all that Sphinx reads"
    if undescribed(): raise SystemExit('Pictures without a line `#| fig-alt: what is to be seen`:\n' + '\n'.join(undescribed()))
    more = {'At hand': ['questions', 'worth_it', 'cheatsheet', 'results', 'glossary', 'references', 'cite'], 'Reference': [*[f'{m} <{page_name(m)}>' for m in modules()], 'All names <all>', 'Index <genindex>']}
    for path in [*(ROOT/'nbs'/f'{o}.ipynb' for o in ('index', 'questions', 'worth_it', 'all')), *lessons()]:
        nb = page(path)
        for stem,extra in ('index', toctrees(more)),('all', index_table()):
            if path.stem==stem: nb.cells.append(nbformat.v4.new_markdown_cell(extra))
        if path.stem=='w10_playground': nb.cells.insert(1, nbformat.v4.new_markdown_cell(f'<p><a href="{PLAYGROUND}">Open the playground on a page of its own</a></p>'))
        nbformat.write(nb, to/path.name)
    texts = {page_name(m): module_page(m) for m in modules()} | {'results': results(), 'references': references()}
    cfg = settings()
    for name in WRITTEN:
        text = (DOCS/f'{name}.md').read_text(encoding='utf-8')
        for key,value in dict(version=cfg['version'], author=cfg['author'], repository=repository(cfg), wheel=site(cfg)+wheel(cfg)).items(): text = text.replace(f'@{key}@', value)
        texts[name] = link(re.sub(r'^\.\. also .*\n', '', text, flags=re.M), set() if name=='cheatsheet' else None)
    for name,text in texts.items(): (to/f'{name}.md').write_text(findable(text, name), encoding='utf-8')
    shutil.copytree(DOCS/'_static', to/'_static')

def static(to: Path):
    "What pages load besides their own files: MathJax, out of the package that carries it, and the picture for social networks"
    (to/'mathjax').mkdir(parents=True)
    mathjax = next(f for f in files('sphinx-mathjax-offline') if f.name=='tex-svg.js')
    shutil.copy(mathjax.locate(), to/'mathjax'/'tex-svg.js')
    social(to/'social.png')

def build(to: Path) -> int:
    "The site in the folder `to`; not 0 where Sphinx has anything to complain about"
    with tempfile.TemporaryDirectory() as folder:
        source,made = Path(folder)/'docs', Path(folder)/'site'
        source.mkdir()
        sources(source)
        static(made/'_static')
        failed = sphinx(['-q', '-n', '-W', '--keep-going', '-c', str(DOCS), '-d', str(Path(folder)/'doctrees'), str(source), str(made)])
        mend(made)
        shutil.rmtree(to, ignore_errors=True)
        shutil.copytree(made, to)
    for path in (to/'_sources').glob('*.ipynb'): shutil.copy(ROOT/'nbs'/path.name, path) # the download is the notebook itself
    for m in modules(): shutil.copy(to/'_sources'/f'{page_name(m)}.md', to/f'{promised(m)}.html.md') # what the docstring of the module promises
    build_wheel(to)
    shutil.copy(ROOT/'byol_fastai'/'playground.html', to/PLAYGROUND)
    for name,text in {'404.html': not_found(), 'robots.txt': robots(), 'sitemap.xml': sitemap(to), '.nojekyll': ''}.items(): (to/name).write_text(text, encoding='utf-8')
    return failed

if __name__=='__main__': sys.exit(build(Path(sys.argv[1]).resolve() if len(sys.argv)>1 else DOCS/'_site'))
