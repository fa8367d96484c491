"The playground: one model in two languages that give the same numbers, and a page that teaches by hand, by key and by ear"
import functools, re
from importlib.resources import files
import numpy as np, pytest
from hypothesis import given, strategies as st
from byol_fastai.errors import UserValueError
from byol_fastai.playground import TOY_PRESETS, Toy, ToyConfig, play
from conftest import ROOT
from test_site import CONTRAST

PAGE = ROOT/'byol_fastai'/'playground.html'
COLLAPSING = ['no predictor', 'no stop-gradient', 'slow predictor']
every_preset = pytest.mark.parametrize('name', TOY_PRESETS)

# --- in Python

@functools.cache
def ran(name, dim, steps=600, seed=0): return Toy.preset(name, seed, dim=dim).run(steps).history

@pytest.mark.parametrize('dim', [2, 3])
@every_preset
def test_a_preset_does_what_its_name_says(name, dim):
    std = ran(name, dim)['std']
    assert max(std[-50:])<.12 if name in COLLAPSING else min(std[-50:])>.5

@given(seed=st.integers(0, 2**32-1), dim=st.sampled_from([2, 3]), name=st.sampled_from([*TOY_PRESETS]))
def test_every_start_is_partly_spread_and_every_answer_has_length_one(seed, dim, name):
    toy = Toy.preset(name, seed, dim=dim)
    assert all(np.array_equal(toy.online[k], toy.target[k]) for k in toy.online)
    y = toy.run(2).embed()
    assert np.allclose((y*y).sum(1), 1) and .2<toy.history['std'][0]<.7 and 1<=toy.history['rank'][0]<=dim

def test_what_a_switch_takes_away_does_not_move():
    still = Toy.preset('no predictor').run(5)
    assert np.array_equal(still.P, np.eye(2))
    still = Toy.preset('tau = 1')
    before = still.embed(still.target)
    assert np.array_equal(still.run(5).embed(still.target), before) and not np.allclose(still.embed(), before)
    for name in 'tau = 0', 'no stop-gradient':
        toy = Toy.preset(name).run(5)
        assert np.allclose(toy.embed(), toy.embed(toy.target))

def test_without_noise_and_predictor_there_is_nothing_to_learn():
    toy = Toy(ToyConfig(noise=0., predictor=False, weight_decay=0.))
    before = toy.embed()
    assert np.allclose(toy.run(3).embed(), before) and max(toy.history['loss'])<1e-12

def test_what_cannot_be_is_said_in_a_sentence():
    for wrong in (lambda: ToyConfig(dim=4), lambda: ToyConfig(tau=-.1), lambda: Toy.preset('helthy'), lambda: play('helthy')):
        with pytest.raises(UserValueError, match=r'\.$'): wrong()

# --- the file

def test_the_page_is_one_small_file_that_asks_for_nothing():
    text = PAGE.read_text(encoding='utf-8')
    assert len(text.encode())<60_000 and (files('byol_fastai')/'playground.html').read_text(encoding='utf-8')==text
    assert not re.findall(r'https?://|@import|\bfetch\(|XMLHttpRequest|\burl\(|<script src|<link rel="stylesheet', text)

# --- in a browser

@pytest.fixture
def visit(browser):
    "Open the page; at the end, nothing may have gone wrong in any tab and nothing may have been asked for"
    opened,wrong = [],[]
    def visit(address=PAGE.as_uri(), **kwargs):
        page = browser.new_context(**{'reduced_motion': 'reduce', **kwargs}).new_page()
        page.on('console', lambda m: wrong.append(m.text) if m.type in ('error', 'warning') else None)
        page.on('pageerror', lambda e: wrong.append(str(e)))
        page.on('request', lambda r: wrong.append(r.url) if not r.url.startswith(('file:', 'data:', 'about:')) else None)
        page.goto(address)
        opened.append(page)
        return page
    yield visit
    for page in opened: page.context.close()
    assert wrong==[]

@pytest.mark.parametrize('dim', [2, 3])
def test_both_languages_give_the_same_numbers(visit, dim):
    page = visit()
    assert page.evaluate('playground.presets')==[*TOY_PRESETS]
    for name in TOY_PRESETS:
        for seed in 0, 2_000_000_011:
            theirs = page.evaluate('([name, seed, dim]) => playground.run(name, seed, 200, {dim})', [name, seed, dim])
            ours = ran(name, dim, 200, seed)
            assert theirs.keys()==ours.keys()
            for k in ours:
                assert len(theirs[k])==200
                np.testing.assert_allclose(theirs[k], ours[k], rtol=0, atol=1e-9, err_msg=f'{name}, seed {seed}, {k}')

def test_both_languages_begin_with_the_same_settings(visit):
    page = visit()
    assert page.evaluate('playground.Model.DEFAULTS')==vars(ToyConfig())
    assert page.evaluate('playground.Model.PRESETS')==TOY_PRESETS

