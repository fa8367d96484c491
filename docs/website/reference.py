"""The API reference: every public name as an object of Sphinx's Python domain, from its signature, its docstring, the comments beside its parameters, and the errors in its code.

Not by Sphinx's autodoc: it reads docstrings as reStructuredText, and knows neither methods that are patched into other classes, nor constants without a comment of its own kind,
nor defaults as they are written; what it would spare is the last part of this file."""
import ast, functools, inspect, re, textwrap
from functools import cache
from importlib import import_module
from pathlib import Path
import nbformat
from fastcore.docments import docments
from byol_fastai._modidx import d as index
from .links import external, lesson_of, link, members, own, public
from .project import ROOT, repository, settings

def page_name(module: str) -> str:
    "The page about a module, called as its notebook is, without the number"
    return lesson_of(module).stem.split('_', 1)[1]

def promised(module: str) -> str:
    "The page that nbdev's index and the docstring of the module promise: nbdev leaves out numbers, but not the letter of the workshop"
    return re.sub(r'^\d+\w?_', '', lesson_of(module).stem)

def called(lesson) -> str:
    "A notebook in a sentence"
    number = lesson.stem.split('_')[0]
    return f"{'workshop' if number[0]=='w' else 'lesson'} {number}"

# --- what the source says

def plain(obj):
    "The function below decorators and properties, or the class itself"
    return inspect.unwrap(obj.fget if isinstance(obj, property) else getattr(obj, '__func__', obj))

@cache
def tree(obj): return ast.parse(textwrap.dedent(inspect.getsource(obj))).body[0]

def maker(cls):
    "The `__init__` that a class brings or inherits from one of ours; `None` where it is somebody else's"
    return next((vars(c)['__init__'] for c in cls.__mro__ if '__init__' in vars(c) and c.__module__.startswith('byol_fastai') and not hasattr(c, '__dataclass_fields__')), None)

def callable_of(obj):
    "Where the parameters of `obj` are written: the function, the `__init__`, or the class of a dataclass"
    if inspect.isclass(obj): return obj if hasattr(obj, '__dataclass_fields__') else maker(obj)
    return plain(obj)

def written(f) -> dict:
    "Annotation and default of each parameter, as they stand in the source"
    if inspect.isclass(f): # a dataclass
        pairs = [(o.target.id, o.annotation, o.value) for o in tree(f).body if isinstance(o, ast.AnnAssign)]
    else:
        a = next(o for o in ast.walk(tree(f)) if hasattr(o, 'args') and isinstance(o.args, ast.arguments)).args # of a function, or of a lambda that has been given a name
        some = [*a.posonlyargs, *a.args]
        pairs = [(o.arg, o.annotation, v) for o,v in zip(some, [None]*(len(some)-len(a.defaults)) + a.defaults)]
        pairs += [(o.arg, o.annotation, v) for o,v in zip(a.kwonlyargs, a.kw_defaults)] + [(o.arg, o.annotation, None) for o in (a.vararg, a.kwarg) if o]
    return {n: (ast.unparse(a) if a else '', ast.unparse(v) if v else '') for n,a,v in pairs}

def parameters(obj) -> list:
    "Name, type, default and explanation of each parameter; stars belong to the name"
    f = callable_of(obj)
    if f is None: return []
    source,notes = written(f),explained(obj)
    res = []
    for p in inspect.signature(f).parameters.values():
        if p.name in ('self', 'cls'): continue
        anno,default = source.get(p.name, ('', '' if p.default is p.empty else repr(p.default)))
        if default.startswith('field('): anno,default = anno,'...'
        res.append(({p.VAR_POSITIONAL: '*', p.VAR_KEYWORD: '**'}.get(p.kind, '')+p.name, anno, default, notes.get(p.name, '')))
    return res

