"The site, in a real browser: every page in both themes and widths, search, folded answers, links; and the reference is complete"
import functools, http.server, importlib, json, os, re, subprocess, sys, threading
from base64 import b64encode
from io import BytesIO
from pathlib import Path
from urllib.parse import unquote, urlsplit
import pytest
from bs4 import BeautifulSoup
from PIL import Image
from sphinx.util.inventory import InventoryFile
import byol_fastai.all
from byol_fastai._modidx import d as index
from conftest import ROOT, tool as docs

pytestmark = pytest.mark.xdist_group('site') # one worker builds it, for all that look at it
OUR_SITE = f"{index['settings']['doc_host']}{index['settings']['doc_baseurl']}/"

@pytest.fixture(scope='session')
def site(tmp_path_factory):
    "The site, built as the README says, but elsewhere; any warning fails"
    folder = tmp_path_factory.mktemp('site')/'site'
    done = subprocess.run([sys.executable, ROOT/'docs'/'build.py', folder], cwd=folder.parent, capture_output=True, text=True, env={**os.environ, 'http_proxy': 'http://localhost:9', 'https_proxy': 'http://localhost:9'})
    assert done.returncode==0, done.stderr
    return folder

@pytest.fixture(scope='session')
def pages(site): return {o.relative_to(site).as_posix(): BeautifulSoup(o.read_text(encoding='utf-8'), 'html.parser') for o in sorted(site.glob('*.html')) if o.stem not in ('404', 'play')} # these two stand alone

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
    assert captions[:-2]==list(docs('lessons').parts())
    linked = [o['href'].split('.')[0] for o in sidebar.select('a.internal')]
    assert [o for o in linked if re.match(r'[\dw]\d', o)]==lessons

def test_one_lesson_leads_to_the_next_and_back(pages):
    names = [f'{o.stem}.html' for o in docs('lessons').lessons()]
    for a,b in zip(names, names[1:]):
        assert pages[a].select_one('.prev-next-footer a.right-next')['href']==b and pages[b].select_one('.prev-next-footer a.left-prev')['href']==a

def test_every_lesson_can_be_opened_in_colab_seen_in_the_repository_and_downloaded_as_it_is(pages, site):
    cfg = docs('project').settings()
    for path in docs('lessons').lessons():
        bar = pages[f'{path.stem}.html'].select_one('article h1 + .bar')
        here = f"{cfg['user']}/{cfg['repo']}/blob/{cfg['branch']}/nbs/{path.name}"
        assert bar.get_text()=='Open in Colab · Download · Source · Report a problem on this page'
        assert [o['href'] for o in bar.select('a')]==[f'https://colab.research.google.com/github/{here}', f'_sources/{path.name}', f'https://github.com/{here}',
            f"https://github.com/{cfg['user']}/{cfg['repo']}/issues/new?title={path.stem}%3A%20"]
        assert (site/'_sources'/path.name).read_bytes()==path.read_bytes()

def test_stored_outputs_are_shown(pages, site):
    import nbformat
    for path in docs('lessons').lessons():
        shown = [o.get('data', {}) for c in nbformat.read(path, 4).cells if c.cell_type=='code' for o in c.outputs]
        drawn = sum(any(kind.startswith('image/') for kind in o) for o in shown) + sum(o.get('text/html', '').count('<img ') for o in shown) # and the pages of flipbooks
        assert len(pages[f'{path.stem}.html'].select('.cell_output img'))==drawn

def test_every_picture_has_words_that_stand_for_it(pages, monkeypatch):
    for name,page in pages.items():
        for o in page.select('article img:not(.toggler)'): assert len(o['alt'].split())>3, f'{name}: {o}'
    lessons = docs('lessons')
    assert lessons.undescribed()==[]
    monkeypatch.setattr(lessons, 'alt', lambda cell: '')
    assert len(lessons.undescribed())>50

def test_no_syntax_of_notebooks_or_quarto_is_left_as_text(pages):
    found = {}
    for name,page in pages.items():
        if name.startswith(('search', 'genindex', 'py-modindex')): continue
        article = BeautifulSoup(str(page.select_one('article')), 'html.parser')
        for o in article.select('pre, .math, code, script, dt.sig'): o.extract()
        text = article.get_text()
        found[name] = re.findall(r':::|\{\{<|@fig-|#\||\{(?:py|term|doc|ref|dropdown)\b|</?details|<summary|<!--|\$\S[^$\n]*\$|\[!\[|`{1,2}[^`\n]+`|\*\*\w|(?:\|[^|\n]*){4}', text)
    assert {k: v for k,v in found.items() if v}=={}

