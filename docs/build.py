"""Build the documentation site from the notebooks, without network and without executing them.

    python docs/build.py            # the site lies in docs/_site afterwards
"""
import inspect, json, re, shutil, sys
from importlib import import_module
from importlib.metadata import files
from pathlib import Path
import nbformat
from fastcore.docments import docments
from sphinx.cmd.build import main as sphinx

sys.path.insert(0, str(Path(__file__).parent))
from stamp import ROOT, repository, settings

SOURCE, SITE = ROOT/'docs'/'_build', ROOT/'docs'/'_site'
MODULES = 'course data augment model loss ema collapse learner evaluate runs cli'.split()
PARTS = {'Part I: build BYOL': range(0, 9), 'Part II: understand it': range(9, 12), 'Part III: use it': range(12, 99)}

def public() -> dict:
    "Every public name: the module it is defined in, and the object"
    mods = {m: import_module(f'byol_fastai.{m}') for m in MODULES}
    return {n: (m, getattr(mod, n)) for m, mod in mods.items() for n in mod.__all__}

# --- lessons

def details_to_dropdowns(text: str) -> str:
    "Folded answers as the theme's own dropdowns"
    text = re.sub(r'<details><summary>(.*?)</summary>', lambda m: f'::::{{dropdown}} {m[1]}\n', text)
    return text.replace('</details>', '\n::::\n')

def link_names(text: str, names: set) -> str:
    "Public names in backticks become links into the reference; code blocks and headings stay as they are"
    def line(s, state={'code': False}):
        if s.lstrip().startswith('```'): state['code'] = not state['code']
        if state['code'] or s.startswith(('#', '>')) or s.lstrip().startswith('```'): return s
        return re.sub(r'(?<![`\[{}])`(\w+)(\(\))?`(?!`)', lambda m: f'{{py:obj}}`{m[1]}`' if m[1] in names else m[0], s)
    return '\n'.join(map(line, text.split('\n')))

def page(nb, names: set):
    "The notebook as the site shows it: no badges, no directives, no cells that are hidden or only export"
    cells = []
    for cell in nb.cells:
        if cell.cell_type == 'markdown':
            cell.source = re.sub(r'<!-- badges -->\n.*\n?', '', cell.source)
            cell.source = link_names(details_to_dropdowns(cell.source), names)
        else:
            directives = re.findall(r'^#\|\s*(.*)$', cell.source, flags=re.M)
            if any(d.split()[0] in ('hide', 'export', 'default_exp') for d in directives): continue
            if 'echo: false' in directives: cell.metadata['tags'] = ['remove-input']
            cell.source = re.sub(r'^#\|.*\n?', '', cell.source, flags=re.M).strip('\n')
        cells.append(cell)
    nb.cells = cells
    nb.metadata['language_info'] = {'name': 'python', 'pygments_lexer': 'ipython3'}
    return nb

# --- reference

def lesson_of(module: str) -> Path | None:
    "The notebook that exports the module"
    return next((p for p in sorted((ROOT/'nbs').glob('*.ipynb')) if re.search(rf'#\| (default_exp|exports?) {module}\b', p.read_text())), None)

def source_link(obj) -> str:
    "Where the exported code of `obj` stands in the repository"
    cfg, (lines, start) = settings(), inspect.getsourcelines(obj)
    path = Path(inspect.getsourcefile(obj)).name
    return f"{repository(cfg)}/blob/{cfg['branch']}/{cfg['lib_name']}/{path}#L{start}-L{start+len(lines)-1}"

def annotation(a) -> str:
    return '' if a is inspect.Parameter.empty else getattr(a, '__name__', str(a)) if not hasattr(a, '__args__') else str(a)

def fields(obj) -> list:
    "The parameters and the result of `obj`, from the comments beside them"
    rows = []
    for name, d in docments(obj, full=True, returns=True).items():
        if name in ('self', 'cls'): continue
        note, kind = ' '.join((d.get('docment') or '').split()), annotation(d.get('anno', inspect.Parameter.empty))
        if name == 'return': rows += [f':returns: {note}'] if note else []
        else: rows += [f':param {name}: {note}'] + ([f':type {name}: `{kind}`'] if kind else [])
    return rows

def signature(obj) -> str:
    try: return re.sub(r'\bself, |\bself\b', '', str(inspect.signature(obj)), count=1)
    except ValueError: return '()'