def explained(obj) -> dict:
    "What the comments beside the parameters say; those of an inherited parameter are inherited too"
    f = callable_of(obj)
    notes = {n: ' '.join((d.get('docment') or '').split()) for n,d in docments(f, full=True, returns=True).items()}
    for name,note in re.findall(r'^ *\*{1,2}(\w+),? *# (.+)$', inspect.getsource(f), re.M): # docments takes it for a note on the result
        if notes.get('return')==note: notes['return'] = ''
        notes[name] = note
    parents = [c for c in obj.__mro__[1:] if c.__module__.startswith('byol_fastai')] if inspect.isclass(obj) else []
    for c in parents:
        if callable_of(c): notes = {**explained(c), **{k: v for k,v in notes.items() if v}}
    passes = re.search(r'^@delegates\(([\w.]+)', inspect.getsource(f), re.M)
    if not passes: return notes
    name,*attributes = passes[1].split('.')
    return {**explained(functools.reduce(getattr, attributes, f.__globals__[name])), **{k: v for k,v in notes.items() if v}}

def returned(obj) -> tuple:
    "Type and explanation of the result"
    if inspect.isclass(obj): return '',''
    node = getattr(tree(plain(obj)), 'returns', None) # a lambda says nothing
    return ast.unparse(node) if node else '', explained(obj).get('return', '')

def unexplained(obj) -> list:
    "Parameters about which neither a comment nor the docstring says a word"
    return [n for n,_,_,note in parameters(obj) if not note and f"`{n.strip('*')}" not in (inspect.getdoc(obj) or '')]

# --- errors

def message(node) -> str:
    "The sentence of an error; what is filled in when it is raised stands in braces, long expressions as dots"
    if isinstance(node, ast.Constant): return str(node.value)
    if isinstance(node, ast.BinOp): return message(node.left) + ('' if isinstance(node.right, ast.IfExp) else message(node.right))
    if not isinstance(node, ast.JoinedStr): return '…'
    filled = lambda o: f'{{{ast.unparse(o)}}}' if isinstance(o, (ast.Name, ast.Attribute)) else '…'
    return ''.join(o.value if isinstance(o, ast.Constant) else filled(o.value) for o in node.values)

def raised(f, seen: set = None) -> list:
    "Kind and sentence of each error that `f` raises, and those of the functions of its module that it calls for that purpose"
    seen = seen if seen is not None else set()
    res,mod = [],import_module(f.__module__)
    if f in seen: return []
    seen.add(f)
    for node in ast.walk(tree(f)):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and node.exc.args:
            res.append((ast.unparse(node.exc.func), message(node.exc.args[0])))
        called = node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ''
        helper = getattr(mod, called, None) if called.startswith(('_', 'check_')) else None
        if inspect.isfunction(helper) and helper.__module__==f.__module__: res += raised(inspect.unwrap(helper), seen)
    return list(dict.fromkeys(o for o in res if o[1]!='…' and o[0]!='argparse.ArgumentTypeError'))

def errors(obj) -> list:
    "Of a function; of a class, when it is made"
    if not inspect.isclass(obj): return raised(plain(obj))
    made = [vars(obj)[n] for n in ('__init__', '__post_init__') if n in vars(obj)]
    return [o for f in made if f.__code__.co_filename!='<string>' for o in raised(f)] # a dataclass makes its `__init__` out of thin air

# --- where it is

def source_url(full: str) -> str | None:
    "Where the exported code of a name stands in the repository"
    module,_,name = full.removeprefix('byol_fastai.').partition('.')
    cfg,file = settings(),f'byol_fastai/{module}.py'
    url = f"{repository(cfg)}/blob/{cfg['branch']}/{file}"
    obj = import_module(f'byol_fastai.{module}')
    for part in filter(None, name.split('.')): obj = inspect.getattr_static(obj, part)
    if inspect.isclass(obj) or inspect.isfunction(plain(obj)):
        lines,start = inspect.getsourcelines(plain(obj))
        return f'{url}#L{start}-L{start+len(lines)-1}'
    return f'{url}#L{assignments(module)[name][2]}' if name else url