def test_parts_are_counted_without_a_gap():
    numerals = [o.split(':')[0] for o in docs('lessons').parts()]
    assert numerals==[*('Part '+'I'*i for i in range(1, len(numerals))), 'Workshop'] and all(docs('lessons').parts().values())

def cell_of(source, *data):
    import nbformat
    return nbformat.v4.new_code_cell(source, outputs=[nbformat.v4.new_output('display_data', o) for o in data])

def drawn(width, density):
    "A picture as notebooks store it"
    made = BytesIO()
    Image.new('RGB', (width, 10)).save(made, 'png', dpi=(density, density))
    return b64encode(made.getvalue()).decode()

def test_a_cell_says_how_it_is_shown():
    lessons = docs('lessons')
    cell = lessons.code(cell_of('#| code-fold: true\n#| fig-alt: A line that falls\nplot()', {'image/png': drawn(1000, 62)}))
    assert cell.metadata['tags']==['hide-input'] and cell.source=='plot()'
    assert cell.metadata['mystnb']['image']=={'classes': 'wide', 'alt': 'A line that falls'}
    cell = lessons.code(cell_of('fit()', {'text/html': '\n<style>\n progress {}\n</style>\n'}, {'text/html': '<b>1</b>'}, {'text/plain': '2'}))
    assert [o.data for o in cell.outputs]==[{'text/html': '<b>1</b>'}, {'text/plain': '2'}]

@pytest.mark.parametrize('pixels, density, width', [(300, 80, 300), (600, 192, 300), (1000, 192, 500), (1200, 192, None)])
def test_a_picture_of_twice_the_density_has_half_its_pixels_for_its_width(pixels, density, width):
    cell = docs('lessons').code(cell_of('plot()', {'image/svg+xml': '<svg/>', 'image/png': drawn(pixels, density)}))
    wide = 'classes' in cell.metadata['mystnb']['image']
    assert wide==(width is None) and (wide or cell.outputs[0].metadata=={o: {'width': width} for o in ('image/svg+xml', 'image/png')})

def test_the_time_of_a_lesson_is_told_by_its_length_and_the_ledger(monkeypatch):
    stamp = docs('stamp')
    cells = [dict(cell_type='markdown', source=['**Takes** ? min on CPU, not yet run on a T4.\n', 'word '*2000]), dict(cell_type='code', source=['#| hide\n', *['x = 1\n']*150])]
    assert stamp.work(cells)=='20 min'
    monkeypatch.setattr(stamp, 'minutes', lambda name, profile: '3 min')
    once = stamp.stamp('**Takes** ? min on CPU, not yet run on a T4.', '05_ema', '20 min')
    assert once=='**Takes** Run 3 min · work 20 min.'==stamp.stamp(once, '05_ema', '20 min')

# --- what programs read

def test_every_page_says_what_it_is_to_programs(pages, site):
    for name,page in pages.items():
        assert len(page.select('meta[name=viewport]'))==1, name
        says = page.select_one('meta[name=description]')['content']
        assert says and says==page.select_one('meta[property="og:description"]')['content']
        first = page.select_one('article blockquote')
        if re.match(r'[\dw]\d', name): assert says==first.get_text().strip()
    listed = set(re.findall(rf'<loc>{OUR_SITE}(.+?)</loc>', (site/'sitemap.xml').read_text(encoding='utf-8')))
    assert listed==(set(pages)|{'play.html'})-{'genindex.html', 'py-modindex.html', 'search.html'}
    assert f'Sitemap: {OUR_SITE}sitemap.xml' in (site/'robots.txt').read_text(encoding='utf-8')

def test_the_page_of_wrong_addresses_needs_no_other_file_and_leads_back(site, pages):
    page = BeautifulSoup((site/'404.html').read_text(encoding='utf-8'), 'html.parser')
    assert not page.select('script, link, img')
    assert {o['href'].removeprefix(OUR_SITE) for o in page.select('a')} <= set(pages)

def test_the_playground_is_a_page_and_the_notebook_of_it_leads_there(site, pages):
    assert (site/'play.html').read_bytes()==(ROOT/'byol_fastai'/'playground.html').read_bytes()
    assert pages['w10_playground.html'].select('article a[href="play.html"]')

