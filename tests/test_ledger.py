"Every measured figure has a source, and prose quotes none that has not"
import itertools, json, re
import nbformat, pytest
from byol_fastai import course
from byol_fastai.course import figure, ledger, results_table, seeds_table
from ledger import record
from conftest import ROOT, tool

RESULTS = sorted((ROOT/'byol_fastai'/'results').glob('*.json'))
OURS = {'what', 'figures', 'command', 'config', 'device', 'versions', 'commit', 'date'}

def numbers(o):
    "All the numbers in nested dicts"
    if isinstance(o, dict): return [n for v in o.values() for n in numbers(v)]
    return [o] if isinstance(o, (int, float)) else []

@pytest.mark.parametrize('path', RESULTS, ids=lambda o: o.stem)
def test_every_entry_says_where_its_figures_come_from(path):
    entry = json.loads(path.read_text())
    if path.stem=='published': assert set(entry)=={'what', 'figures', 'sources', 'protocols'} and all(entry.values())
    else:
        assert set(entry)-{'protocols'}==OURS and all(entry[k] for k in OURS-{'config', 'commit'}), 'a figure without a source is no figure'
        assert re.fullmatch(r'\d{4}-\d\d-\d\d', entry['date']) and {'python', 'torch', 'fastai', 'byol_fastai'} <= set(entry['versions'])
        assert re.fullmatch(r'[0-9a-f]{7,40}', entry['commit']), 'measured in a state that nobody can get back'
    assert numbers(entry['figures'])

def test_published_figures_are_shares():
    assert RESULTS and all(0<=o<=1 for o in numbers(ledger('published')['figures']))

def test_every_published_figure_says_what_it_was_measured_on_and_how():
    entry = ledger('published')
    assert set(entry['protocols'])==set(entry['figures']) and all(set(o)=={'data', 'protocol'} and all(o.values()) for o in entry['protocols'].values())

def test_figures_are_found_by_their_key(tmp_path, monkeypatch):
    monkeypatch.setattr(course, 'RESULTS', tmp_path)
    record('mine', 'A test', {'a': .5, 'b': {'c': 2}}, 'pytest', seed=3)
    entry = ledger('mine')
    assert set(entry)==OURS and entry['config']=={'seed': 3} and entry['command']=='pytest'
    assert figure('mine/a')==.5 and figure('mine/b/c')==2
    for key in ('mine/z', 'mine/a/z', 'mine/b/z', 'other/a'): assert figure(key) is None

def test_without_git_or_outside_a_repository_there_is_no_commit_and_all_the_rest(tmp_path, monkeypatch):
    monkeypatch.setattr(course, 'RESULTS', tmp_path)
    record('outside', 'A test', {'a': 1}, 'pytest')
    monkeypatch.setenv('PATH', str(tmp_path))
    record('gitless', 'A test', {'a': 1}, 'pytest')
    for o in ('outside', 'gitless'): assert ledger(o)['commit'] is None and figure(f'{o}/a')==1

def cells(table):
    "The cells of a table, without the line below its head"
    rows = [[c.strip() for c in o.strip('|').split('|')] for o in table.data.splitlines()]
    assert len({len(o) for o in rows})==1 and set(rows[1])=={'---'}
    return [rows[0], *rows[2:]]

@pytest.fixture
def own(tmp_path, monkeypatch):
    "A ledger of its own"
    monkeypatch.setattr(course, 'RESULTS', tmp_path)
    return tmp_path

def test_the_table_shows_what_was_measured_and_says_what_was_not(own):
    record('mine', 'A test', {'a': .5, 'zero': 0.}, 'pytest')
    record('theirs', 'A test', {'a': .525}, 'pytest')
    rows = [('both', 'mine/a', 'theirs/a'), ('zero', 'mine/zero', None), ('none', 'mine/z', 'theirs/z')]
    assert cells(results_table(rows))==[['what we did', 'ours', 'published'], ['both', '50.0 %', '52.5 %'], ['zero', '0.0 %', '–'], ['none', 'not yet run', 'not yet run']]
    assert cells(results_table(rows[1:2]))==[['what we did', 'ours'], ['zero', '0.0 %']]

