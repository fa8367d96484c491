"The site, in a real browser: every page in both themes and widths, search, folded answers, links; and the reference is complete"
import functools, http.server, importlib, json, os, re, shutil, subprocess, sys, threading
from urllib.parse import unquote, urlsplit
import pytest
from bs4 import BeautifulSoup
from sphinx.util.inventory import InventoryFile
import byol_fastai.all
from byol_fastai._modidx import d as index
from conftest import ROOT, tool as docs

pytestmark = pytest.mark.xdist_group('site') # one worker builds it, for all that look at it
FLAGS = '--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync'.split()
OUR_SITE = f"{index['settings']['doc_host']}{index['settings']['doc_baseurl']}/"

@pytest.fixture(scope='session')
def site(tmp_path_factory):
    "The site, built as the README says, but elsewhere; any warning fails"
    folder = tmp_path_factory.mktemp('site')/'site'
    done = subprocess.run([sys.executable, ROOT/'docs'/'build.py', folder], cwd=folder.parent, capture_output=True, text=True, env={**os.environ, 'http_proxy': 'http://localhost:9', 'https_proxy': 'http://localhost:9'})
    assert done.returncode==0, done.stderr
    return folder

@pytest.fixture(scope='session')
def pages(site): return {o.relative_to(site).as_posix(): BeautifulSoup(o.read_text(encoding='utf-8'), 'html.parser') for o in sorted(site.glob('*.html'))}

# --- what is there

def test_the_runs_of_single_seeds_stay_in_the_ledger():
    figures = dict(runs=dict(a={'0': dict(knn=.5, history=[dict(epoch=0)])}), knn=dict(a=.5))
    assert docs('pages').flat(figures)==[('knn / a', .5)]

def test_there_is_a_page_for_every_lesson_every_module_and_all_the_rest(pages):
    lessons = [o.stem for o in docs('lessons').lessons()]
    modules = [docs('reference').page_name(m) for m in docs('links').modules()]
    for o in [*lessons, *modules, 'index', 'all', 'results', 'glossary', 'cheatsheet', 'references', 'cite', 'genindex', 'search']: assert f'{o}.html' in pages
    sidebar = pages['index.html'].select_one('.bd-sidebar-primary')
    captions = [o.text for o in sidebar.select('p.caption')]
    assert captions[:-2]==[k for k,v in docs('lessons').PARTS.items() if any(re.match(v, o) for o in lessons)]
    linked = [o['href'].split('.')[0] for o in sidebar.select('a.internal')]
    assert [o for o in linked if re.match(r'[\dw]\d', o)]==lessons

def test_one_lesson_leads_to_the_next_and_back(pages):
    names = [f'{o.stem}.html' for o in docs('lessons').lessons()]
    for a,b in zip(names, names[1:]):
        assert pages[a].select_one('.prev-next-footer a.right-next')['href']==b and pages[b].select_one('.prev-next-footer a.left-prev')['href']==a

def test_every_lesson_can_be_opened_in_colab_seen_in_the_repository_and_downloaded_as_it_is(pages, site):
    cfg = docs('project').settings()
    for path in docs('lessons').lessons():
        links = {o['href'] for o in pages[f'{path.stem}.html'].select('.article-header-buttons a[href], .header-article-items a[href]')}
        here = f"{cfg['user']}/{cfg['repo']}/blob/{cfg['branch']}/nbs/{path.name}"
        assert {f'https://colab.research.google.com/github/{here}', f'https://github.com/{here}', f'_sources/{path.name}'} <= links
        assert (site/'_sources'/path.name).read_bytes()==path.read_bytes()

def test_stored_outputs_are_shown(pages, site):
    import nbformat
    for path in docs('lessons').lessons():
        drawn = sum('image/png' in o.get('data', {}) for c in nbformat.read(path, 4).cells if c.cell_type=='code' for o in c.outputs)
        assert len(pages[f'{path.stem}.html'].select('.cell_output img'))==drawn

