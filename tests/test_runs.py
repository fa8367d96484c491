"Saved encoders, checkpoints, and runs that are interrupted and go on as if nothing had happened"
import pickle, pytest, torch
from dataclasses import asdict
from fastai.vision.all import Callback
from safetensors.torch import load_file
from byol_fastai.all import TinyResNet, create_encoder, load_encoder, save_encoder
from byol_fastai.runs import Checkpoint, Run, pretrain, run_config, write_atomically
from conftest import same, state, write_images

TINY = dict(n=48, bs=16, size=16, epochs=3, n_hidden=16, n_proj=8)

# --- an encoder on disk

@pytest.mark.parametrize('arch, small', [('tiny', None), ('resnet18', True), ('resnet18', False)])
def test_an_encoder_comes_back_as_it_went(arch, small, tmp_path):
    encoder = create_encoder(arch, small=small)
    for p in encoder.buffers(): p.random_(1, 5) if p.is_floating_point() else None
    f = save_encoder(tmp_path/'deep'/'e', encoder, arch, 32, note='what I did')
    assert sorted(o.name for o in f.parent.iterdir())==['e.json', 'e.safetensors']
    for path in f, f.with_suffix(''), f.with_suffix('.json'):
        back = load_encoder(path)
        assert same(state(back), state(encoder)) and not back.training
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad(): assert torch.equal(back(x), encoder.eval()(x))
    assert back.info['note']=='what I did' and back.info['size']==32 and back.info['n_features']==encoder.n_features
    assert back.info['mean']==pytest.approx([.485, .456, .406]) and back.info['std']==pytest.approx([.229, .224, .225]) and 'torch' in back.info['versions']

def test_a_name_with_a_dot_is_not_cut_short(tmp_path):
    for name in ('v1.0', 'v1.1'): save_encoder(tmp_path/name, TinyResNet(), 'tiny', 32, name=name)
    assert load_encoder(tmp_path/'v1.0').info['name']=='v1.0'

def test_a_module_of_ones_own_is_filled(tmp_path):
    encoder = TinyResNet(width=5)
    save_encoder(tmp_path/'e', encoder, 'mine', 32)
    assert same(state(load_encoder(tmp_path/'e', TinyResNet(width=5))), state(encoder))

def test_loading_an_encoder_runs_no_pickled_code(tmp_path, monkeypatch):
    f = save_encoder(tmp_path/'e', TinyResNet(), 'tiny', 32)
    def refuse(*args, **kwargs): raise AssertionError('something was unpickled')
    for o in (pickle, 'load'),(pickle, 'loads'),(pickle, 'Unpickler'),(torch, 'load'): monkeypatch.setattr(*o, refuse)
    load_encoder(f)

def test_what_is_missing_is_named_in_a_sentence(tmp_path):
    f = save_encoder(tmp_path/'e', TinyResNet(), 'tiny', 32)
    (tmp_path/'e.json').unlink()
    with pytest.raises(FileNotFoundError, match=r'There is no .*e\.json: an encoder is two files, e\.safetensors and e\.json, side by side'): load_encoder(f)
    with pytest.raises(FileNotFoundError, match='There is no .*nothing.safetensors'): load_encoder(tmp_path/'nothing')

def test_an_interrupted_write_leaves_the_old_file_and_nothing_beside_it(tmp_path):
    f = tmp_path/'f.txt'
    write_atomically(f, lambda o: o.write_text('old'))
    def broken(o): o.write_text('half'); raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt): write_atomically(f, broken)
    assert f.read_text()=='old'
    write_atomically(f, lambda o: o.write_text('new'))
    assert f.read_text()=='new' and list(tmp_path.iterdir())==[f]

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

def test_options_that_are_not_given_keep_the_preset_of_the_source():
    assert asdict(run_config('shapes', bs=32, lr=None))=={**asdict(run_config('shapes')), 'bs': 32}
    assert run_config('cifar10').arch=='resnet18' and run_config('shapes').arch=='tiny'
