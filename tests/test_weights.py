"Encoders that come with the package: names, cards, features that stay what they were, and the programs that make them and race them"
import json, os, sys
from functools import partial
from pathlib import Path
import pytest, torch
from byol_fastai import config, course, saving
from byol_fastai.errors import UserError
from byol_fastai.model import TinyResNet, create_encoder
from byol_fastai.saving import load_encoder, save_encoder, shipped_encoders

ROOT = Path(__file__).parents[1]
CARD = ('arch size mean std n_features recipe versions what trained epochs images cpu_minutes command ledger figures test_features').split()

# --- what is shipped

@pytest.mark.parametrize('name', shipped_encoders() or [pytest.param(None, marks=pytest.mark.skip('no encoder is shipped yet'))])
class TestShipped:
    def test_it_loads_and_turns_images_into_vectors(self, name):
        encoder = load_encoder(name)
        with torch.no_grad(): out = encoder(torch.rand(3, 3, encoder.info['size'], encoder.info['size']))
        assert out.shape==(3, encoder.n_features) and out.isfinite().all() and not encoder.training

    def test_its_card_tells_all(self, name):
        info = load_encoder(name).info
        assert [o for o in CARD if o not in info]==[] and {'seed', 'epochs', 'lr', 'tau'} <= set(info['trained'])
        assert set(info['figures'])=={'knn', 'linear'} and info['epochs']==info['trained']['epochs']

    def test_its_figures_are_those_of_the_ledger(self, name):
        info = load_encoder(name).info
        entry = course.ledger(info['ledger'])
        assert entry['figures']['byol']==info['figures'] and entry['command']==info['command']
        assert {'pixels', 'gray_pixels', 'random', 'byol', 'supervised'} <= set(entry['figures'])
        assert [o['epoch'] for o in entry['config']['history']]==list(range(info['epochs']))

    def test_what_it_makes_of_a_picture_has_not_changed(self, name):
        import cifar10_small
        encoder = load_encoder(name)
        with torch.no_grad(): out = encoder(cifar10_small.picture(encoder.info['size']))[0]
        torch.testing.assert_close(out, torch.tensor(encoder.info['test_features']), rtol=1e-3, atol=1e-4)

    def test_it_is_small(self, name):
        weights,_ = saving.encoder_files(saving.WEIGHTS/name)
        assert weights.stat().st_size<5*2**20

def test_weights_are_in_the_wheel(tmp_path):
    "As setuptools sees it: every file of the folder is package data"
    import glob, runpy, setuptools
    seen = {}
    was,setuptools.setup = setuptools.setup,lambda **kwargs: seen.update(kwargs)
    try: runpy.run_path(str(ROOT/'setup.py'))
    finally: setuptools.setup = was
    packed = {Path(f) for o in seen['package_data']['byol_fastai'] for f in glob.glob(str(ROOT/'byol_fastai'/o))}
    assert {o for d in ('weights', 'results') for o in (ROOT/'byol_fastai'/d).glob('*')} <= packed
    assert any(o.match('results/*.json') for o in packed)

# --- names

@pytest.fixture
def weights(tmp_path, monkeypatch):
    "A folder of shipped encoders with one that is called `known`, and an empty current directory"
    for o in (config, saving): monkeypatch.setattr(o, 'WEIGHTS', tmp_path/'weights')
    save_encoder(tmp_path/'weights'/'known', TinyResNet(width=8), 'mine', 32, what='shipped')
    (tmp_path/'here').mkdir()
    monkeypatch.chdir(tmp_path/'here')
    return tmp_path/'weights'

def test_an_encoder_is_loaded_by_name(weights):
    assert shipped_encoders()==['known'] and load_encoder('known', TinyResNet(width=8)).info['what']=='shipped'

def test_a_name_that_nobody_knows_gets_the_list(weights):
    for name in 'knwon', 'known.pth', 'cifar':
        with pytest.raises(UserError, match='none of the encoders that come with byol_fastai: known'): load_encoder(name)

def test_a_path_that_does_not_exist_is_not_taken_for_a_name(weights):
    for path in 'runs/known', './runs/known', weights/'other':
        with pytest.raises(UserError, match='an encoder is two files'): load_encoder(path)

def test_what_lies_on_disk_goes_before_a_name(weights):
    Path('known').mkdir()
    assert load_encoder('known', TinyResNet(width=8)).info['what']=='shipped', 'a folder without an encoder'
    save_encoder('known', TinyResNet(width=8), 'mine', 32, what='in a folder') # known/encoder.*
    assert load_encoder('known', TinyResNet(width=8)).info['what']=='in a folder'
    os.remove('known/encoder.json')
    with pytest.raises(UserError, match='an encoder is two files'): load_encoder('known')