def test_the_site_is_a_place_to_install_from(site, served, tmp_path):
    wheel = docs('project').wheel(docs('project').settings())
    assert (site/wheel).exists()
    command = [sys.executable, '-m', 'pip', 'install', '-q', '--no-deps', '--no-index', '--target', tmp_path, f'{served}/{wheel}']
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode==0, done.stderr
    names = lambda folder: {o.relative_to(folder).as_posix() for o in folder.rglob('*') if o.suffix in ('.py', '.json', '.safetensors', '.html', '.js')}
    assert names(tmp_path/'byol_fastai')==names(ROOT/'byol_fastai')
    holds = {o.relative_to(tmp_path).parts[0] for o in tmp_path.rglob('*') if o.is_file()}
    assert {o.split('-')[0] for o in holds}=={'byol_fastai', 'bin'}, 'no notebooks, no tests'
    command = [sys.executable, '-m', 'byol_fastai', 'pretrain', '--n', '64', '--bs', '16', '--epochs', '1', '--out', tmp_path/'run']
    done = subprocess.run(command, cwd=tmp_path, env={**os.environ, 'PYTHONPATH': str(tmp_path)}, capture_output=True, text=True)
    assert done.returncode==0 and (tmp_path/'run'/'encoder.safetensors').exists(), done.stderr # outside of the checkout

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
    cut: [...document.querySelectorAll('article pre')].filter(o => o.scrollWidth > o.clientWidth).map(o => o.textContent.slice(0, 60)),
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
            fault = tab.wrong + [f'{k}: {seen[k]}' for k in ('raw', 'bad', 'blank', 'cut', 'dim') if seen[k]] + ([f"{seen['over']} px too wide"] if seen['over']>0 else [])
            if fault: faults[f'{name}, {theme}'] = fault
            tab.wrong.clear()
    tab.page.context.close()
    assert faults=={}

def test_a_line_of_92_characters_has_its_place(browser, served):
    tab = Watched(browser, served, viewport={'width': 1440, 'height': 1000})
    places = tab.go('05_ema.html').evaluate("""() => {
        const pre = document.querySelector('.cell_input pre'), style = getComputedStyle(pre), one = pre.appendChild(document.createElement('span'))
        one.textContent = 'x'
        return (pre.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight)) / one.getBoundingClientRect().width
    }""")
    tab.page.context.close()
    assert places>=92

def smallest_letters(svg):
    "How high they are, as a share of the picture's width; indices in formulas, which are `tspan`, may be smaller"
    return min(map(float, re.findall(r'<text [^>]*?font(?:-size)?: [^;"]*?([\d.]+)px', svg))) / float(re.search(r'viewBox="0 0 ([\d.]+)', svg)[1])

def test_letters_in_charts_have_ten_pixels_at_the_width_of_the_page(browser, served, site, pages):
    tab,sizes = Watched(browser, served, viewport={'width': 1440, 'height': 1000}), {}
    for name in (k for k,page in pages.items() if page.select('.cell_output img[src$=".svg"]')):
        shown = tab.go(name).evaluate("""() => [...document.querySelectorAll('.cell_output img[src$=".svg"]')].map(o => [o.getAttribute('src'), o.getBoundingClientRect().width])""")
        for src,width in shown:
            svg = (site/src).read_text(encoding='utf-8')
            if re.search('<text .*?font', svg): sizes[f'{name} {src}'] = width*smallest_letters(svg)
    tab.page.context.close()
    assert sizes and {k: o for k,o in sizes.items() if o<9.8}=={}

def test_on_paper_everything_is_unfolded(browser, served):
    tab = Watched(browser, served)
    page = tab.go('05_ema.html')
    heights = 'o => [...o.querySelectorAll("article details")].map(o => o.getBoundingClientRect().height)'
    folded = page.locator('body').evaluate(heights)
    page.emulate_media(media='print')
    assert all(b>a for a,b in zip(folded, page.locator('body').evaluate(heights)))
    page.context.close()

def test_a_page_is_light_and_has_no_mathematics_where_there_are_no_formulas(browser, served, pages):
    for name in 'index.html', 'glossary.html':
        assert not pages[name].select('.math')
        tab = Watched(browser, served)
        loaded = {}
        tab.page.on('response', lambda o: loaded.update({o.url: len(o.body())}))
        tab.go(name).wait_for_load_state('networkidle')
        assert not any('mathjax' in o or o.endswith('.map') for o in loaded) and sum(v for k,v in loaded.items() if '_images' not in k)<1.2e6
        tab.page.context.close()

