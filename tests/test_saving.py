"Encoders and checkpoints on disk: what comes back, what is refused, and that no code is run"
import json, os, pickle, subprocess, sys
import pytest, timm, torch, torchvision
from fastai.callback.training import GradientAccumulation
from fastai.vision.all import Callback, create_body, nn, set_seed
from safetensors.torch import load_file
from byol_fastai.data import byol_dls
from byol_fastai.errors import UserError
from byol_fastai.model import TinyResNet, create_encoder
from byol_fastai.saving import _Rest, Checkpoint, load_encoder, random_state, read_checkpoint, save_encoder, set_random_state, write_atomically
from conftest import Do, same, state, tiny_learner, write_images

# --- an encoder

@pytest.mark.parametrize('arch, kwargs', [('tiny', {}), ('tiny', dict(in_chans=1)), ('resnet18', dict(small=True)), ('resnet18', dict(small=False)),
    ('vit_tiny_patch16_224', dict(size=32)), ('torchvision.shufflenet_v2_x0_5', {})])
def test_an_encoder_comes_back_as_it_went(arch, kwargs, tmp_path):
    encoder = create_encoder(arch, **kwargs)
    for p in encoder.buffers(): p.random_(1, 5) if p.is_floating_point() else None
    f = save_encoder(tmp_path/'deep'/'e', encoder, encoder.recipe['arch'], 32, note='what I did')
    assert sorted(o.name for o in f.parent.iterdir())==['e.json', 'e.safetensors']
    for path in f, f.with_suffix(''), f.with_suffix('.json'):
        back = load_encoder(path)
        assert same(state(back), state(encoder)) and not back.training
    x = torch.randn(2, kwargs.get('in_chans', 3), 32, 32)
    with torch.no_grad(): assert torch.equal(back(x), encoder.eval()(x))
    assert back.info['note']=='what I did' and back.info['size']==32 and back.info['n_features']==encoder.n_features
    assert back.info['mean']==pytest.approx([.485, .456, .406]) and back.info['std']==pytest.approx([.229, .224, .225]) and 'torch' in back.info['versions']

def test_weights_that_the_card_was_not_written_for_are_refused(tmp_path):
    first,second = (TinyResNet(width=8) for _ in range(2))
    f,other = (save_encoder(tmp_path/n, o, 'tiny', 32) for n,o in dict(a=first, b=second).items())
    whole = f.read_bytes()
    for content in other.read_bytes(), whole[:-1]+bytes([whole[-1]^1]):
        f.write_bytes(content)
        with pytest.raises(UserError, match='does not hold the weights that its card was written for'): load_encoder(f, TinyResNet(width=8))
    f.write_bytes(whole)
    assert same(state(load_encoder(f, TinyResNet(width=8))), state(first))

def test_a_kill_between_weights_and_card_is_noticed_afterwards(tmp_path, monkeypatch):
    save_encoder(tmp_path/'e', TinyResNet(width=8), 'tiny', 32)
    def killed(path, write, keep=None):
        if path.suffix=='.json': raise KeyboardInterrupt
        write_atomically(path, write, keep)
    with monkeypatch.context() as m, pytest.raises(KeyboardInterrupt):
        m.setattr('byol_fastai.saving.write_atomically', killed)
        save_encoder(tmp_path/'e', TinyResNet(width=8), 'tiny', 32)
    with pytest.raises(UserError, match='killed in between'): load_encoder(tmp_path/'e', TinyResNet(width=8))

def test_a_card_from_before_there_were_checksums_is_believed(tmp_path):
    f = save_encoder(tmp_path/'e', encoder := create_encoder('tiny'), 'tiny', 32).with_suffix('.json')
    card = json.loads(f.read_text())
    assert len(card.pop('sha256'))==64 and 'sha256' not in load_encoder(f).info
    f.write_text(json.dumps(card))
    assert same(state(load_encoder(f)), state(encoder))

