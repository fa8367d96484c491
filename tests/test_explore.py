"A whole collection on one page: what is found in it, and the page itself in a real browser, names of strangers and all"
import json, shutil, subprocess, sys, warnings
from pathlib import Path
import matplotlib.pyplot as plt, numpy as np, pytest, torch
from sklearn.neighbors import NearestNeighbors
from byol_fastai import explore as module
from byol_fastai.data import ImageArray
from byol_fastai.errors import UserError, UserValueError
from byol_fastai.evaluate import knn_predict
from byol_fastai.explore import (Collection, byol_explore, cosine_neighbours, embedding_map, explore, label_errors, look_into, near_duplicates,
    outliers, plot_map, plot_outliers, read_collection, vote_shares, write_page)
from byol_fastai.runs import Run, pretrain, run_config
from byol_fastai.shapes import make_shapes
from conftest import write_images

@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close('all')

def features(n, d=16, seed=0): return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))

# --- what is found

@pytest.mark.parametrize('strip', [2**24, 700]) # all at once, and a few rows at a time
def test_neighbours_are_those_of_sklearn(strip, monkeypatch):
    monkeypatch.setattr(module, 'STRIP', strip)
    x = features(211)
    far,theirs = NearestNeighbors(n_neighbors=8, metric='cosine').fit(x).kneighbors()
    rows,cosines = cosine_neighbours(x, 8)
    assert np.array_equal(rows, theirs)
    np.testing.assert_allclose(1-cosines, far, atol=1e-5)

def test_a_row_is_never_its_own_neighbour_and_few_rows_have_few():
    x = torch.ones(5, 3)
    rows,cosines = cosine_neighbours(x, 20)
    assert rows.shape==(5, 4) and all(i not in o for i,o in enumerate(rows)) and np.allclose(cosines, 1)
    assert cosine_neighbours(torch.ones(1, 3))[0].shape==(1, 0)

@pytest.mark.parametrize('x, words', [(torch.ones(4), r'\[N,d\]'), (torch.empty(0, 3), r'\[N,d\]'), (torch.tensor([[1., float('nan')]]), 'no finite numbers')])
def test_features_that_cannot_be_compared_get_a_sentence(x, words):
    with pytest.raises(UserValueError, match=words): cosine_neighbours(x)

def test_planted_duplicates_are_found_and_nothing_else():
    x = features(300, 64)
    x[[17, 200, 40]] = x[[3, 3, 90]]+.01*features(3, 64, 1)
    assert sorted(sorted(o.tolist()) for o in near_duplicates(x))==[[3, 17, 200], [40, 90]]

def test_a_chain_of_small_steps_is_no_group_of_duplicates():
    angles = torch.arange(40)*.15 # neighbours have a cosine of 0.989, the next but one of 0.955
    groups = near_duplicates(torch.stack([angles.cos(), angles.sin()], 1))
    x = torch.stack([angles.cos(), angles.sin()], 1).numpy()
    assert groups and all((x[o[1:]] @ x[o[0]] >= .98).all() for o in groups)
    assert len({i for o in groups for i in o.tolist()})==sum(map(len, groups)), 'each image is in one group at most'

def test_outliers_are_ranked_by_the_mean_distance_of_sklearn():
    x = features(150)+torch.tensor([3.]+15*[0.])
    x[[5, 77]] = -x[[5, 77]]
    order,far = outliers(x, k=6)
    theirs = NearestNeighbors(n_neighbors=6, metric='cosine').fit(x).kneighbors()[0].mean(1)
    assert set(order[:2])=={5, 77}
    np.testing.assert_allclose(far, theirs[order], atol=1e-5)
    assert (np.diff(far)<=0).all() and sorted(order)==list(range(150))

def clouds(n=60, classes=4, spread=.4):
    labels = torch.arange(classes).repeat_interleave(n)
    return 3*torch.eye(classes, 12)[labels]+spread*features(len(labels), 12),labels

def test_planted_label_errors_are_found_with_the_label_that_was_there():
    x,truth = clouds()
    said = truth.clone()
    wrong = torch.randperm(len(x), generator=torch.Generator().manual_seed(1))[:12]
    said[wrong] = (truth[wrong]+1)%4
    rows,other,share = label_errors(x, said)
    assert set(rows)==set(wrong.tolist()) and np.array_equal(other, truth[rows]) and (share>.5).all()

def test_correct_labels_are_left_alone_and_missing_ones_are_not_judged():
    x,truth = clouds()
    assert len(label_errors(x, truth)[0])==0
    truth[::3] = -1
    votes = vote_shares(x, truth)
    assert len(label_errors(x, truth)[0])==0 and np.allclose(votes.sum(1), 1, atol=1e-5) and votes.shape==(240, 4)

