"Where names lead: symbols in backticks to the reference or to the project they come from, terms to the glossary, papers to arXiv."
import ast, inspect, pkgutil, re
from functools import cache
from importlib import import_module
from types import SimpleNamespace
import torch
from torch import nn, optim
from torch.nn import functional as F
import byol_fastai
from byol_fastai._modidx import d as our_index
from fastai._modidx import d as fastai_index
from fastcore._modidx import d as fastcore_index
from .project import ROOT

# --- our own names

@cache
def modules() -> tuple:
    "The names of all modules, in the order of the lessons that export them"
    names = [o.name for o in pkgutil.iter_modules(byol_fastai.__path__) if not o.name.startswith('_') and o.name!='all']
    return tuple(sorted(names, key=lambda o: lesson_of(o).name))

@cache
def lesson_of(module: str):
    "The notebook that exports `module`"
    return next(p for p in sorted((ROOT/'nbs').glob('*.ipynb')) if re.search(rf'#\| default_exp {module}\b', p.read_text(encoding='utf-8')))

@cache
def makes(module: str) -> set:
    "The names that `module` defines itself, and does not only pass on"
    top = ast.parse((ROOT/'byol_fastai'/f'{module}.py').read_text(encoding='utf-8')).body
    assigned = [n.id for o in top for t in getattr(o, 'targets', ()) for n in ast.walk(t) if isinstance(n, ast.Name)]
    return {*assigned, *(o.name for o in top if isinstance(o, (ast.FunctionDef, ast.ClassDef)))}

def patched(module: str) -> list:
    "Methods that `module` adds to the classes of others, as `Class.method`"
    mod = import_module(f'byol_fastai.{module}')
    names = [o.removeprefix(f'byol_fastai.{module}.') for o in our_index['syms'].get(f'byol_fastai.{module}', {})]
    classes = {o for o in names if '.' not in o}
    return [o for o in names if '.' in o and o.split('.')[0] not in classes and hasattr(mod, o.split('.')[0])]

@cache
def public() -> dict:
    "Every public name, and what it is: `module`, `name` and the object itself"
    found = {}
    for m in modules():
        mod = import_module(f'byol_fastai.{m}')
        for name in (*(o for o in mod.__all__ if o in makes(m)), *patched(m)):
            obj = mod
            for part in name.split('.'): obj = inspect.getattr_static(obj, part)
            found[name] = SimpleNamespace(module=m, name=name, obj=obj, full=f'byol_fastai.{m}.{name}')
    return found

def members(cls) -> list:
    "Names of the methods and properties that a class brings itself and that say what they do; a function of the module under another name is told of there"
    def told(o):
        o = inspect.unwrap(o.fget if isinstance(o, property) else getattr(o, '__func__', o))
        return inspect.isfunction(o) and (o.__doc__ or ' # ' in inspect.getsource(o).split(':\n')[0])
    lent = [n for n,o in vars(cls).items() if isinstance(o, staticmethod) and '.' not in o.__func__.__qualname__]
    return [n for n,o in vars(cls).items() if (not n.startswith('_') or n=='__call__') and n not in lent and told(o)]

@cache
def own() -> dict:
    "Everything that prose may call it -> its full name: `EMATarget`, `EMATarget.tau_at`, `byol_fastai.ema`, `fit_byol`"
    res = {f'byol_fastai.{m}': f'byol_fastai.{m}' for m in modules()}
    for name,o in public().items():
        res |= {name: o.full, name.split('.')[-1]: o.full}
        if inspect.isclass(o.obj): res |= {f'{name}.{n}': f'{o.full}.{n}' for n in members(o.obj)}
    return res

# --- the names of others

@cache
def listed() -> dict:
    "What stands in `docs/links.txt`"
    res,base = {},''
    for line in (ROOT/'docs'/'links.txt').read_text(encoding='utf-8').splitlines():
        if line.startswith('https://'): base = line
        elif line and not line.startswith('#'): res[line.split()[-1]] = base + (line.split()[0] if len(line.split())>1 else '')
    return res

@cache
def fastai_names() -> dict:
    "Classes, functions with more than one word, and the methods of `Learner`, from the indices that fastai and fastcore install"
    res = {}
    for index in (fastcore_index, fastai_index):
        host = index['settings']['doc_host'] + index['settings']['doc_baseurl']
        for module,syms in index['syms'].items():
            for full,(page,_) in syms.items():
                name = full.removeprefix(module+'.')
                if '.' not in name and not name.startswith('_') and (name[0].isupper() or '_' in name): res[name] = host+page
                elif re.fullmatch(r'Learner\.[a-z]\w*', name): res |= {name: host+page, name.split('.')[1] if '_' in name else name: host+page}
    return res