def entry(kind: str, name: str, obj, inner: list = ()) -> list:
    "One object of the reference, as a directive of Sphinx's Python domain"
    fence = '::::::' if inner else '::::'
    return [f'{fence}{{py:{kind}}} {name}{signature(obj)}', '', inspect.getdoc(obj) or '', '', *fields(obj.__init__ if kind == 'class' else obj), '',
            f'[source]({source_link(obj)})', '', *inner, fence, '']

def methods(cls) -> list:
    "The documented methods that a class brings itself"
    own = [(n, o) for n, o in vars(cls).items() if inspect.isfunction(o) and not n.startswith('_') and o.__doc__]
    return [line for n, o in own for line in entry('method', n, o)]

def reference(module: str, names: dict) -> str:
    "The page of one module"
    lesson = lesson_of(module)
    lines = [f'# {module}', '', f'Built in [this lesson](../{lesson.name}).' if lesson else '', '', f'```{{py:currentmodule}} byol_fastai.{module}', '```', '']
    for name, (mod, obj) in sorted(names.items()):
        if mod != module: continue
        if inspect.isclass(obj): lines += entry('class', name, obj, methods(obj))
        elif inspect.isfunction(obj): lines += entry('function', name, obj)
        else: lines += [f'::::{{py:data}} {name}', '', f'`{str(obj)[:300]}`', '', '::::', '']
    return '\n'.join(lines)

# --- everything together

def toctrees(lessons: list) -> str:
    "The sidebar: the course in its parts, then the reference"
    number = lambda p: int(p.stem[:2])
    trees = [(part, [p.stem for p in lessons if number(p) in numbers]) for part, numbers in PARTS.items()]
    trees.append(('Reference', ['results', *[f'api/{m}' for m in MODULES]]))
    return '\n\n'.join('\n'.join([':::{toctree}', ':hidden:', f':caption: "{caption}"', '', *pages, ':::']) for caption, pages in trees if pages)

def results() -> str:
    "The ledger as a page: what was measured, how, on what and when"
    lines = ['# Results', '', 'Every entry was written by the program that measured it.', '']
    for path in sorted((ROOT/'byol_fastai'/'results').glob('*.json')):
        entry = json.loads(path.read_text())
        if path.stem == 'published': continue
        lines += [f'## {path.stem}', '', f"{entry['what']}.", '', f"`{entry['command']}` on {entry['device']}, {entry['date']}, commit {entry['commit']}, torch {entry['versions']['torch']}.", '',
                  '| figure | value |', '|---|---|', *[f'| {k} | {v} |' for k, v in flat(entry['figures'])], '']
    return '\n'.join(lines)

def flat(figures: dict, above: str = '') -> list:
    "Nested figures as rows"
    return [row for k, v in figures.items() for row in (flat(v, f'{above}{k} / ') if isinstance(v, dict) else [(above+k, v)])]

def write_sources():
    "All that Sphinx reads, below `docs/_build`"
    shutil.rmtree(SOURCE, ignore_errors=True)
    (SOURCE/'api').mkdir(parents=True)
    names, lessons = public(), sorted((ROOT/'nbs').glob('[0-9]*.ipynb'))
    for path in [ROOT/'nbs'/'index.ipynb', *lessons]:
        nb = page(nbformat.read(path, 4), set(names))
        if path.stem == 'index': nb.cells.append(nbformat.v4.new_markdown_cell(toctrees(lessons)))
        nbformat.write(nb, SOURCE/path.name)
    for m in MODULES: (SOURCE/'api'/f'{m}.md').write_text(reference(m, names))
    (SOURCE/'results.md').write_text(results())
    for name in 'conf.py', 'stamp.py': shutil.copy(ROOT/'docs'/name, SOURCE/name)
    shutil.copytree(ROOT/'docs'/'_static', SOURCE/'_static')
    mathjax = next(f for f in files('sphinx-mathjax-offline') if f.name == 'tex-svg.js')
    (SOURCE/'_static'/'mathjax').mkdir()
    shutil.copy(mathjax.locate(), SOURCE/'_static'/'mathjax'/'tex-svg.js')

def build() -> int:
    "The site in `docs/_site`; not 0 where Sphinx has anything to complain about"
    write_sources()
    shutil.rmtree(SITE, ignore_errors=True)
    failed = sphinx(['-q', '-n', '-W', '--keep-going', '-d', str(SOURCE/'_doctrees'), str(SOURCE), str(SITE)])
    for path in (ROOT/'nbs').glob('*.ipynb'): # what the download button gives is the notebook itself
        if (SITE/'_sources'/path.name).exists(): shutil.copy(path, SITE/'_sources'/path.name)
    return failed

if __name__ == '__main__': sys.exit(build())
