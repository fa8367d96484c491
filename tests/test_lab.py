"The first lesson as a reader meets it: opened in JupyterLab, and all of it run"
import json, os, subprocess, sys, time, urllib.request
import nbformat, pytest
from conftest import ROOT

pytest.importorskip('jupyterlab', reason='JupyterLab is not installed')
pytestmark = pytest.mark.xdist_group('lab')
SETTINGS = {'notebook-extension/tracker': dict(windowingMode='none'), 'apputils-extension/notification': dict(fetchNews='false', checkForUpdates=False)} # all cells are on the page, and nobody asks for news

@pytest.fixture(scope='module')
def lab(tmp_path_factory):
    "The address of a JupyterLab that serves a folder with lesson 00 alone, to which a chart is added, and the folder"
    folder,home = tmp_path_factory.mktemp('lessons'), tmp_path_factory.mktemp('jupyter')
    nb = nbformat.read(ROOT/'nbs'/'00_start.ipynb', 4)
    nb.cells.append(nbformat.v4.new_code_cell('plt.plot([0, 1]);'))
    nbformat.write(nb, folder/'00_start.ipynb')
    for name,values in SETTINGS.items():
        path = home/'settings'/'@jupyterlab'/f'{name}.jupyterlab-settings'
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values))
    env = {k: v for k,v in os.environ.items() if k!='MPLBACKEND'} | {f'JUPYTER_{o}_DIR': str(home/o.lower()) for o in ('CONFIG', 'DATA', 'RUNTIME')}
    env |= dict(BYOL_FASTAI_PROFILE='quick', JUPYTERLAB_SETTINGS_DIR=str(home/'settings'), JUPYTERLAB_WORKSPACES_DIR=str(home/'workspaces'), PYTHONPATH=str(ROOT))
    command = [sys.executable, '-m', 'jupyterlab', '--no-browser', '--allow-root', '--ServerApp.port=0', '--IdentityProvider.token=', f'--ServerApp.root_dir={folder}']
    with (home/'log').open('w') as log: server = subprocess.Popen(command, env=env, stdout=log, stderr=subprocess.STDOUT)
    try: yield answering(server, home), folder
    finally:
        server.terminate()
        server.wait(60)

def answering(server, home):
    "The address of the server, as soon as it answers"
    while server.poll() is None:
        for path in (home/'runtime').glob('jpserver-*.json'):
            try: urllib.request.urlopen(f"{(url := json.loads(path.read_text())['url'])}api").close()
            except (OSError, ValueError): continue # not yet
            return url
        time.sleep(.2)
    raise RuntimeError((home/'log').read_text())

WRONG = ', '.join(f'[data-mime-type="application/vnd.jupyter.{o}"]' for o in ('error', 'stderr'))
DONE = f"""() => document.querySelector('{WRONG}') || [...document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')].every(o => /\\d/.test(o.textContent))"""

PICTURES = """() => [...document.querySelectorAll('.jp-OutputArea-output img')].filter(o => o.naturalWidth).map(o => o.src.slice(5, 14))"""

def test_the_first_lesson_runs_from_top_to_bottom_in_jupyterlab(browser, lab):
    url,folder = lab
    drawn = sum(any(k.startswith('image/') for k in o.get('data', {})) for c in nbformat.read(folder/'00_start.ipynb', 4).cells for o in c.get('outputs', ()))
    page = browser.new_page(viewport=dict(width=1400, height=1000))
    page.set_default_timeout(120_000)
    page.goto(f'{url}lab/tree/00_start.ipynb')
    page.wait_for_selector('.jp-Notebook .jp-CodeCell')
    page.wait_for_function(f'n => ({PICTURES})().length==n', arg=drawn) # as they are stored, in a notebook that nobody trusts
    page.get_by_text('| Idle').wait_for() # without a kernel, Run All runs nothing
    page.locator('.lm-MenuBar-item', has_text='Run').click()
    page.locator('.lm-Menu-item[data-command="runmenu:run-all"]').click()
    page.wait_for_function(DONE, timeout=600_000)
    assert page.locator(WRONG).all_inner_texts()==[]
    shown = page.evaluate(PICTURES)
    assert len(shown)==drawn+1 and shown[-1]=='image/svg' # the chart
    assert 'BYOL' in page.locator('.jp-CodeCell table.dataframe').last.inner_text() and page.get_by_text('best rival').count()
    page.close()