def test_the_vote_is_that_of_lesson_08():
    x,truth = clouds(spread=2.)
    assert np.array_equal(vote_shares(x, truth, k=15).argmax(1), knn_predict(x, truth, x, k=15).numpy())

def test_the_rule_of_cleanlab_points_to_the_same_labels():
    filter = pytest.importorskip('cleanlab.filter', reason='cleanlab is not installed')
    x,truth = clouds(spread=1.)
    said = truth.clone()
    said[::10] = (truth[::10]+1)%4
    theirs = filter.find_label_issues(said.numpy(), vote_shares(x, said), return_indices_ranked_by='self_confidence', n_jobs=1)
    assert len(set(theirs) & set(label_errors(x, said)[0]))>.8*len(theirs)

# --- a map

@pytest.mark.parametrize('method, kept', [('pca', .9), ('t-sne', .97)])
def test_a_map_keeps_clouds_apart(method, kept):
    x,truth = clouds(classes=3)
    places = torch.tensor(embedding_map(x, method))
    near = torch.cdist(places, places).fill_diagonal_(9).argmin(1)
    assert (truth[near]==truth).float().mean()>kept and places.min()==0 and places.max()==1

def test_umap_is_taken_where_it_is_installed():
    pytest.importorskip('umap', reason='umap-learn is not installed')
    x,truth = clouds(classes=3)
    assert module._best_method(len(x))=='umap'
    places = torch.tensor(embedding_map(x, 'umap'))
    assert (truth[torch.cdist(places, places).fill_diagonal_(9).argmin(1)]==truth).float().mean()>.97

def test_beyond_a_few_thousand_images_the_others_go_between_landmarks():
    x,truth = clouds(classes=3)
    places = torch.tensor(embedding_map(x, 't-sne', max_rows=60))
    assert (truth[torch.cdist(places, places).fill_diagonal_(9).argmin(1)]==truth).float().mean()>.95

@pytest.mark.parametrize('n, d', [(1, 4), (2, 4), (5, 1), (9, 1), (12, 3)])
@pytest.mark.parametrize('same', [True, False])
def test_few_or_equal_images_have_a_map_too(n, d, same):
    places = embedding_map(torch.ones(n, d) if same else features(n, d))
    assert places.shape==(n, 2) and np.isfinite(places).all()

def test_an_unknown_map_is_a_sentence():
    with pytest.raises(UserValueError, match="give 'umap', 't-sne' or 'pca'"): embedding_map(features(9), 'mds')

# --- the images of a run

@pytest.fixture(scope='module')
def finished(tmp_path_factory):
    "A short run on two folders of photographs, and the folder"
    folder = tmp_path_factory.mktemp('explore')
    write_images(folder/'photos'/'a', 14); write_images(folder/'photos'/'b', 14, seed=1)
    config = run_config(folder/'photos', arch='tiny', size=16, epochs=1, bs=8, n_hidden=16, n_proj=8, workers=0, guard=False)
    run = Run.create(folder/'run', config)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore') # so few images are too few for some of the pictures
        pretrain(run, bar=False)
    return run

def test_all_images_of_a_run_are_read_with_their_names_and_labels(finished):
    c = read_collection(finished.path)
    assert len(c.names)==28==len(c.features)==len(c.labels)==len(c.apart)==len(c.places) and 0<c.apart.sum()<14
    assert all(c.classes[label]==Path(name).parent.name for name,label in zip(c.names, c.labels)) and c.thumbnail(0, 16).size==(16, 16)
    encoder,i = finished.encoder(),c.names.index('b/1_003.png')
    again = read_collection(finished.path, n=9)
    assert len(again.names)==9 and np.allclose(again.features[0], c.features[c.names.index(again.names[0])], atol=1e-5)
    assert np.isfinite(c.features[i]).all() and c.features.shape[1]==encoder.n_features

def test_an_encoder_looks_at_other_images_and_needs_to_be_told_which(finished, tmp_path):
    write_images(tmp_path/'other', 6)
    c = read_collection(finished.path/'encoder', data=tmp_path/'other')
    assert len(c.names)==6 and c.apart is None and set(c.labels)=={-1}
    with pytest.raises(UserError, match='say with --data'): read_collection(finished.path/'encoder')
    assert read_collection('cifar10-small', data=tmp_path/'other').features.shape==(6, 128)

