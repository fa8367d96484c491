"Every measured figure has a source, and prose quotes none that has not"
import itertools, json, re
import matplotlib.pyplot as plt, nbformat, numpy as np, pytest
from byol_fastai import course
from byol_fastai.course import figure, ledger, plot_seeds, results_table, seeds_table
from byol_fastai.errors import UserValueError
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

# --- several seeds

@pytest.fixture
def experiment(own):
    "An experiment of three settings with three seeds, of which one was not yet run"
    def run(*knn): return {str(i): dict(knn=o, linear=o+.1, decoded=dict(hue=o/2), history=[dict(epoch=e, knn=o*(e+1)/4, loss=None if e else 1.) for e in range(4)]) for i,o in enumerate(knn)}
    entry = dict(figures=dict(runs={'0.5': run(.2, .22, .24), '0.9': run(.6, .7, .65), '1': {}}, floor=.1))
    (own/'mine.json').write_text(json.dumps(entry))
    return entry['figures']['runs']

def test_the_table_of_seeds_has_means_errors_and_every_seed(experiment):
    (head,*rows) = cells(seeds_table('mine', baseline=.5, labels={'0.9': 'slow'}))
    assert head==['setting', 'kNN, %', 'standard error', 'difference to 0.5', 'in standard errors', 'n', 'each seed']
    error = [np.std(o, ddof=1)/3**.5 for o in ([.2, .22, .24], [.6, .7, .65])]
    assert rows[0]==['0.5', '22.0', f'{100*error[0]:.1f}', '–', '–', '3', '20.0, 22.0, 24.0']
    assert rows[1]==['slow', '65.0', f'{100*error[1]:.1f}', '+43.0', f'{.43/np.hypot(*error):+.1f}', '3', '60.0, 70.0, 65.0']
    assert rows[2]==['1', 'not yet run', '–', '–', '–', '0', '–']
    assert cells(seeds_table('mine', ['0.9'], measure=['knn', 'decoded/hue']))[1][5]=='0.325'

@pytest.mark.parametrize('runs', [None, {}, {'a': {}}])
def test_what_was_never_run_says_so_in_table_picture_and_assert(own, runs):
    if runs is not None: record('never', 'A test', dict(runs=runs), 'pytest')
    assert 'not yet run' in seeds_table('never').data and course.shows('never', *'aa') is None
    for curves in (False, True):
        ax = plot_seeds('never', ['a'], curves=curves, rivals=dict(floor='mine/floor'))
        assert [o.get_text() for o in ax.texts]==['not yet run'] and not ax.lines
    plt.close('all')

def test_the_picture_has_every_seed_and_the_rivals(experiment):
    ax = plot_seeds('mine', rivals={'floor': 'mine/floor', 'near': .11, 'slow': '0.9', 'ceiling': 'other/knn'})
    dots = [sorted(o.get_ydata()) for o in ax.lines if o.get_marker()=='o']
    assert [np.round(o, 6).tolist() for o in dots]==[[20, 22, 24], [60, 65, 70]]
    assert [o.get_text() for o in ax.get_xticklabels()]==['0.5', '0.9', '1']
    words = {o.get_text(): o for o in ax.texts}
    assert set(words)=={'floor', 'near', 'slow', 'not yet run', 'ceiling: not yet run'} and words['near'].xy[1]-words['floor'].xy[1]>2, 'one above the other'
    assert sorted(round(o.get_ydata()[0], 6) for o in ax.lines if o.get_linestyle()=='--')==[10, 11, 65]
    ax = plot_seeds('mine', ['0.9', 0.5], curves=True, colours={'0.9': 'orange'})
    thin,thick = ([o for o in ax.lines if (o.get_linewidth()>1)==t] for t in (False, True))
    assert len(thin)==6 and len(thick)==2 and {o.get_color() for o in thin[:3]}=={thick[0].get_color()}=={course.COLOURS['orange']}
    np.testing.assert_allclose(thick[1].get_ydata(), 22*np.arange(1, 5)/4)
    assert plot_seeds('mine', ['0.5', '0.9'], numeric=True, measure='decoded/hue').lines[1].get_xdata()[0]==.5
    assert len(plot_seeds('mine', ['0.5'], curves=True, measure='loss').lines[0].get_ydata())==1, 'what was not looked at is left out'
    plt.close('all')

def test_a_bad_name_is_a_sentence(experiment):
    for call,words in ((lambda: plot_seeds('mine', ['0.7']), "no setting '0.7': give one of '0.5'"), (lambda: seeds_table('mine', measure='acc'), "no measure 'acc': give one of 'knn', 'linear', 'decoded/hue'"),
        (lambda: seeds_table('mine', baseline='x'), "no setting 'x'"), (lambda: course.higher('mine', '0.9', 'y'), "no setting 'y'"), (lambda: plot_seeds('mine', curves=True, measure='linear'), "no measure 'linear'"),
        (lambda: plot_seeds('mine', colours={'0.5': 'pink'}), "no colour 'pink'")):
        with pytest.raises(UserValueError, match=re.escape(words)): call()
    plt.close('all')

SECTION = r'(?m)^#{1,2} '
DRAWN = r"\b(?:plot_seeds|seeds_table)\(\s*'(\w+)'"

def unasserted(nb):
    "Experiments that a section of a notebook draws or tabulates, and about which none of its asserts says anything"
    sections = [[]]
    for c in nb.cells:
        if c.cell_type=='markdown' and re.search(SECTION, c.source): sections.append([])
        if c.cell_type=='code': sections[-1].append(c.source)
    return [name for o in map('\n'.join, sections) for name in dict.fromkeys(re.findall(DRAWN, o))
        if not re.search(rf"(?m)^ *(?:assert|test_\w+\().*\b(?:shows|higher|seed_values)\('{name}'", o)]

@pytest.mark.parametrize('path', sorted((ROOT/'nbs').glob('[01]*.ipynb')), ids=lambda o: o.stem)
def test_where_a_lesson_draws_an_experiment_it_asserts_what_can_be_seen(path): assert unasserted(nbformat.read(path, 4))==[]

def test_the_rule_finds_what_it_should():
    v = nbformat.v4
    def nb(*cells): return v.new_notebook(cells=[v.new_markdown_cell(o[1:]) if o[0]=='M' else v.new_code_cell(o) for o in cells])
    drawn,asserted = "plot_seeds('taus', rivals={})","assert higher('taus', '0.9', '0') is not False"
    assert unasserted(nb('M## A', drawn, asserted))==unasserted(nb('M## A', asserted, 'Mwords', f'x = 1\n{drawn}'))==[]
    assert unasserted(nb('M## A', drawn, "assert shows('ladder', 'a', 'b')"))==unasserted(nb('M## A', drawn, 'M## B', asserted))==unasserted(nb(drawn, "shows('taus', 'a', 'b')"))==['taus']

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