@every_preset
def test_two_seconds_show_it(visit, name):
    page = visit(reduced_motion='no-preference')
    page.get_by_role('button', name=name, exact=True).click()
    page.wait_for_function('playground.shown.steps>=750', timeout=90_000) # two seconds hold 800 steps
    shown = page.evaluate('playground.shown')
    assert shown['preset']==name and (shown['std']<.1)==(name in COLLAPSING)
    said = page.locator('#finding').inner_text()
    assert ('collapsed' in said)==(name in COLLAPSING) and f"Step {shown['steps']//100}" in said or shown['running']

def test_it_waits_where_motion_is_not_wanted_and_runs_where_it_is(visit):
    still = visit()
    assert still.evaluate('playground.shown.running') is False and still.evaluate('playground.shown.steps')==0
    still.get_by_role('button', name='tau = 0').click()
    assert still.evaluate('playground.shown.running') is False
    still.get_by_role('button', name='Run').click()
    still.wait_for_function('playground.shown.steps>20')
    visit(reduced_motion='no-preference').wait_for_function('playground.shown.steps>20')

def test_every_control_is_reached_and_worked_by_key(visit):
    page,reached = visit(),[]
    for _ in range(40):
        page.keyboard.press('Tab')
        o = page.evaluate('''() => { const o = document.activeElement; return o == document.body ? null :
            [o.id || o.textContent || o.value, getComputedStyle(o).outlineStyle] }''')
        if o is None or o[0] in [r[0] for r in reached]: break
        reached.append(o)
    names = [r[0] for r in reached]
    assert {*TOY_PRESETS, 'run', 'step', 'reset', 'another', 'predictor', 'stop_gradient', 'tau', 'predictor_lr_mult', 'noise',
        'weight_decay', 'speed'} <= {*names} and all(outline!='none' for _,outline in reached)
    page.locator('#step').press('Enter')
    assert page.evaluate('playground.shown.steps')==1
    page.locator('#noise').press('End')
    page.locator('#predictor').press('Space')
    page.locator('[name=dim][value="3"]').press('Space')
    assert page.locator('#noise-value').inner_text()=='0.6' and page.locator('#predictor_lr_mult').is_disabled()
    assert 'changed by you' in page.locator('#name').inner_text() and 'sphere' in page.locator('#points').get_attribute('aria-label')

def test_a_slider_acts_in_the_middle_of_a_run(visit):
    page = visit()
    page.evaluate('''() => { document.querySelector('#speed').value = 6; document.querySelector('#speed').oninput() }''')
    page.get_by_role('button', name='tau = 0').click()
    page.get_by_role('button', name='Run').click()
    page.wait_for_function('playground.shown.steps>400', timeout=90_000)
    assert page.evaluate('playground.shown.std')>.5
    page.evaluate('''() => { const o = document.querySelector('#predictor_lr_mult'); o.value = o.min; o.dispatchEvent(new Event('input')) }''')
    page.wait_for_function('playground.shown.std<.1', timeout=90_000)

@every_preset
def test_words_stand_for_the_pictures(visit, name):
    page = visit()
    page.get_by_role('button', name=name, exact=True).click()
    assert len(page.locator('#watch').inner_text())>80
    page.get_by_role('button', name='Step').click()
    said = page.locator('#status').inner_text()
    assert said.startswith(name) and re.search(r'Step 1: .*Loss 0?\.\d+|Step 1: .*Loss \d', said) and page.locator('#status').get_attribute('aria-live')=='polite'
    assert all(o.get_attribute('aria-label') or o.get_attribute('aria-hidden')=='true' for o in page.locator('canvas').all())
    assert all(o.evaluate('o => o.labels.length')==1 for o in page.locator('input').all())

def test_an_address_leads_to_a_preset_and_so_does_a_notebook(visit):
    assert visit(f'{PAGE.as_uri()}#no-predictor').evaluate('playground.shown.preset')=='no predictor'
    page = visit('about:blank')
    page.set_content(play('tau = 1', height=500)._repr_html_())
    frame = page.locator('iframe')
    assert frame.bounding_box()['height']==500 and frame.get_attribute('title')
    assert page.frames[1].evaluate('playground.shown.preset')=='tau = 1'

@pytest.mark.parametrize('width', [1440, 390, 320])
@pytest.mark.parametrize('theme', ['light', 'dark'])
def test_it_is_whole_at_any_width_and_stands_out_in_both_themes(visit, width, theme):
    page = visit(viewport={'width': width, 'height': 900}, color_scheme=theme)
    page.get_by_role('button', name='Step').click()
    assert page.evaluate('document.documentElement.scrollWidth-document.documentElement.clientWidth')<=0
    everywhere = CONTRAST.replace('article :is(a, a code, td, tr.cap strong, p)', 'body :is(h1, h2, p, button, label, legend, figcaption, output, small, b)')
    assert everywhere!=CONTRAST and page.evaluate(everywhere)==[]
    assert all(min(o.bounding_box()['width'], o.bounding_box()['height'])>=20 for o in page.locator('button, input').all())