HUGE = [dict(arch='vit_giant_patch14_224'), dict(arch='tiny', width=4096), dict(arch='tiny', width=100_000), dict(arch='resnet152'), dict(arch='tiny', stages=10**9), dict(arch='tiny', stages=40),
    dict(arch='vit_tiny_patch16_224', depth=10**9), dict(arch='vit_tiny_patch16_224', depth=60_000), dict(arch='vit_tiny_patch16_224', img_size=10**5), dict(arch='resnet18', layers=[10**9, 1, 1, 1]),
    dict(arch='torchvision.regnet_y_128gf'), dict(arch='torchvision.resnet18', num_classes=60_000, small=True), dict(arch='torchvision.resnet18', num_classes=10**9)]

@pytest.mark.parametrize('recipe', HUGE, ids=str)
def test_a_card_that_names_a_huge_network_takes_no_memory(recipe, tmp_path, monkeypatch):
    f = save_encoder(tmp_path/'e', create_encoder('tiny'), 'tiny', 32).with_suffix('.json')
    f.write_text(json.dumps(json.loads(f.read_text()) | dict(arch=recipe['arch'], recipe=recipe)))
    built = []
    def watched(*args, **kwargs): built.append(torch.empty(0).device.type); return create_encoder(*args, **kwargs)
    monkeypatch.setattr('byol_fastai.saving.create_encoder', watched)
    with pytest.raises(UserError, match='asks for a network of'): load_encoder(f)
    assert set(built)<={'meta'} or 'regnet' in recipe['arch'], 'that one cannot be drawn, and is counted as it is made'

LIMITED = '''
import json, resource, sys, torch
from byol_fastai.errors import UserError
from byol_fastai.saving import load_encoder
used = int(next(o.split()[1] for o in open('/proc/self/status') if o.startswith('VmSize')))*1024
resource.setrlimit(resource.RLIMIT_AS, (used+2**29+2**28,)*2)
card = json.load(open('e.json'))
load_encoder('e')
for recipe in json.loads(sys.argv[1]):
    with open('e.json', 'w') as f: json.dump(card | dict(arch=recipe['arch'], recipe=recipe), f)
    try: load_encoder('e'); print('loaded', recipe)
    except UserError as e: assert 'asks for a network of' in str(e), e
'''