def test_a_difference_is_there_only_where_data_and_protocol_are_the_same(own):
    how = dict(data='CIFAR-10', protocol='kNN')
    record('theirs', 'A test', {'a': {'knn': .525}, 'b': .4, 'c': .3}, 'pytest', protocols={'a': how, 'b': how | dict(protocol='linear'), 'c': {}})
    record('mine', 'A test', {'a': .5, 'b': {'d': .5}, 'c': .3}, 'pytest', protocols={'a': how, 'b': how})
    rows = [('same', 'mine/a', 'theirs/a/knn'), ('another protocol', 'mine/a', 'theirs/b'), ('nobody says', 'mine/c', 'theirs/c'), ('not run', 'mine/b/z', 'theirs/a/knn')]
    assert [o[3] for o in cells(results_table(rows))]==['difference', '-2.5', '–', '–', '–']
    for o in rows[1:]: assert len(cells(results_table([o]))[0])==3

@pytest.mark.parametrize('path', sorted((ROOT/'nbs').glob('*.ipynb')), ids=lambda o: o.stem)
def test_tables_stored_in_a_notebook_say_what_the_ledger_says(path):
    tables = tool('tables')
    before = json.loads(path.read_text(encoding='utf-8'))
    assert tables.refresh(json.loads(json.dumps(before)), path.name)==before, 'run python docs/refresh.py'

def test_a_table_of_seeds_is_brought_up_to_date_as_well(own):
    tables = tool('tables')
    (own/'mine.json').write_text(json.dumps(dict(figures=dict(runs=dict(a={'0': dict(knn=.5)})))))
    source,output = "from x import *\nseeds_table('mine', measure='knn')",lambda: dict(data={'text/markdown': ['old'], 'text/plain': ['']})
    nb = dict(cells=[dict(cell_type='code', source=[source], outputs=[output()])])
    assert ''.join(tables.refresh(nb, 'n')['cells'][0]['outputs'][0]['data']['text/markdown'])==seeds_table('mine', measure='knn').data
    assert tables.tables(source, 'n')==[], 'it compares nothing with the papers'

def test_a_table_is_made_from_its_cell_alone():
    tables = tool('tables').tables
    assert tables("from x import *\nrows = [(k, f'a/{k}', None) for k in 'uv']\nresults_table(rows, percent=False)", 'n')==[([('u', 'a/u', None), ('v', 'a/v', None)], False)]
    assert tables('print(1)', 'n')==[]
    with pytest.raises(ValueError, match='in the cell itself'): tables('results_table(elsewhere)', 'n')

# --- prose

SETTINGS = {1, 2, 8, 10, 100} # shares of labels, of a fit or of an image; chance among ten classes
PERCENT = r'([+−-]?)(\d+(?:\.\d+)?)\s*\\?%'
POINTS = r'()(\d+(?:\.\d+)?) (?:percentage )?points?\b'

def texts():
    "Name and prose of README and notebooks: without code, and for the README without the tables that code has made"
    readme = (ROOT/'README.md').read_text(encoding='utf-8')
    yield 'README.md', re.sub(r'(?m)^\| .*(%|not yet run).*$', '', readme)
    for f in sorted((ROOT/'nbs').glob('*.ipynb')):
        yield f.name, '\n\n'.join(c.source for c in nbformat.read(f, 4).cells if c.cell_type=='markdown')

@pytest.mark.parametrize('name, text', [pytest.param(*o, id=o[0]) for o in texts()])
def test_a_percentage_in_prose_is_a_published_figure_or_a_setting(name, text):
    text = re.sub(r'(?s)```.*?```|`[^`\n]*`', '', text)
    published = {round(100*o, 2) for o in numbers(ledger('published')['figures'])}
    differences = {round(abs(a-b), 2) for a,b in itertools.combinations(published, 2)}
    found = [m[0] for m in re.finditer(PERCENT, text) if float(m[2]) not in (differences if m[1] else published|SETTINGS)]
    found += [m[0] for m in re.finditer(POINTS, text) if float(m[2]) not in differences and '.' in m[2]]
    assert not found, f'{name} quotes figures that no ledger knows'

def test_percentages_in_the_tables_of_the_readme_are_in_the_ledger():
    known = {f'{100*o:.1f}' for f in RESULTS for o in numbers(json.loads(f.read_text())['figures'])}
    rows = re.findall(r'(?m)^\|.*$', (ROOT/'README.md').read_text(encoding='utf-8'))
    assert [o for row in rows for o in re.findall(r'(\d+(?:\.\d+)?) %', row) if o not in known]==[]
