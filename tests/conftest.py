"What all tests share: the CPU, one thread, no network, few and repeatable hypothesis examples, and learners that train in a fraction of a second"
import os
os.environ.setdefault('CUDA_VISIBLE_DEVICES', '') # the suite describes the CPU; name a card to test one
os.environ.update(MPLBACKEND='Agg', OMP_NUM_THREADS='1', NO_ALBUMENTATIONS_UPDATE='1')

import importlib, shutil
from pathlib import Path
import pytest, torch
from hypothesis import Phase, settings
from PIL import Image
from fastai.vision.all import Callback, defaults, set_seed
from byol_fastai.all import TinyResNet, byol_dls, byol_learner, make_shapes

ROOT = Path(__file__).resolve().parent.parent
defaults.use_cuda = bool(os.environ['CUDA_VISIBLE_DEVICES'])
torch.set_num_threads(1)
settings.register_profile('suite', deadline=None, derandomize=True, max_examples=20, database=None,
    phases=[Phase.generate]) # the examples are small as they are
settings.load_profile('suite')

def tool(name):
    "The module `docs/website/name.py`"
    return importlib.import_module(f'website.{name}')

FLAGS = '--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync'.split()

@pytest.fixture(scope='session')
def browser():
    "One browser for all tests of a worker: Playwright does not start twice in a process"
    chromium = shutil.which('chromium') or shutil.which('chromium-browser') or shutil.which('google-chrome')
    if not chromium: pytest.skip('there is no chromium on this computer: apt-get install chromium')
    playwright = pytest.importorskip('playwright.sync_api', reason='playwright is not installed')
    with playwright.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=chromium, args=FLAGS)
        yield browser
        browser.close()

@pytest.fixture(autouse=True)
def seeded(): set_seed(0)

def tiny_learner(n=48, bs=16, size=16, seed=0, **kwargs):
    "A whole BYOL learner, small enough that an epoch of three batches takes some 30 ms"
    set_seed(seed)
    dls = byol_dls('shapes', bs=bs, n=n, size=size, valid_pct=.25 if n>=32 else 0)
    kwargs = {'arch': TinyResNet(width=8), 'n_hidden': 16, 'n_proj': 8, 'opt': 'adamw', 'guard': False, **kwargs}
    learn = byol_learner(dls, **kwargs)
    learn.remove_cbs([cb for cb in learn.cbs if type(cb).__name__=='ProgressCallback'])
    learn.logger = lambda row: None
    return learn

def state(module):
    "A copy of all that `module` remembers"
    return {k: v.detach().clone() for k,v in module.state_dict().items()}

def same(a, b):
    "True where two states agree to the bit"
    return a.keys()==b.keys() and all(torch.equal(a[k], b[k]) for k in a)

def write_images(folder, n, size=40, seed=0, suffix='png'):
    "`n` different pictures, not square, as files in `folder`"
    folder.mkdir(parents=True, exist_ok=True)
    x,_ = make_shapes(n, size, seed=seed+100)
    for i,o in enumerate(x): Image.fromarray(o.permute(1, 2, 0).numpy()).resize((size+8, size)).save(folder/f'{seed}_{i:03d}.{suffix}')
    return folder

class Do(Callback):
    "A callback from functions: `Do(before_batch=f, order=3)` calls `f(self)`"
    def __init__(self, order=0, **events):
        self.order = order
        for k,f in events.items(): setattr(self, k, (lambda f: lambda: f(self))(f))