def test_no_syntax_of_notebooks_or_quarto_is_left_as_text(pages):
    found = {}
    for name,page in pages.items():
        if name.startswith(('search', 'genindex', 'py-modindex')): continue
        article = BeautifulSoup(str(page.select_one('article')), 'html.parser')
        for o in article.select('pre, .math, code, script, dt.sig'): o.extract()
        text = article.get_text()
        found[name] = re.findall(r':::|\{\{<|@fig-|#\||\{(?:py|term|doc|ref|dropdown)\b|</?details|<summary|<!--|\$\S[^$\n]*\$|\[!\[|`{1,2}[^`\n]+`|\*\*\w|(?:\|[^|\n]*){4}', text)
    assert {k: v for k,v in found.items() if v}=={}

# --- the reference

def test_every_public_name_is_in_the_published_inventory_and_in_the_index(site, pages):
    with (site/'objects.inv').open('rb') as f: inventory = InventoryFile.load(f, '', lambda a, b: b)
    objects = {o.split('.', 1)[1] if o.count('.')>1 else o for kind,names in inventory.items() if kind.startswith('py:') for o in names}
    objects = {o.split('.', 1)[-1] for o in objects}
    modules = [importlib.import_module(f'byol_fastai.{m}') for m in docs('links').modules()]
    public = {n for mod in modules for n in mod.__all__}
    brought = set(byol_fastai.all.__all__)
    assert brought <= public and public-objects==set()
    assert {'Learner.fit_byol', 'EMATarget.tau_at', 'BYOL.update_target'} <= objects
    assert public-set(re.findall(r'\w+', pages['genindex.html'].get_text()))==set()
    assert {o.get_text() for o in pages['all.html'].select('td:first-child')}==brought

def test_every_parameter_is_explained():
    links,reference = docs('links'), docs('reference')
    missing = {}
    for name,o in links.public().items():
        objects = {name: o.obj, **({f'{name}.{m}': vars(o.obj)[m] for m in links.members(o.obj)} if isinstance(o.obj, type) else {})}
        missing |= {k: reference.unexplained(v) for k,v in objects.items() if callable(reference.plain(v)) and reference.unexplained(v)}
    assert missing=={}

def test_every_object_says_what_it_is_and_leads_to_its_source_and_lesson(pages):
    reference = docs('reference')
    for m in docs('links').modules():
        for o in pages[f'{reference.page_name(m)}.html'].select('article dl.py'):
            name = o.select_one('dt')['id']
            start = re.search(r'/blob/\w+/(byol_fastai/\w+\.py)(?:#L(\d+))?', o.select_one('dt a.external:has(> .viewcode-link)')['href'])
            line = (ROOT/start[1]).read_text(encoding='utf-8').splitlines()[int(start[2])-1]
            assert re.search(rf'@|\b_?{name.split(".")[-1]}\b', line), f'{name}: {line}'
    for m in docs('links').modules():
        for o in pages[f'{reference.page_name(m)}.html'].select('article section > dl.py'):
            assert re.search(r'Built in (lesson \d\d|workshop w\d)', o.get_text())

@pytest.mark.parametrize('function, kind, sentence', [('byol_dls', 'UserValueError', 'batch normalisation needs at least two images'), ('ViewPolicy', 'UserValueError', 'is a probability'),
    ('load_encoder', 'UserFileNotFoundError', 'an encoder is two files')])
def test_errors_are_documented_with_their_sentences(function, kind, sentence):
    o = docs('links').public()[function].obj
    assert any(k==kind and sentence in text for k,text in docs('reference').errors(o))

def test_nothing_of_this_computer_is_on_the_site(site):
    for f in site.rglob('*'):
        if f.suffix in ('.html', '.md', '.js', '.ipynb') and 'mathjax' not in f.parts: assert str(ROOT) not in f.read_text(encoding='utf-8'), f.name

def test_names_lead_to_their_documentation():
    external = docs('links').external
    assert external('Learner')=='https://docs.fast.ai/learner.html#learner' and external('OptimWrapper').startswith('https://docs.fast.ai/optimizer.html')
    assert external('nn.Module')=='https://docs.pytorch.org/docs/stable/generated/torch.nn.Module.html'
    assert external('nn.NoSuchThing') is None and docs('links').known('x') is None
    assert docs('links').known('learn.fit_byol(100)')=='Learner.fit_byol' and docs('links').known('learn.export()')=='Learner.export'

