"Every notebook runs, is built as a lesson should be, and says the same as the module that is exported from it"
import ast, re, shutil, subprocess, sysconfig
from pathlib import Path
import nbformat, pytest
from nbclient import NotebookClient
from byol_fastai.config import PRESETS
from conftest import ROOT, tool

NOTEBOOKS = sorted((ROOT/'nbs').glob('*.ipynb'))
LESSONS,WORKSHOP = ([o for o in NOTEBOOKS if re.match(number, o.name)] for number in (r'\d\d[a-z]?_', r'w\d'))
every = pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda o: o.stem)
every_lesson = pytest.mark.parametrize('path', LESSONS, ids=lambda o: o.stem)
every_of_the_course = pytest.mark.parametrize('path', LESSONS+WORKSHOP, ids=lambda o: o.stem)
def read(path): return nbformat.read(path, 4)
def prose(path): return '\n\n'.join(c.source for c in read(path).cells if c.cell_type=='markdown')

def with_solutions(path):
    "The notebook, with the code of every folded solution in a cell of its own right after it"
    nb,cells = read(path), []
    for c in nb.cells:
        cells.append(c)
        if c.cell_type!='markdown': continue
        for folded in re.findall(r'<summary>Solution</summary>(.*?)</details>', c.source, re.S):
            cells += [nbformat.v4.new_code_cell(code) for code in re.findall(r'```python\n(.*?)```', folded, re.S)]
    nb.cells = cells
    return nb

@every
def test_it_runs_top_to_bottom_with_its_solutions(path, tmp_path, monkeypatch):
    monkeypatch.setenv('BYOL_FASTAI_PROFILE', 'quick')
    NotebookClient(with_solutions(path), timeout=600, kernel_name='python3', resources={'metadata': {'path': str(tmp_path)}}).execute()

HEAD = {'title': r'\A# \S', 'one sentence below it': r'\A# .+\n\n> \S.*\n', 'badges': r'(?m)^<!-- badges -->\n\[!\[Open in Colab\]',
    'needs and takes': r'(?m)^\*\*Needs\*\* .+ \*\*Takes\*\* Run \d+ min · work \d+ min\.'}
CHECK = {'a quiz': r'(?m)^## Check yourself', 'exercise 1': r'\*\*Exercise 1\*\*'}
LESSON = {'three goals': r'(?m)^#+ You will learn\n\n(- .+\n?){3}', 'a prediction': r'\*\*Predict\*\*', 'exercise 2': r'\*\*Exercise 2\*\*',
    'two solutions': r'(?s)(<summary>Solution</summary>.*){2}', 'three answers': r'(?s)(<summary>Answer</summary>.*){3}', 'references': r'(?m)^## References'}
IN_WORKSHOP = {'goals': r'(?m)^#+ You will learn\n\n(- .+\n?){2}', 'a solution': r'<summary>Solution</summary>'}

@every_of_the_course
def test_it_has_the_anatomy_of_a_lesson(path):
    wanted = {**CHECK, **(LESSON if path in LESSONS else IN_WORKSHOP)}
    assert [k for k,o in HEAD.items() if not re.search(o, read(path).cells[0].source)]==[]
    assert [k for k,o in wanted.items() if not re.search(o, prose(path))]==[]

@every_of_the_course
def test_what_is_folded_renders_and_every_solution_is_tested(path):
    text = prose(path)
    assert text.count('<details>')==text.count('</details>')
    assert text.count('<summary>')==len(re.findall(r'<summary>.*</summary>\n\n', text)), 'Markdown after a summary needs a blank line'
    solutions = re.findall(r'<summary>Solution</summary>(.*?)</details>', text, re.S)
    assert solutions and all(re.search(r'```python\n.*\b(assert|test_)', o, re.S) for o in solutions)

@every_of_the_course
def test_its_outputs_are_stored(path): assert sum(bool(c.outputs) for c in read(path).cells if c.cell_type=='code') > (5 if path in LESSONS else 0)

@every
def test_no_error_and_no_warning_is_stored(path):
    assert not [o for c in read(path).cells if c.cell_type=='code' for o in c.outputs if o.output_type=='error' or o.get('name')=='stderr']

