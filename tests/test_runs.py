"Runs that are interrupted and go on as if nothing had happened"
import pytest, torch
from dataclasses import asdict
from fastai.vision.all import Callback
from safetensors.torch import load_file
from byol_fastai.config import Run, run_config
from byol_fastai.runs import pretrain
from byol_fastai.saving import Checkpoint
from conftest import same, write_images

TINY = dict(n=48, bs=16, size=16, epochs=3, n_hidden=16, n_proj=8)

# --- resuming

class Cut(Callback):
    "The power fails in the middle of an epoch"
    order = 90
    def __init__(self, epoch): self.at = epoch
    def after_batch(self):
        if self.training and self.epoch==self.at: raise KeyboardInterrupt

class Quiet(Callback):
    order = -99
    def before_fit(self): self.learn.logger = lambda row: None

def run(path, cut=None, **kwargs):
    "Make or continue a run in `path`, cut short in epoch `cut`"
    o = Run.open(path) if (path/'config.json').exists() else Run.create(path, run_config('shapes', **{**TINY, **kwargs}))
    if cut is None: return pretrain(o, Quiet(), bar=False)
    with pytest.raises(KeyboardInterrupt): pretrain(o, [Quiet(), Cut(cut)], bar=False)

@pytest.mark.parametrize('opt', ['adamw', 'lars'])
def test_an_interrupted_run_ends_as_one_that_was_not_to_the_bit(opt, tmp_path):
    whole = run(tmp_path/'whole', opt=opt)
    for cut in (0, 1, 2): run(tmp_path/'cut', cut, opt=opt)
    parts = run(tmp_path/'cut', opt=opt)
    a,b = (Checkpoint.read(tmp_path/o/'checkpoint') for o in ('whole', 'cut'))
    assert any(k.startswith('target.') for k in a['model']) and same(a['model'], b['model'])
    assert same(load_file(tmp_path/'whole'/'encoder.safetensors'), load_file(tmp_path/'cut'/'encoder.safetensors'))
    def figures(report): return [{k: v for k,v in row.items() if k not in ('time', 'left')} for row in report['history']]
    assert figures(parts)==figures(whole) and [r['epoch'] for r in whole['history']]==[0, 1, 2] and parts['probes']==whole['probes']

def test_a_checkpoint_holds_tensors_and_values_but_no_code(tmp_path):
    run(tmp_path/'r', 1)
    o = torch.load(tmp_path/'r'/'checkpoint', weights_only=True)
    assert {'model', 'opt', 'epoch', 'random', 'history'} <= set(o) and o['epoch']==1

def test_a_damaged_checkpoint_is_named_in_a_sentence(tmp_path):
    run(tmp_path/'r', 1)
    f = tmp_path/'r'/'checkpoint'
    f.write_bytes(f.read_bytes()[:1000])
    with pytest.raises(ValueError, match='checkpoint'): run(tmp_path/'r')

def test_a_folder_that_holds_a_run_is_never_written_over(tmp_path):
    run(tmp_path/'r', 1)
    with pytest.raises(FileExistsError, match='already holds a run'): Run.create(tmp_path/'r', run_config('shapes', **TINY))

def test_images_without_labels_give_a_run_without_probes(tmp_path):
    config = run_config(write_images(tmp_path/'photos', 20), **{**TINY, 'arch': 'tiny', 'epochs': 1, 'bs': 8})
    report = pretrain(Run.create(tmp_path/'r', config), Quiet(), bar=False)
    assert report['probes'] is None and report['complete']
    assert {'encoder.safetensors', 'curves.png', 'views.png', 'neighbours.png'} <= {o.name for o in (tmp_path/'r').iterdir()}

def test_after_the_fit_each_image_goes_through_the_encoder_once(tmp_path):
    seen = []
    class Count(Quiet):
        def after_fit(self): self.model.encoder.register_forward_hook(lambda m, x, y: seen.append(len(y)))
    report = pretrain(Run.create(tmp_path/'r', run_config('shapes', **{**TINY, 'epochs': 1})), Count(), bar=False)
    assert sum(seen)==48+48 and not report['failed'], 'as many to train on as to test on, for probes and picture together'

def test_options_that_are_not_given_keep_the_preset_of_the_source():
    assert asdict(run_config('shapes', bs=32, lr=None))=={**asdict(run_config('shapes')), 'bs': 32}
    assert run_config('cifar10').arch=='resnet18' and run_config('shapes').arch=='tiny'