def test_what_the_docstrings_of_the_modules_promise_is_there(site, pages):
    for m in docs('links').modules():
        promised = re.search(r'Docs: (\S+)', importlib.import_module(f'byol_fastai.{m}').__doc__)[1]
        assert promised.startswith(OUR_SITE) and (site/promised.removeprefix(OUR_SITE)).exists()
    for m in docs('links').modules():
        for name in set(importlib.import_module(f'byol_fastai.{m}').__all__) & docs('links').makes(m):
            page,_,anchor = index['syms'][f'byol_fastai.{m}'].get(f'byol_fastai.{m}.{name}', (f'{docs("reference").page_name(m)}.html',))[0].partition('#')
            assert page in pages and (not anchor or pages[page].find(id=anchor))

# --- the other pages

def test_the_results_are_those_of_the_ledger(pages):
    def typed(text): return re.sub('[‘’]', "'", text).replace('`', '')
    text = typed(pages['results.html'].get_text())
    for f in (ROOT/'byol_fastai'/'results').glob('*.json'):
        entry = json.loads(f.read_text(encoding='utf-8'))
        assert typed(entry['what']).rstrip('.') in text
        if f.stem!='published': assert entry['command'] in text and entry['date'] in text and entry['commit'] in text and entry['device'] in text

def test_every_paper_that_the_course_names_is_on_the_page_of_references(pages):
    listed = set(re.findall(r'arXiv (\d{4}\.\d{5})', pages['references.html'].get_text()))
    assert docs('pages').named() <= listed and len(listed)>15

def test_every_term_of_the_glossary_is_linked_from_the_pages_that_use_it(pages):
    terms = {o['id'] for o in pages['glossary.html'].select('dl.glossary dt')}
    def used(page): return [a['href'].split('#')[1] for a in page.select('article a[href*="#term-"]')]
    assert len(terms)>30 and terms=={o for page in pages.values() for o in used(page)}
    for path in docs('lessons').lessons():
        links = used(pages[f'{path.stem}.html'])
        assert len(links)>=(0 if docs('lessons').in_workshop(path) else 5) and len(links)==len(set(links)), 'once a lesson, where it is used first'

def test_the_citation_file_agrees_with_the_settings():
    cfg,text = docs('project').settings(), (ROOT/'CITATION.cff').read_text(encoding='utf-8')
    for line in f"version: {cfg['version']}", f"license: {cfg['license']}", f"  - name: {cfg['author']}", f"repository-code: {docs('project').repository(cfg)}", f"url: {docs('project').site(cfg)}":
        assert f'\n{line}\n' in text

def test_pictures_of_the_readme_are_those_of_the_index():
    pictures = docs('readme').pictures()
    assert pictures and all((ROOT/path).read_bytes()==content for path,content in pictures.items()), 'run python docs/refresh.py'

# --- links

def test_every_internal_link_and_anchor_leads_somewhere(site, pages):
    ids = {name: {o['id'] for o in page.select('[id]')} | {o['name'] for o in page.select('a[name]')} for name,page in pages.items()}
    broken = set()
    for name,page in pages.items():
        for tag,key in ('a', 'href'),('img', 'src'),('script', 'src'),('link', 'href'):
            for url in (o[key] for o in page.select(f'{tag}[{key}]')):
                parts = urlsplit(url)
                if parts.scheme or url.startswith('//'): continue
                path = os.path.normpath(os.path.join(os.path.dirname(name), unquote(parts.path))) if parts.path else name
                if not (site/path).is_file() or parts.fragment and path in ids and unquote(parts.fragment) not in ids[path]: broken.add(f'{name} -> {url}')
    assert broken==set()

def test_nothing_that_a_page_loads_comes_from_elsewhere(pages):
    loaded = [f'{name}: {url}' for name,page in pages.items() for tag,key in (('img', 'src'), ('script', 'src'), ('link[rel=stylesheet]', 'href'), ('iframe', 'src')) for url in (o[key] for o in page.select(f'{tag}[{key}]')) if re.match(r'(https?:)?//', url)]
    assert loaded==[]

# --- in a browser

@pytest.fixture(scope='session')
def served(site):
    "The address of a local server"
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args): pass
    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), functools.partial(Quiet, directory=site))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f'http://127.0.0.1:{server.server_port}'
    server.shutdown()
    server.server_close()