@every
def test_it_is_light_and_in_small_pieces_and_speaks_plain_markdown(path):
    assert path.stat().st_size < 1_000_000
    long = [c.source.splitlines()[:2] for c in read(path).cells if c.cell_type=='code' and len(c.source.splitlines())>20]
    quarto = re.findall(r':::|\{\{<|@fig-', prose(path))
    assert not long and not quarto

@every_lesson
def test_it_is_read_in_one_sitting(path):
    assert sum(c.cell_type=='code' for c in read(path).cells) <= 50

@pytest.mark.parametrize('name', ['00_start', '07_learner'])
def test_it_trains_with_the_settings_of_the_program_where_it_says_so(name):
    calls = [o for c in read(ROOT/'nbs'/f'{name}.ipynb').cells if c.cell_type=='code' and not re.search('(?m)^ *%', c.source)
        for o in ast.walk(ast.parse(c.source)) if isinstance(o, ast.Call)]
    preset = {k: v for k,v in PRESETS['shapes'].items() if k not in ('arch', 'epochs', 'bs', 'probe_every')}
    def given(call): return {k.arg: ast.literal_eval(k.value) for k in call.keywords if k.arg in preset and isinstance(k.value, ast.Constant)}
    learner = max((given(o) for o in calls if ast.unparse(o.func)=='byol_learner'), key=len)
    fit = next({**given(o), 'lr': ast.literal_eval(o.args[1])} for o in calls if ast.unparse(o.func)=='learn.fit_byol' and any(k.arg=='flat' for k in o.keywords) and len(o.args)>1)
    assert learner | fit==preset

def test_the_index_leads_to_every_lesson_and_to_none_that_is_not_there():
    linked = re.findall(r'\]\(([\dw]\d\w*\.ipynb)\)', prose(ROOT/'nbs'/'index.ipynb'))
    assert linked==[o.name for o in sorted(LESSONS+WORKSHOP, key=tool('lessons').in_order)]

def test_the_library_needs_nothing_of_the_course():
    def imports(path): return re.findall(r'^ *(?:from|import) +\.?(\w+)', path.read_text(encoding='utf-8'), re.M)
    assert [o.name for o in (ROOT/'byol_fastai').glob('*.py') if o.stem!='course' and {'course', 'IPython'} & {*imports(o)}]==[]

def test_no_lesson_leads_astray():
    missing = [f'{o.name}: {link}' for o in NOTEBOOKS for link in re.findall(r'\]\(([\w./]+\.ipynb)\)', prose(o)) if not (o.parent/link).exists()]
    assert not missing

@pytest.fixture(scope='module')
def worked(tmp_path_factory):
    "A copy of the project after `nbdev-export` and `nbdev-clean`"
    copy = tmp_path_factory.mktemp('nbdev')/'project'
    shutil.copytree(ROOT/'nbs', copy/'nbs', ignore=shutil.ignore_patterns('.*'))
    for o in ('settings.ini', 'pyproject.toml', 'README.md'): shutil.copy(ROOT/o, copy)
    (copy/'byol_fastai').mkdir()
    for o in ('__init__.py', '__main__.py', 'all.py'): shutil.copy(ROOT/'byol_fastai'/o, copy/'byol_fastai')
    for command in ('nbdev-export', 'nbdev-clean'):
        subprocess.run([Path(sysconfig.get_path('scripts'))/command], cwd=copy, check=True, capture_output=True)
    return copy

@pytest.mark.xdist_group('nbdev')
def test_the_library_is_what_the_notebooks_export(worked):
    def modules(root): return {o.name: o.read_text() for o in (root/'byol_fastai').glob('*.py') if o.name!='_modidx.py'}
    made,here = modules(worked), modules(ROOT)
    assert sorted(made)==sorted(here), 'every module comes from a notebook'
    assert [k for k in here if made[k]!=here[k]]==[], 'run nbdev-export'

@pytest.mark.xdist_group('nbdev')
@every
def test_it_is_clean(path, worked): assert (worked/'nbs'/path.name).read_bytes()==path.read_bytes(), 'run nbdev-clean'