def test_images_that_have_changed_are_a_sentence(finished, tmp_path):
    shutil.copytree(finished.path, tmp_path/'run')
    config = json.loads((tmp_path/'run'/'config.json').read_text())
    config['fingerprint']['hash'] = 'another'
    (tmp_path/'run'/'config.json').write_text(json.dumps(config))
    with pytest.raises(UserError, match='--data'): read_collection(tmp_path/'run')

@pytest.mark.filterwarnings('ignore:.*could not be read')
def test_a_file_that_is_damaged_is_left_out(finished, tmp_path):
    write_images(tmp_path/'some', 6)
    whole = (tmp_path/'some'/'0_002.png').read_bytes()
    (tmp_path/'some'/'0_002.png').write_bytes(whole[:len(whole)//2])
    assert sorted(read_collection(finished.path, data=tmp_path/'some').names)==[f'0_00{i}.png' for i in (0, 1, 3, 4, 5)]

def test_the_page_and_two_pictures_lie_in_the_run_folder(finished):
    page = explore(finished.path)
    assert page==finished.path/'explore.html' and all((finished.path/o).stat().st_size>1000 for o in ('map.png', 'outliers.png'))
    assert '://' not in page.read_text()

# --- the program

def test_the_program_writes_a_page_and_says_where(finished, tmp_path, capsys):
    byol_explore([str(finished.path), '--out', str(tmp_path/'deep'/'p.html'), '--n', '12'])
    assert str(tmp_path/'deep'/'p.html') in capsys.readouterr().out and (tmp_path/'deep'/'p.html').stat().st_size>10_000

@pytest.mark.parametrize('args, words', [('nowhere', 'holds no run'), ('. --n 1', 'at least two images'), ('. --threshold 2', 'is a cosine'), ('. --method mds', 'invalid choice'), ('.', 'holds no run')])
def test_mistakes_end_in_a_sentence(args, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=f'byol_explore: .*{words}'): byol_explore(args.split())

@pytest.mark.parametrize('args', ['--help', 'nowhere', '. --n 1', '. --threshold 3'])
def test_help_and_mistakes_need_no_pytorch(args, tmp_path):
    code = f"import sys\nfrom byol_fastai.explore import byol_explore\ntry: byol_explore({args.split()})\nexcept SystemExit: pass\nassert not {{'torch', 'fastai', 'sklearn', 'matplotlib', 'pandas'}} & set(sys.modules)"
    subprocess.run([sys.executable, '-c', code], check=True, capture_output=True, cwd=tmp_path)

def test_open_shows_the_page(finished, tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr('webbrowser.open', shown.append)
    byol_explore([str(finished.path), '--out', str(tmp_path/'p.html'), '--open'])
    assert shown==[(tmp_path/'p.html').as_uri()]

# --- the page, in a browser

HOSTILE = ['<img src=x onerror=alert(1)>.png', '</script><script>alert(2)</script>.png', '"><svg onload=alert(3)>.png', '<!--<script>.png', "&lt;b&gt;' .png", '\udcff\u202e.png']

def collection(n=120, labels=True, names=None):
    x,y = make_shapes(n, 32)
    feats = features(10, 24)[y]+.5*features(n, 24, 1)
    feats[7] = feats[3]
    said = y.clone()
    said[11] = (y[11]+5)%10
    names = [*(HOSTILE if names is None else names), *(f'photos/image {i}.png' for i in range(n))][:n]
    data,classes = ImageArray(x, y), ['<b>bold</b>', *(f'class {i}' for i in range(9))]
    return Collection('<i>a run</i> on photos', feats.numpy(), names, said.numpy() if labels else np.full(n, -1), np.arange(n)%4==0 if labels else None,
        classes if labels else [''], 32, [(data, i) for i in range(n)])

def page_of(c, path, **kwargs): return write_page(path, c, look_into(c, method='pca'), **kwargs)

def test_no_name_can_end_the_block_it_stands_in(tmp_path):
    text = page_of(collection(), tmp_path/'p.html').read_text()
    assert text.count('</script>')==2 and text.count('<script')==2 and '<img' not in text and '<svg' not in text and 'alert(1)' in text

def test_thumbnails_are_bounded_and_go_to_what_is_on_a_list_first(tmp_path):
    c = collection(600)
    found = look_into(c, method='pca')
    shown = module._shown(found, 100)
    assert len(shown)==len(set(shown))==100 and set(found.outliers[0][:48])<=set(shown)
    few,all_ = (write_page(tmp_path/f'{n}.html', c, found, thumbnails=n).stat().st_size for n in (10, 600))
    assert few<all_/2


class Tab:
    "The page in a tab that remembers all that went wrong in it"
    def __init__(self, browser, path, **kwargs):
        self.wrong,self.context = [],browser.new_context(**kwargs)
        self.page = self.context.new_page()
        self.page.on('console', lambda m: self.wrong.append(f'console: {m.text}'))
        self.page.on('pageerror', lambda e: self.wrong.append(f'error: {e}'))
        self.page.on('dialog', lambda d: (self.wrong.append(f'dialog: {d.message}'), d.dismiss()))
        self.page.on('request', lambda r: self.wrong.append(f'request: {r.url[:80]}') if r.url!=path.as_uri() and not r.url.startswith('data:') else None)
        self.page.goto(path.as_uri())
        self.page.wait_for_selector('html[data-ready]')
    def __enter__(self): return self
    def __exit__(self, *args): self.context.close()

@pytest.fixture(scope='module')
def page_file(tmp_path_factory): return page_of(collection(), tmp_path_factory.mktemp('page')/'p.html')

WIDE,NARROW = dict(width=1280, height=900), dict(width=390, height=844)

@pytest.mark.parametrize('theme', ['light', 'dark'])
@pytest.mark.parametrize('size', [WIDE, NARROW], ids=['wide', 'narrow'])
def test_the_page_is_whole_in_both_themes_and_widths(browser, page_file, size, theme):
    with Tab(browser, page_file, viewport=size, color_scheme=theme) as tab:
        p = tab.page
        assert p.evaluate('document.documentElement.scrollWidth-document.documentElement.clientWidth')<=0
        ground = p.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, ground[4:-1].split(',')))<200)==(theme=='dark')
        paper,drawn = p.evaluate("""() => { const m = document.getElementById('map'), d = m.getContext('2d').getImageData(0, 0, m.width, m.height).data
            const seen = new Set(); for (let i = 0; i < d.length; i += 4) seen.add(d[i] + ',' + d[i+1] + ',' + d[i+2]); return [d.slice(0, 3).join(', '), seen.size] }""")
        assert paper in ground and drawn>10, 'the map has points in the colours of the theme'
        assert tab.wrong==[]