@pytest.fixture(scope='session')
def browser():
    chromium = shutil.which('chromium') or shutil.which('chromium-browser') or shutil.which('google-chrome')
    if not chromium: pytest.skip('there is no chromium on this computer: apt-get install chromium')
    from playwright.sync_api import sync_playwright
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=chromium, args=FLAGS)
        yield browser
        browser.close()

class Watched:
    "A tab that remembers everything that went wrong in it"
    def __init__(self, browser, served, **kwargs):
        self.wrong,self.served = [], served
        self.page = browser.new_context(**kwargs).new_page()
        self.page.on('console', lambda m: self.wrong.append(f'console: {m.text}') if m.type in ('error', 'warning') else None)
        self.page.on('pageerror', lambda e: self.wrong.append(f'error: {e}'))
        self.page.on('requestfailed', lambda r: self.wrong.append(f'failed: {r.url}'))
        self.page.on('response', lambda r: self.wrong.append(f'{r.status}: {r.url}') if r.status>=400 else None)
        self.page.on('request', lambda r: self.wrong.append(f'off the site: {r.url}') if not r.url.startswith((served, 'data:', 'blob:')) else None)
    def go(self, name):
        self.page.goto(f'{self.served}/{name}', wait_until='load')
        self.page.evaluate('() => window.MathJax?.startup?.promise')
        return self.page

LOOK = '''() => ({
    theme: document.documentElement.dataset.theme,
    over: document.documentElement.scrollWidth - document.documentElement.clientWidth,
    raw: [...document.querySelectorAll('article .math')].filter(o => !o.querySelector('mjx-container svg')).map(o => o.textContent.slice(0, 60)),
    bad: [...document.querySelectorAll('mjx-merror, [data-mjx-error]')].map(o => o.textContent),
    blank: [...document.querySelectorAll('article img')].filter(o => o.complete && !o.naturalWidth).map(o => o.src),
    dim: [...document.querySelectorAll('article img')].filter(o => document.documentElement.dataset.theme=='dark' && getComputedStyle(o).backgroundColor != 'rgb(255, 255, 255)').map(o => o.src),
})'''

@pytest.mark.parametrize('width, height', [(1440, 1000), (390, 844)])
def test_every_page_is_whole_in_both_themes(browser, served, pages, width, height):
    tab = Watched(browser, served, viewport={'width': width, 'height': height}, color_scheme='light')
    faults = {}
    for name in pages:
        page = tab.go(name)
        for theme in 'light', 'dark':
            page.emulate_media(color_scheme=theme)
            page.wait_for_function('theme => document.documentElement.dataset.theme==theme', arg=theme)
            seen = page.evaluate(LOOK)
            fault = tab.wrong + [f'{k}: {seen[k]}' for k in ('raw', 'bad', 'blank', 'dim') if seen[k]] + ([f"{seen['over']} px too wide"] if seen['over']>0 else [])
            if fault: faults[f'{name}, {theme}'] = fault
            tab.wrong.clear()
    tab.page.context.close()
    assert faults=={}

def test_search_finds_a_name_and_leads_to_it(browser, served):
    tab = Watched(browser, served)
    page = tab.go('search.html?q=EMATarget')
    page.wait_for_selector('#search-results li a')
    page.click('#search-results li a[href*="byol_fastai.ema.EMATarget"]')
    page.wait_for_url('**/ema.html**')
    assert page.locator('dt[id="byol_fastai.ema.EMATarget"]').is_visible() and tab.wrong==[]
    page.context.close()

def test_an_answer_unfolds(browser, served):
    tab = Watched(browser, served)
    page = tab.go('05_ema.html')
    answer = page.locator('details', has_text='Answer').first
    hidden = answer.locator('.sd-card-body, .sd-summary-content').first
    assert not hidden.is_visible()
    answer.locator('summary').click()
    assert hidden.is_visible() and len(hidden.inner_text())>20 and tab.wrong==[]
    page.context.close()

def test_the_menu_changes_the_theme(browser, served):
    tab = Watched(browser, served, color_scheme='light')
    page = tab.go('index.html')
    for theme in 'dark', 'light':
        page.locator('button.theme-switch-button:visible').first.click()
        page.locator(f'.theme-change-button[data-mode="{theme}"]:visible').click()
        assert page.evaluate('() => document.documentElement.dataset.theme')==theme
    assert tab.wrong==[]
    page.context.close()