def test_a_run_starts_from_one_by_its_name(weights):
    started = config.run_config('shapes', start='known')
    assert (started.start, started.arch, started.size)==('known', 'mine', 32)
    save_encoder('known', TinyResNet(width=8), 'tiny', 24) # yours goes before it
    assert config.run_config('shapes', start='known').size==24 and config.run_config('shapes', start='known').start==str(Path('known').absolute())
    for name in 'knwon', 'sub/known':
        with pytest.raises(UserError): config.run_config('shapes', start=name)

def test_without_any_the_sentence_says_so(tmp_path, monkeypatch):
    for o in (config, saving): monkeypatch.setattr(o, 'WEIGHTS', tmp_path/'nothing')
    monkeypatch.chdir(tmp_path)
    assert shipped_encoders()==[]
    with pytest.raises(UserError, match='none so far'): load_encoder('cifar10-small')

# --- 16 bits

@pytest.mark.parametrize('arch', ['tiny', 'resnet18', 'vit_tiny_patch16_224'])
def test_half_the_size_and_nearly_the_same_features(arch, tmp_path):
    torch.manual_seed(0)
    encoder, x = create_encoder(arch, size=32).eval(), torch.randn(8, 3, 32, 32)
    sizes = [save_encoder(tmp_path/str(half), encoder, arch, 32, half=half).stat().st_size for half in (False, True)]
    assert sizes[1]<.6*sizes[0]
    back = load_encoder(tmp_path/'True')
    assert {o.dtype for o in back.parameters()}=={torch.float32}
    with torch.no_grad(): a,b = encoder(x),back(x)
    assert torch.nn.functional.cosine_similarity(a, b).min()>.9999 and (a-b).abs().max()<.01*a.abs().max()

def test_batchnorm_keeps_its_digits(tmp_path):
    encoder = TinyResNet(width=8)
    for k,o in encoder.named_buffers(): o.fill_(1e-7) if k.endswith('var') else None
    save_encoder(tmp_path/'e', encoder, 'tiny', 32, half=True)
    back = load_encoder(tmp_path/'e', TinyResNet(width=8))
    assert all(torch.equal(a, b) for a,b in zip(encoder.buffers(), back.buffers()))

# --- how it is made

@pytest.fixture
def ledger(tmp_path, monkeypatch):
    monkeypatch.setattr(course, 'RESULTS', tmp_path/'ledger')
    for o in (config, saving): monkeypatch.setattr(o, 'WEIGHTS', tmp_path/'weights')
    threads = torch.get_num_threads()
    yield lambda name: json.loads((tmp_path/'ledger'/f'{name}.json').read_text())
    torch.set_num_threads(threads)

TINY = '--data shapes --n 128 --width 8 --stages 2 --n-hidden 16 --n-proj 8 --bs 32'

def test_the_encoder_is_trained_from_checkpoint_to_checkpoint_and_shipped(tmp_path, ledger, monkeypatch):
    import cifar10_small
    options = lambda out: f'{TINY} --epochs 3 --supervised-epochs 2 --out {tmp_path/out}'.split()
    cifar10_small.main(options('whole')+['--ship'])
    whole = load_encoder('cifar10-small')
    def stop(self):
        was(self)
        if self.epoch==1: raise KeyboardInterrupt
    for cls in cifar10_small.Checkpoint, cifar10_small.Saved: # in the middle of each of the two trainings
        was = cls.after_epoch
        with monkeypatch.context() as m, pytest.raises(KeyboardInterrupt):
            m.setattr(cls, 'after_epoch', stop)
            cifar10_small.main(options('parts'))
    cifar10_small.main(['--out', str(tmp_path/'parts'), '--ship']) # the folder knows its recipe
    parts = load_encoder('cifar10-small')
    assert all(torch.equal(a, b) for a,b in zip(whole.state_dict().values(), parts.state_dict().values()))
    entry = ledger('cifar10_small')
    assert [o for o in CARD if o not in parts.info]==[] and entry['figures']['byol']==parts.info['figures']
    assert [o['epoch'] for o in entry['config']['history']]==[0, 1, 2] and len(entry['config']['supervised_history'])==2
    assert {'knn', 'linear'}==set(entry['figures']['gray_pixels'])==set(entry['figures']['random'])

# --- the race