@pytest.mark.skipif(not os.path.exists('/proc/self/status'), reason='the size of a process on Linux')
def test_with_little_memory_the_same_sentence_comes(tmp_path):
    save_encoder(tmp_path/'e', create_encoder('tiny'), 'tiny', 32)
    done = subprocess.run([sys.executable, '-W', 'ignore', '-c', LIMITED, json.dumps([HUGE[i] for i in (0, 2, 4, 10)])], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode==0 and not done.stdout, done.stderr+done.stdout

def test_a_network_made_with_options_that_fetch_is_saved_without_them(tmp_path):
    encoder = create_encoder('tiny')
    encoder.recipe |= dict(weights='DEFAULT', checkpoint_path='elsewhere.pth')
    assert same(state(load_encoder(save_encoder(tmp_path/'e', encoder, 'tiny', 32))), state(encoder))

def test_a_name_with_a_dot_is_not_cut_short(tmp_path):
    for name in ('v1.0', 'v1.1'): save_encoder(tmp_path/name, TinyResNet(), 'tiny', 32, name=name)
    assert load_encoder(tmp_path/'v1.0').info['name']=='v1.0'

def test_a_module_of_ones_own_is_filled_and_without_it_a_sentence_asks_for_it(tmp_path):
    encoder = TinyResNet(width=10)
    save_encoder(tmp_path/'e', encoder, 'mine', 32)
    assert same(state(load_encoder(tmp_path/'e', TinyResNet(width=10))), state(encoder))
    with pytest.raises(UserError, match=r"(?s)'mine' .*your own.*load_encoder\(path, "): load_encoder(tmp_path/'e')

def test_loading_an_encoder_runs_no_pickled_code(tmp_path, monkeypatch):
    f = save_encoder(tmp_path/'e', TinyResNet(), 'tiny', 32)
    def refuse(*args, **kwargs): raise AssertionError('something was unpickled')
    for o in (pickle, 'load'),(pickle, 'loads'),(pickle, 'Unpickler'),(torch, 'load'): monkeypatch.setattr(*o, refuse)
    load_encoder(f)

@pytest.mark.parametrize('change', [dict(arch='hf_hub:someone/network'), dict(arch='local-dir:/tmp'), dict(pretrained=True), dict(arch='torchvision.resnet18', weights='DEFAULT'), dict(checkpoint_path='x.pth'), dict(pretrained_cfg=dict(url='http://x'))], ids=str)
def test_a_card_that_would_fetch_or_read_something_else_is_refused(change, tmp_path, monkeypatch):
    import socket
    save_encoder(tmp_path/'e', create_encoder('tiny'), 'tiny', 32)
    card = json.loads((tmp_path/'e.json').read_text())
    (tmp_path/'e.json').write_text(json.dumps(card | dict(recipe=dict(arch='resnet18') | change)))
    def no(*args, **kwargs): raise AssertionError('a socket was opened')
    monkeypatch.setattr(socket, 'socket', no)
    with pytest.raises(UserError, match='from elsewhere'): load_encoder(tmp_path/'e')

def test_what_is_missing_is_named_in_a_sentence(tmp_path):
    f = save_encoder(tmp_path/'e', TinyResNet(), 'tiny', 32)
    (tmp_path/'e.json').unlink()
    with pytest.raises(FileNotFoundError, match=r'There is no .*e\.json: an encoder is two files, e\.safetensors and e\.json, side by side'): load_encoder(f)
    with pytest.raises(FileNotFoundError, match='There is no .*nothing.safetensors'): load_encoder(tmp_path/'nothing')

@pytest.mark.parametrize('name, content', [('e.json', b''), ('e.json', b'{"arch": '), ('e.json', b'\xff\xfe\x00'), ('e.json', b'[1, 2]'), ('e.json', b'{"size": 3}'),
    ('e.safetensors', b''), ('e.safetensors', b'\x08\0\0\0\0\0\0\0{"a": 1}'), ('e.safetensors', pickle.dumps(print))])
def test_what_is_damaged_is_named_in_a_sentence(name, content, tmp_path):
    save_encoder(tmp_path/'e', TinyResNet(), 'tiny', 32)
    (tmp_path/name).write_bytes(content)
    with pytest.raises(UserError, match=r'e\.(json|safetensors)'): load_encoder(tmp_path/'e')

def test_weights_of_another_network_are_named_in_a_sentence(tmp_path):
    save_encoder(tmp_path/'e', TinyResNet(), 'tiny', 32)
    with pytest.raises(UserError, match='cannot be read as an encoder'): load_encoder(tmp_path/'e', nn.Linear(2, 2))

def test_weights_fit_timm_torchvision_and_the_body_of_a_vision_learner(tmp_path):
    f = save_encoder(tmp_path/'e', create_encoder('resnet18', size=128), 'resnet18', 128)
    timm.create_model('resnet18', num_classes=0).load_state_dict(load_file(f))
    assert torchvision.models.resnet18().load_state_dict(load_file(f), strict=False).missing_keys==['fc.weight', 'fc.bias']
    body,encoder,x = create_body(torchvision.models.resnet18(), cut=-2),load_encoder(f),torch.randn(2, 3, 64, 64)
    body.load_state_dict(dict(zip(body.state_dict(), encoder.state_dict().values())))
    with torch.no_grad(): torch.testing.assert_close(body.eval()(x).mean((2, 3)), encoder(x), rtol=1e-4, atol=1e-5)

# --- files

def test_an_interrupted_write_leaves_the_old_file_and_nothing_beside_it(tmp_path):
    f = tmp_path/'f.txt'
    write_atomically(f, lambda o: o.write_text('old'))
    def broken(o): o.write_text('half'); raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt): write_atomically(f, broken)
    assert f.read_text()=='old'
    write_atomically(f, lambda o: o.write_text('new'))
    assert f.read_text()=='new' and list(tmp_path.iterdir())==[f]

# --- a checkpoint