def test_names_of_strangers_are_shown_as_text(browser, page_file):
    with Tab(browser, page_file) as tab:
        p = tab.page
        assert p.locator('#title').inner_text()=='<i>a run</i> on photos'
        for i,name in enumerate(HOSTILE[:5]):
            p.locator('#find').fill(name[:9])
            p.locator(f'#results [data-row="{i}"]').click()
            assert p.locator('#picked h2').text_content()==name
        p.evaluate('pick(5, true)')
        assert p.locator('#picked h2').text_content().endswith('\\u202e.png'), 'a sign that turns the writing round is seen'
        assert '<b>bold</b>' in p.locator('#legend').inner_text()
        assert p.locator('body img, body svg, body b, body i').count()==0 and p.locator('script').count()==2
        assert tab.wrong==[]

def test_no_code_in_the_page_runs_but_its_own_and_nothing_can_be_asked_for(browser, page_file, tmp_path):
    broken = tmp_path/'broken.html' # as if a name had got through
    broken.write_text(page_file.read_text().replace('<main>', '<main><script>document.title="taken"</script><img src="x" onerror="document.title=\'taken\'">'))
    with Tab(browser, broken) as tab: assert tab.page.title()!='taken' and any('Content Security Policy' in o for o in tab.wrong)
    with Tab(browser, page_file) as tab:
        assert tab.page.evaluate("fetch('https://example.com').then(() => 'sent', () => 'refused')")=='refused'

def test_a_click_on_the_map_shows_the_nearest_neighbours(browser, page_file):
    c = collection()
    found = look_into(c, method='pca')
    with Tab(browser, page_file, viewport=WIDE) as tab:
        p = tab.page
        spot = p.evaluate('onScreen(40, frame())')
        p.locator('#map').click(position=dict(x=spot[0], y=spot[1]))
        i = p.evaluate('picked')
        assert np.abs(found.map[i]-found.map[40]).max()<.02, 'the picked point is where the click was'
        shown = [int(o.get_attribute('data-row')) for o in p.locator('#picked [data-row]').all()]
        assert p.locator('#picked h2').text_content()==c.names[i] and len(shown)==10
        np.testing.assert_allclose(found.cosines[i][:10], [c.features[i] @ c.features[j]/np.linalg.norm(c.features[i])/np.linalg.norm(c.features[j]) for j in shown], atol=1e-4)
        assert p.evaluate("[...document.querySelectorAll('#picked canvas')].every(o => new Set(o.getContext('2d').getImageData(0, 0, o.width, o.height).data).size>3)"), 'all have a picture'
        assert tab.wrong==[]