@cache
def sections(module: str) -> list:
    "Heading and code of every code cell of the lesson that builds `module`"
    heading,res = '',[]
    for c in nbformat.read(lesson_of(module), 4).cells:
        if c.cell_type=='code': res.append((heading, c.source))
        else: heading = (re.findall(r'^#{1,3} (.+)$', re.sub(r'(?s)```.*?```', '', c.source), re.M) or [heading])[-1]
    return res

def built(module: str, name: str) -> str:
    "In which section of the lesson the cell stands that makes `name`"
    cls,_,method = name.rpartition('.')
    what = rf'^def {method}\((self|cls):{cls}\b' if cls else rf'^(class|def) {name}\b|^([\w, ]*\b)?{name}\b[\w, ]*='
    heading = next((h for h,code in sections(module) if re.search(r'^#\| exports?', code, re.M) and re.search(what, code, re.M)), '')
    lesson = lesson_of(module)
    return f'Built in [{called(lesson)}{", "+heading if heading else ""}]({lesson.name}{"#"+slug(heading) if heading else ""}).'

def slug(heading: str) -> str:
    "The anchor that MyST gives a heading"
    from myst_parser.mdit_to_docutils.base import default_slugify
    return default_slugify(re.sub(r'[`*]', '', heading))

# --- as Markdown

def signature(obj) -> str:
    "The parameters with their types and defaults, and the type of the result"
    if inspect.isclass(obj) and callable_of(obj) is None: return ''
    args = [n + (f': {anno}' if anno else '') + (f' = {default}' if default and anno else f'={default}' if default else '') for n,anno,default,_ in parameters(obj)]
    anno,_ = returned(obj)
    return f"({', '.join(args)})" + (f' -> {anno}' if anno else '')

def safe(text: str) -> str:
    "Plain text as Markdown, in which only code in backticks stays what it is"
    return ''.join(o if o.startswith('`') else re.sub(r'([\\*_<>\[\]$])', r'\\\1', o) for o in re.split(r'(`[^`]+`)', text))

def typed(anno: str) -> str:
    "An annotation, each of its names a link"
    def role(m): return f'{{py:obj}}`{m[0]} <{own().get(m[0], m[0])}>`' if m[0] in own() or external(m[0]) else f'`{m[0]}`'
    return re.sub(r'[A-Za-z_][\w.]*', role, anno)

def table(head: list, rows: list) -> list:
    "A table without the columns in which nothing stands"
    used = [i for i in range(len(head)) if any(row[i] for row in rows)]
    line = lambda cells: '| ' + ' | '.join(cells[i].replace('|', r'\|') for i in used) + ' |'
    return [line(head), '|'+'---|'*len(used), *map(line, rows), ''] if rows else []

def fields(obj) -> list:
    "Parameters, result and errors"
    rows = [(f'`{n}`', typed(anno), f'`{default}`' if default else '', link(note)) for n,anno,default,note in parameters(obj)]
    anno,note = returned(obj)
    lines = table(['parameter', 'type', 'default', 'what it is'], rows)
    if anno or note: lines += ['**Returns** ' + ': '.join(filter(None, (typed(anno), link(note)))), '']
    if errors(obj): lines += ['**Raises**', '', *[f'- {typed(kind)}: “{safe(text)}”' for kind,text in errors(obj)], '']
    return lines

def entry(kind: str, full: str, obj, inner: list = (), options: list = ()) -> list:
    "One object as a directive"
    module,_,name = full.removeprefix('byol_fastai.').partition('.')
    fence = '::::::' if inner else '::::'
    anchor = index['syms'].get(f'byol_fastai.{module}', {}).get(full, ('',))[0].partition('#')[2]
    head = [f'<a id="{anchor}"></a>', ''] if anchor else []
    declared = f'property}} {name}' if isinstance(obj, property) else f'{kind}}} {name}{signature(obj)}'
    return [*head, f'{fence}{{py:{declared}', *options, '', link(inspect.getdoc(obj) or ''), '', *fields(obj), '', *inner, fence, '']