def fit(path, n_epoch=3, resume=None, cbs=(), minutes=10, **kwargs):
    set_seed(0)
    learn = tiny_learner(**{'arch': TinyResNet(width=8), **kwargs})
    with learn.no_bar(): learn.fit_byol(n_epoch, 2e-3, cbs=[Checkpoint(path, resume, minutes), *cbs], start_epoch=resume['epoch'] if resume else 0)
    return learn

@pytest.mark.parametrize('opt', ['adamw', 'sgd', 'lars'])
def test_a_fit_that_was_interrupted_ends_as_one_that_was_not_to_the_bit(opt, tmp_path):
    whole = fit(tmp_path/'whole', opt=opt)
    def stop(cb):
        if cb.training and cb.epoch==1 and cb.iter==1: raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt): fit(tmp_path/'cut', opt=opt, cbs=[Do(after_batch=stop, order=90)])
    parts = fit(tmp_path/'cut', opt=opt, resume=read_checkpoint(tmp_path/'cut'))
    assert same(state(parts.model), state(whole.model))
    a,b = (read_checkpoint(tmp_path/o)['history'] for o in ('whole', 'cut'))
    drop = lambda rows: [{k: v for k,v in row.items() if k!='time'} for row in rows]
    assert drop(a)==drop(b) and [row['epoch'] for row in a]==[0, 1, 2]

class Stop(Callback):
    order = 90
    def __init__(self, epoch, iter): self.at = epoch,iter
    def after_batch(self):
        if self.training and (self.epoch, self.iter)==self.at: raise KeyboardInterrupt

def rest(path):
    "All that a checkpoint says of the rest of the fit"
    c = read_checkpoint(path)
    return c['model'],[c['k'], c['step'], c['epoch'], c['batch'], c['random']['python'], c['random']['loader'], c['random']['torch'].tolist(), [{k: v for k,v in o.items() if k!='time'} for o in c['history']]]

@pytest.mark.parametrize('cuts', [[(0, 0)], [(0, 2), (0, 3), (2, 1)], [(1, 3), (2, 2)]], ids=str)
def test_a_fit_that_was_interrupted_within_an_epoch_ends_as_one_that_was_not_to_the_bit(cuts, tmp_path):
    whole = fit(tmp_path/'whole', n=96, guard=True)
    for epoch,i in cuts:
        resume = read_checkpoint(tmp_path/'cut') if (tmp_path/'cut').exists() else None
        with pytest.raises(KeyboardInterrupt): fit(tmp_path/'cut', n=96, guard=True, minutes=0, resume=resume, cbs=[Stop(epoch, i)])
    resume = read_checkpoint(tmp_path/'cut')
    assert (resume['epoch'], resume['batch'])==((epoch, i+1) if i<3 else (epoch, i)), 'the last batch of an epoch is followed by the checkpoint of the epoch'
    parts = fit(tmp_path/'cut', n=96, guard=True, resume=resume)
    assert same(state(parts.model), state(whole.model))
    (a,b),(c,d) = rest(tmp_path/'whole'),rest(tmp_path/'cut')
    assert same(a, c) and b==d

def test_what_is_left_of_a_pass_is_what_would_have_come_and_nothing_of_the_rest_is_read(tmp_path):
    dl = byol_dls(write_images(tmp_path/'photos', 24), bs=4, size=16, valid_pct=0, memory_gb=1e-9, workers=0).train
    was = dl.rng.getstate()
    every = [o[0].as_subclass(torch.Tensor) for o in dl]
    for workers in 0, 2:
        dl.fake_l.num_workers = workers
        dl.rng.setstate(was)
        told = []
        left = [o[0].as_subclass(torch.Tensor) for o in _Rest(dl, 4, lambda: told.append(1))]
        assert len(left)==len(every)-4==2 and all(torch.equal(a, b) for a,b in zip(left, every[4:])) and told==[1]
    read,dl.fake_l.num_workers = [],0
    real = type(dl.dataset).read
    dl.dataset.read = lambda i: read.append(i) or real(dl.dataset, i)
    dl.rng.setstate(was)
    assert len([*_Rest(dl, 4, lambda: None)])==2 and len(read)==8 and len([*dl])==6, 'the next pass is a whole one'