class Peer:
    "Stands for lightly, which need not be there: a contestant that learns nothing"
    def __init__(self, source, recipe, encoder, seed, folder, workers=0):
        self.path, self.encoder = folder/'lightly', create_encoder(**encoder)
    def train(self, seconds, of):
        done = min(of, (int(self.path.read_text()) if self.path.exists() else 0)+1)
        self.path.write_text(str(done))
        return done

def racing(tmp_path, monkeypatch, more='--seeds 2'):
    race = pytest.importorskip('race')
    monkeypatch.setattr(race, 'present', lambda peers: peers)
    monkeypatch.setattr(race, 'Lightly', Peer)
    monkeypatch.setattr(race, 'epochs_for', lambda *args: 3)
    monkeypatch.setattr(sys, 'argv', ['race.py'])
    options = f'--data shapes --n 160 --minutes 3 --turn 0 --threads 1 --out {tmp_path/"race"} {more}'.split()
    return race, partial(race.main, options+['--ours', '{"bs": 32, "n_hidden": 16}', '--encoder', '{"arch": "tiny", "width": 8}'])

def test_both_take_turns_until_both_are_through(tmp_path, ledger, monkeypatch):
    race, run = racing(tmp_path, monkeypatch)
    run()
    runs = ledger('race')['figures']['runs']
    assert set(runs)=={'ours', 'lightly'} and set(runs['ours'])==set(runs['lightly'])=={'0', '1'}
    assert all(set(o)=={'knn', 'linear'} for o in ledger('race')['figures']['rivals'].values()) and 'raw pixels' in ledger('race')['figures']['rivals']
    for o in runs['ours'].values():
        assert [r['epoch'] for r in o['history']]==[1, 2, 3] and {'minutes', 'knn', 'linear'} <= set(o['history'][0])
        assert o['knn']==o['history'][-1]['knn'] and sorted(r['minutes'] for r in o['history'])==[r['minutes'] for r in o['history']]
    assert (tmp_path/'race'/'race.png').stat().st_size>1000

def test_a_race_goes_on_where_it_was_stopped(tmp_path, ledger, monkeypatch):
    race, run = racing(tmp_path/'whole', monkeypatch, '--seeds 1')
    run()
    whole = ledger('race')['figures']['runs']['ours']['0']['history']
    race, run = racing(tmp_path/'parts', monkeypatch, '--seeds 1')
    turns = []
    def stop(*args, was=race.turn):
        turns.append(args)
        if len(turns)==4: raise KeyboardInterrupt
        return was(*args)
    with monkeypatch.context() as m, pytest.raises(KeyboardInterrupt):
        m.setattr(race, 'turn', stop)
        run()
    run()
    drop = lambda rows: [{k: v for k,v in o.items() if k!='minutes'} for o in rows]
    assert drop(ledger('race')['figures']['runs']['ours']['0']['history'])==drop(whole)

def test_who_is_ahead():
    race = pytest.importorskip('race')
    run = lambda *values: dict(knn=values[-1], linear=values[-1], history=[dict(minutes=m, knn=v, linear=v) for m,v in zip((1, 2, 3), values)])
    o = race.result(dict(ours={'0': run(.1, .3, .5), '1': run(.1, .4, .5)}, lightly={'0': run(.2, .2, .3), '1': run(.2, .3, .3)}), 3)
    assert o['lead']['knn']==[-.1, .1, .2] and o['always_ahead_after_minute']==1 and o['lead_at_the_end']['linear']==.2
    assert race.at(run(.1, .3, .5), torch.tensor([1.5]).numpy(), 'knn')==pytest.approx(.2)

def test_a_search_tries_each_change_once(tmp_path, ledger, monkeypatch, capsys):
    race, run = racing(tmp_path, monkeypatch, '--seeds 1 --search --only bs=128 extra_views=1 opt=adamw')
    run()
    found = ledger('race_search')['figures']['runs']
    assert set(found)=={'bs=128', 'extra_views=1', 'opt=adamw'} and all({'knn', 'linear', 'epochs'}==set(o['0']) for o in found.values())
    capsys.readouterr()
    run()
    assert capsys.readouterr().out==''

def test_nobody_to_race_against_is_a_sentence(tmp_path, ledger, monkeypatch, capsys):
    race, run = racing(tmp_path, monkeypatch)
    monkeypatch.setattr(race, 'present', lambda peers: {})
    run()
    assert 'nothing was measured' in capsys.readouterr().out and not (tmp_path/'ledger').exists()