def class_entry(o) -> list:
    "A class with its bases, its methods, and where it is built"
    bases = [b.__name__ for b in o.obj.__bases__ if b is not object]
    inner = [f"Bases: {', '.join(link(f'`{b}`') for b in bases)}", ''] if bases else []
    for n in members(o.obj):
        m = vars(o.obj)[n]
        inner += entry('method', f'{o.full}.{n}', m, options=[':staticmethod:'] if isinstance(m, staticmethod) else [':classmethod:'] if isinstance(m, classmethod) else [])
    kind = 'exception' if issubclass(o.obj, BaseException) else 'class'
    return entry(kind, o.full, o.obj, [*inner, built(o.module, o.name), ''])

@cache
def assignments(module: str) -> dict:
    "The statement that makes each constant, as it stands in the source with the comments around it"
    text = (ROOT/'byol_fastai'/f'{module}.py').read_text(encoding='utf-8')
    res,lines = {},text.splitlines()
    for node in ast.parse(text).body:
        for name in (o.id for t in getattr(node, 'targets', ()) for o in ast.walk(t) if isinstance(o, ast.Name)):
            beside,above = lines[node.end_lineno-1].partition(' # ')[2], lines[node.lineno-2]
            res[name] = ast.get_source_segment(text, node), beside or (above[2:] if re.match('# (?!%%)', above) else ''), node.lineno
    return res

def comment(o) -> str:
    "What stands beside or above a constant"
    note = assignments(o.module)[o.name][1]
    return note[:1].upper() + note[1:]

def data_entry(o) -> list:
    "A constant with its value, or where that is long, as it stands in the source"
    kind = next(c.__name__ for c in type(o.obj).__mro__ if external(c.__name__))
    value,source = repr(o.obj), assignments(o.module)[o.name][0]
    short = len(value)<80 and not isinstance(o.obj, Path)
    long = [] if short else ['```python', source, '```', '']
    return ['::::{py:data} '+o.name, f':type: {kind}', *([f':value: {value}'] if short else []), '', link(comment(o)), '', *long, built(o.module, o.name), '', '::::', '']

def any_entry(o) -> list:
    if inspect.isclass(o.obj): return class_entry(o)
    if not inspect.isfunction(plain(o.obj)) and not isinstance(o.obj, property): return data_entry(o)
    return entry('method' if '.' in o.name else 'function', o.full, o.obj, [built(o.module, o.name), ''])

def says(o) -> str:
    "The first sentence about a name"
    doc = inspect.getdoc(o.obj) if callable(o.obj) or isinstance(o.obj, property) else comment(o)
    return link(re.split(r'(?<=[a-z)`])[.;:] ', doc or '')[0].replace('\n', ' '))

def of(module: str) -> list: return [o for o in public().values() if o.module==module]

def module_page(module: str) -> str:
    "The reference of one module"
    lesson = lesson_of(module)
    doc = import_module(f'byol_fastai.{module}').__doc__.split('\n')[0]
    names = table(['name', 'what it is'], [(f'{{py:obj}}`{o.name} <{o.full}>`', says(o)) for o in of(module)])
    head = [f'# byol_fastai.{module}', '', f'```{{py:module}} byol_fastai.{module}', '```', '', f'> {doc}', '', f'Built in [{called(lesson)}]({lesson.name}). `from byol_fastai.{module} import *` brings all of it.', '', *names]
    return '\n'.join([*head, *[line for o in of(module) for line in any_entry(o)]])

def index_table() -> str:
    "The names that `byol_fastai.all` brings, in alphabetical order"
    names = sorted((public()[o] for o in import_module('byol_fastai.all').__all__), key=lambda o: o.name.lower())
    rows = [(f'{{py:obj}}`{o.name} <{o.full}>`', says(o), f'{{py:mod}}`{o.module} <byol_fastai.{o.module}>`') for o in names]
    return '\n'.join(['## What it brings', '', *table(['name', 'what it is', 'module'], rows), 'The other names are on the pages of their modules, and every name, with all methods, is in the [index](genindex).'])