def test_there_is_no_checkpoint_in_the_middle_of_an_accumulated_step(tmp_path):
    seen = []
    look = Do(after_batch=lambda cb: cb.training and seen.append(read_checkpoint(tmp_path/'c')['batch'] if (tmp_path/'c').exists() else None), order=90)
    fit(tmp_path/'c', 1, n=96, minutes=0, cbs=[GradientAccumulation(32), look])
    assert seen==[None, 2, 2, 2], 'the last batch is followed by the checkpoint of the epoch'

def test_weights_that_are_no_numbers_are_never_written(tmp_path):
    def poison(cb):
        if cb.epoch==1: next(cb.model.encoder.parameters()).data.fill_(float('nan'))
    fit(tmp_path/'c', 3, minutes=0, cbs=[Do(before_train=poison)])
    assert read_checkpoint(tmp_path/'c')['epoch']==1

def test_a_file_that_is_replaced_is_kept_and_comes_back_where_the_new_one_cannot_take_its_place(tmp_path, monkeypatch):
    f,old = tmp_path/'f',tmp_path/'f.previous'
    f.write_text('one')
    write_atomically(f, lambda o: o.write_text('two'), old)
    assert (f.read_text(), old.read_text())==('two', 'one')
    real = os.replace
    def full(a, b):
        if str(a).endswith('.part'): raise OSError(28, 'No space left on device')
        real(a, b)
    monkeypatch.setattr(os, 'replace', full)
    with pytest.raises(OSError): write_atomically(f, lambda o: o.write_text('three'), old)
    assert f.read_text()=='two' and [o.name for o in tmp_path.iterdir()]==['f']

def test_a_checkpoint_holds_tensors_and_values_but_no_code(tmp_path):
    fit(tmp_path/'c', 1)
    o = torch.load(tmp_path/'c', weights_only=True)
    assert {'model', 'opt', 'epoch', 'random', 'history'} <= set(o) and o['epoch']==1 and any(k.startswith('target.') for k in o['model'])

@pytest.mark.parametrize('content', [b'', b'no checkpoint', pickle.dumps(dict(epoch=1))])
def test_a_damaged_checkpoint_is_named_in_a_sentence(content, tmp_path):
    (tmp_path/'c').write_bytes(content)
    with pytest.raises(UserError, match='The checkpoint .* is damaged'): read_checkpoint(tmp_path/'c')
    with pytest.raises(FileNotFoundError, match='There is no checkpoint'): read_checkpoint(tmp_path/'nothing')

def test_a_checkpoint_of_another_network_is_named_in_a_sentence(tmp_path):
    fit(tmp_path/'c', 1)
    with pytest.raises(UserError, match='another network'): fit(tmp_path/'c', 2, resume=read_checkpoint(tmp_path/'c'), arch=TinyResNet(width=10))

def test_random_numbers_go_on_where_they_were():
    import random, numpy as np
    dl = tiny_learner().dls.train
    draw = lambda: (random.random(), np.random.rand(), torch.rand(1).item(), dl.rng.random())
    was = random_state(dl)
    one = draw()
    set_random_state(was, dl)
    assert draw()==one

def test_the_generator_of_every_device_is_kept_and_one_that_has_gone_is_left_alone(monkeypatch):
    class Device: # stands for an accelerator that this computer lacks
        now = torch.arange(3)
        is_available = staticmethod(lambda: True)
        get_rng_state_all = staticmethod(lambda: [Device.now])
        @staticmethod
        def set_rng_state_all(states): Device.now = states[0]
    dl = tiny_learner().dls.train
    monkeypatch.setattr(torch, 'xpu', Device, raising=False)
    was = random_state(dl)
    Device.now = torch.zeros(3)
    set_random_state(was, dl)
    assert Device.now.tolist()==[0, 1, 2]
    set_random_state({**was, 'devices': {}}, dl)
    assert Device.now.tolist()==[0, 1, 2]