def test_the_lists_hold_what_was_found_and_lead_to_it(browser, page_file):
    with Tab(browser, page_file) as tab:
        p = tab.page
        lists = {o.locator('h2').inner_text(): o for o in p.locator('#lists > section').all()}
        assert list(lists)==['Near-duplicates', 'Unusual images', 'Likely label errors']
        rows = [int(o.get_attribute('data-row')) for o in lists['Near-duplicates'].locator('.group').first.locator('[data-row]').all()]
        assert sorted(rows)==[3, 7]
        wrong = lists['Likely label errors'].locator('[data-row="11"]')
        assert '→' in wrong.inner_text() and '% of the vote' in wrong.inner_text()
        wrong.click()
        assert p.evaluate('picked')==11
        assert p.evaluate("document.getElementById('picked').getBoundingClientRect().top")<600, 'and it is in sight'
        before = lists['Unusual images'].locator('[data-row]').count()
        lists['Unusual images'].get_by_text('Show more').click()
        assert lists['Unusual images'].locator('[data-row]').count()>before
        assert tab.wrong==[]

def test_the_keyboard_moves_zooms_and_picks(browser, page_file):
    with Tab(browser, page_file, viewport=WIDE) as tab:
        p = tab.page
        for _ in range(12):
            p.keyboard.press('Tab')
            if p.evaluate('document.activeElement.id')=='map': break
        assert p.evaluate('document.activeElement.id')=='map'
        for key,what in ('ArrowRight', 'view.x'),('ArrowDown', 'view.y'),('+', 'view.zoom'):
            before = p.evaluate(what)
            p.keyboard.press(key)
            assert p.evaluate(what)>before
        p.keyboard.press('0')
        assert p.evaluate('[view.x, view.y, view.zoom]')==[.5, .5, 1]
        p.keyboard.press('Enter')
        first = p.evaluate('picked')
        p.keyboard.press('n')
        assert first>=0 and p.evaluate('picked')==p.evaluate(f'near[{first}*k]')
        assert tab.wrong==[]

def test_wheel_drag_colours_and_filters_change_the_map(browser, page_file):
    with Tab(browser, page_file, viewport=WIDE) as tab:
        p = tab.page
        box = p.locator('#map').bounding_box()
        p.mouse.move(box['x']+200, box['y']+200)
        p.mouse.wheel(0, -400)
        p.wait_for_function('view.zoom>1.5')
        x = p.evaluate('view.x')
        p.mouse.down(); p.mouse.move(box['x']+300, box['y']+200); p.mouse.up()
        assert p.evaluate('view.x')<x and p.evaluate('picked')==-1, 'a drag picks nothing'
        p.locator('#whole').click()
        all_ = p.evaluate('shownRows(frame()).length')
        p.locator('#show').select_option('class 3')
        assert all_==120 and p.evaluate('shownRows(frame()).every(i => labels[i]===3)')
        for o in 'none', 'apart', 'alone', 'label': p.locator('#colour').select_option(o)
        assert p.locator('#legend li').count()==10 and tab.wrong==[]

def test_without_labels_there_is_no_list_of_label_errors_and_beyond_the_thumbnails_there_are_points(browser, tmp_path):
    f = page_of(collection(300, labels=False), tmp_path/'p.html', thumbnails=60)
    with Tab(browser, f) as tab:
        assert tab.page.locator('#lists > section').count()==2 and '60 of them have a thumbnail' in tab.page.locator('#about').inner_text()
        bare = tab.page.evaluate('tile.indexOf(-1)')
        tab.page.evaluate(f'pick({bare}, true)')
        assert tab.page.locator('#picked .nothing').first.inner_text()=='point' and tab.wrong==[]

def test_still_pictures_show_the_map_and_the_loneliest():
    c = collection(60)
    found = look_into(c, method='pca')
    ax = plot_map(found.map, c.labels, c.classes).axes[0]
    assert sum(len(o.get_offsets()) for o in ax.collections)==60
    assert len(plot_map(found.map).axes[0].collections)==1
    rows = plot_outliers(c, found, n=3, k=2).axes[0].images[0].get_array()
    expected = np.asarray(c.thumbnail(int(found.outliers[0][0]), 32))
    assert np.array_equal(np.round(255*np.asarray(rows)[2:34, 2:34]) if np.asarray(rows).max()<=1 else np.asarray(rows)[2:34, 2:34], expected)