SHORT = {'torch': torch, 'nn': nn, 'F': F, 'optim': optim}

def torch_page(name: str) -> str | None:
    "PyTorch's page about `torch.x`, `nn.X`, `F.x` or `optim.X`, where there is such a thing"
    first,*rest = name.split('.')
    if first not in SHORT or not rest or any(o.startswith('_') for o in rest): return None
    obj = SHORT[first]
    for part in rest: obj = getattr(obj, part, None)
    return obj and f"https://docs.pytorch.org/docs/stable/generated/{'.'.join((SHORT[first].__name__, *rest))}.html"

def external(name: str) -> str | None:
    "The address of the documentation of somebody else's name"
    return listed().get(name) or torch_page(name) or fastai_names().get(name)

def known(code: str) -> str | None:
    "The name that a piece of code in backticks is about, where we can link it: `f(x)` is about `f`, `learn.save` about `Learner.save`"
    m = re.fullmatch(r'([A-Za-z_][\w.]*)(\(.*\))?', code)
    if not m: return None
    names = [m[1], re.sub(r'^learn\.', 'Learner.', m[1]), re.sub(r'^model\.', 'BYOL.', m[1])]
    return next((o for o in names if o in own() or external(o)), None)

# --- prose

@cache
def terms() -> dict:
    "Every way in which prose may write a term of the glossary -> the term; other ways than the plural stand behind `.. also` in `docs/glossary.md`"
    res,term = {},None
    for line in (ROOT/'docs'/'glossary.md').read_text(encoding='utf-8').split('{glossary}')[1].splitlines():
        if line.startswith('.. also '): res |= {o: term for o in line.removeprefix('.. also ').split(', ')}
        elif re.match(r'\w', line): term = line; res |= {term: term, term+'s': term}
    return res

KEEP = re.compile(r'```(?!\{glossary\}).*?```|~~~.*?~~~|\$\$.*?\$\$|^#{1,6} .*?$|^> .*?$|!?\[[^\]]*\]\([^)]*\)|\{[\w:]+\}`[^`]*`|<[^>\n]+>|\$[^$\n]+\$|^\|[-:| ]+\|$', re.S|re.M)
CODE = re.compile(r'(?<!`)`([^`\n]+)`(?!`)')

def outside(text: str, change) -> str:
    "`text` with `change` applied wherever it is prose: not in code blocks, formulas, headings and links"
    parts,at = [],0
    for m in KEEP.finditer(text):
        parts += [change(text[at:m.start()]), m[0]]
        at = m.end()
    return ''.join([*parts, change(text[at:])])

def link_names(text: str) -> str:
    "Names in backticks become links"
    def role(m):
        name = known(m[1])
        return f'{{py:obj}}`{m[1]} <{own().get(name, name)}>`' if name and not re.search('[<>]', m[1]) else m[0]
    return outside(text, lambda o: CODE.sub(role, o))

def link_papers(text: str) -> str:
    "`arXiv 2006.07733` becomes a link"
    return outside(text, lambda o: re.sub(r'(?:arXiv[: ])(\d{4}\.\d{5})', r'[arXiv \1](https://arxiv.org/abs/\1)', o))

def link_terms(text: str, seen: set) -> str:
    "The first use of each term of the glossary that is not yet in `seen` becomes a link"
    ways = sorted(terms(), key=len, reverse=True)
    find = re.compile(r'(?<![\w`-])(' + '|'.join(map(re.escape, ways)) + r')(?![\w`-])', re.I)
    lower = {k.lower(): v for k,v in terms().items()}
    def role(m):
        term = lower[m[1].lower()]
        if term in seen: return m[0]
        seen.add(term)
        return f'{{term}}`{m[1]} <{term}>`'
    def prose(o): return ''.join(part if part[:1] in '`*' else find.sub(role, part) for part in re.split(r'(`[^`\n]+`|(?<!\*)\*[^*\n]+\*(?!\*))', o)) # code and titles stay
    return outside(text, prose)

def link(text: str, seen: set = None) -> str:
    "All of it"
    text = link_papers(link_names(text))
    return text if seen is None else link_terms(text, seen)