CONTRAST = """() => {
    const light = c => { const v = c.match(/[\\d.]+/g).slice(0, 3).map(o => o/255).map(o => o<=.03928 ? o/12.92 : ((o+.055)/1.055)**2.4); return .2126*v[0]+.7152*v[1]+.0722*v[2] }
    const under = o => { const c = getComputedStyle(o).backgroundColor; return /, 0\\)$/.test(c) && o.parentElement ? under(o.parentElement) : c }
    const ratio = o => { const [a, b] = [light(getComputedStyle(o).color), light(under(o))].sort((a, b) => b-a); return (a+.05)/(b+.05) }
    return [...document.querySelectorAll('article :is(a, a code, td, tr.cap strong, p)')].filter(o => o.textContent.trim()).map(o => [ratio(o), o.textContent.slice(0, 30)]).filter(o => o[0]<4.5)
}"""

def test_text_and_links_stand_out_in_both_themes(browser, served):
    tab = Watched(browser, served)
    for name in 'index.html', '05_ema.html', 'ema.html', 'genindex.html', 'py-modindex.html':
        page = tab.go(name)
        for theme in 'light', 'dark':
            page.emulate_media(color_scheme=theme)
            page.wait_for_function('theme => document.documentElement.dataset.theme==theme', arg=theme)
            assert [o for o in page.evaluate(CONTRAST) if o[1]!='#']==[], f'{name}, {theme}'
    page.context.close()

@pytest.mark.skipif(not os.environ.get('AXE'), reason='npm pack axe-core, unpack it, and name its axe.min.js: AXE=package/axe.min.js pytest tests/test_site.py -k axe')
@pytest.mark.parametrize('width', [1440, 390])
def test_axe_has_no_serious_finding(browser, served, width):
    axe,found = Path(os.environ['AXE']).read_text(encoding='utf-8'), {}
    for theme in 'light', 'dark':
        tab = Watched(browser, served, viewport={'width': width, 'height': 900}, color_scheme=theme)
        for name in 'index 05_ema w3_saving ema all cheatsheet glossary results references cite genindex py-modindex search 404'.split():
            page = tab.go(f'{name}.html')
            page.evaluate(axe)
            faults = page.evaluate("async () => (await axe.run()).violations.filter(o => ['serious', 'critical'].includes(o.impact)).map(o => o.id + ': ' + o.nodes[0].html)")
            if faults: found[f'{name}, {theme}'] = faults
        tab.page.context.close()
    assert found=={}

PHRASES = {'own images': '13_your_images', 'resume': 'w3_saving', 'kNN accuracy': '08_evaluate', 'EMA': '05_ema', 'collapse': '06_collapse', 'tau': '05_ema', 'LARS': 'w13_optimizers',
    'mixed precision': '12_speed', 'projector': '03_model', 'stop gradient': '04_loss',
    'augmentations': '02_views', 'linear probe': '08_evaluate', 'effective rank': '06_collapse', 'several GPUs': '15_scale', 'negative pairs': '04_loss', 'learning rate': '07_learner',
    'nearest neighbours': '13_your_images', 'command line': 'w4_command_line', 'loss is nan': 'cheatsheet', 'data set': '01_data'}

def test_the_words_of_a_learner_lead_home(browser, served):
    tab,astray = Watched(browser, served), {}
    for phrase,wanted in PHRASES.items():
        page = tab.go(f'search.html?q={phrase}')
        page.wait_for_function("() => /finished/.test(document.querySelector('.search-summary')?.textContent)")
        first = page.locator('#search-results ul.search > li').evaluate_all("o => o.slice(0, 3).map(o => o.querySelector('a').getAttribute('href').split('.')[0])")
        if wanted not in first: astray[phrase] = first
        page.wait_for_selector('#search-results p.context')
        page.wait_for_load_state('networkidle') # the next search would break off what is still on its way
    assert astray=={} and [o for o in tab.wrong if 'Anchored content block' not in o]==[] # Sphinx takes the dots of an anchor for classes, and shows another excerpt
    page.context.close()

def test_the_keyboard_alone_leads_from_home_to_an_answer(browser, served):
    tab = Watched(browser, served, viewport={'width': 1440, 'height': 1000})
    page = tab.go('index.html')
    def tab_to(what):
        for _ in range(400):
            page.keyboard.press('Tab')
            if page.evaluate('what => document.activeElement.matches(what)', what): return
        raise AssertionError(f'the keyboard never comes to {what}')
    tab_to('a[href="05_ema.html"]')
    page.keyboard.press('Enter')
    page.wait_for_url('**/05_ema.html')
    tab_to('article details > summary')
    page.keyboard.press('Enter')
    assert page.locator('article details[open]').count()==1 and tab.wrong==[]
    page.context.close()

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
