"Two processes on the CPU, as on two GPUs: the same networks to the bit, views of their own, and the gradients of one process on the whole batch"
import contextlib, importlib, json, os, re, shlex, shutil, subprocess, sys
from functools import partial
from pathlib import Path
import nbformat, pytest, torch
from hypothesis import given, strategies as st
from torch import nn
from fastai.vision.all import Callback, DataLoader, Learner, OptimWrapper, ProgressCallback, rank_distrib, set_seed
from byol_fastai.collapse import CollapseGuard, EffectiveRank, FeatureStd
from byol_fastai.data import byol_dls, labelled_dls
from byol_fastai.ema import EMATarget
from byol_fastai.evaluate import KNNProbe
from byol_fastai.learner import byol_learner
from byol_fastai.loss import BYOLLoss
from byol_fastai.model import BYOL, TinyResNet
from byol_fastai.saving import Checkpoint
from byol_fastai.scale import PartNorm, Share, apart, distributed, part_norms, start_process
from byol_fastai.views import TwoViews
from byol_fastai import course, scale
from conftest import write_images

class Watch(Callback):
    "What the first step saw, and the gradients it made"
    order,run_valid = TwoViews.order+1,False
    def before_fit(self): self.views,self.images,self.grads,self.pair = [],[],None,None
    def before_batch(self):
        self.views.append(self.xb[0].clone())
        self.pair = self.pair or [o.clone() for o in self.xb]
    def before_step(self): self.grads = self.grads or [p.grad.clone() for p in self.model.parameters() if p.grad is not None]

def quiet(learn):
    learn.remove_cbs([cb for cb in learn.cbs if isinstance(cb, ProgressCallback)])
    learn.logger = lambda row: None
    return learn

class NoNorm(nn.Module):
    "An encoder without BatchNorm, whose answer for an image does not depend on the others of its batch"
    n_features = 8
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(3, 8, 3, 4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    def forward(self, x): return self.net(x)

def plain_learner(bs):
    "A learner in which neither chance nor the rest of the batch has a say, so that the size of the batch can be halved in each of two processes"
    set_seed(0)
    dls = byol_dls('shapes', bs=bs, n=80, size=16, device='cpu')
    model = BYOL(NoNorm(), 16, 8)
    for head in (model.projector, model.predictor, model.target[1]): head[1] = nn.Identity()
    return quiet(Learner(dls, model, BYOLLoss(), opt_func=partial(OptimWrapper, opt=torch.optim.SGD), metrics=[FeatureStd()], lr=.1,
        splitter=lambda m: [p for p in m.parameters() if p.requires_grad], cbs=[TwoViews(lambda x: x.as_subclass(torch.Tensor), lambda x: x.as_subclass(torch.Tensor).flip(-1)), EMATarget(.9), Watch()]))

def whole_learner():
    "The usual learner, with everything that looks at it"
    set_seed(0)
    dls,labelled = byol_dls('shapes', bs=16, n=80, size=16, device='cpu'),labelled_dls('shapes', n=60, size=16, device='cpu')
    return quiet(byol_learner(dls, TinyResNet(width=8), n_hidden=16, n_proj=8, opt='adamw', guard=False, metrics=[FeatureStd(), EffectiveRank()],
        cbs=[CollapseGuard(grace=0, every=1, min_std=0), KNNProbe(labelled.train, labelled.valid), Watch()]))

def outcome(learn):
    return dict(state={k: v.clone() for k,v in learn.model.state_dict().items()}, views=learn.watch.views, grads=learn.watch.grads, pair=learn.watch.pair,
        record=[float(o) for o in learn.final_record], taus=list(learn.ema_target.taus))

def in_one_of_two_processes(out):
    "What each process does; its findings go into a file"
    start_process()
    torch.set_num_threads(1)
    found = {}
    plain = plain_learner(8)
    class Keep(Callback):
        "The checkpoint of the first epoch"
        order = Checkpoint.order+1
        def after_epoch(self):
            if not self.epoch and not rank_distrib(): shutil.copy(Path(out)/'checkpoint', Path(out)/'half')
    with distributed(plain): plain.fit(2, cbs=[Checkpoint(Path(out)/'checkpoint'), Keep()])
    found['plain'] = outcome(plain)
    whole = whole_learner()
    model,loaders = whole.model,list(whole.dls.loaders)
    with distributed(whole): whole.fit_byol(2)
    found['whole'] = outcome(whole) | dict(stds=whole.collapse_guard.stds, left=(whole.model is model, list(whole.dls.loaders)==loaders, torch.rand(1).item()))
    stopped = whole_learner()
    stopped.collapse_guard.min_std = 99
    with distributed(stopped): stopped.fit_byol(2)
    found['stopped'] = stopped.collapse_guard.message
    class Interrupt(Callback):
        def after_step(self): raise KeyboardInterrupt
    broken = whole_learner()
    kept = broken.model,list(broken.dls.loaders),list(broken.cbs)
    try:
        with distributed(broken), broken.added_cbs(Interrupt()): broken.fit_byol(1)
    except KeyboardInterrupt: found['interrupted'] = kept==(broken.model, list(broken.dls.loaders), list(broken.cbs))
    few = whole_learner()
    few.dls.loaders[0].bs = 64
    try:
        with distributed(few): pass
    except ValueError as e: found['few'] = str(e)
    torch.save(found, Path(out)/f'{rank_distrib()}.pt')

if __name__=='__main__': in_one_of_two_processes(sys.argv[1])

@pytest.fixture(scope='module')
def two(tmp_path_factory):
    out = tmp_path_factory.mktemp('two')
    env = os.environ | dict(CUDA_VISIBLE_DEVICES='', OMP_NUM_THREADS='1', MPLBACKEND='Agg', PYTHONWARNINGS='ignore')
    command = [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc-per-node=2', __file__, str(out)]
    res = subprocess.run(command, env=env, capture_output=True, text=True, timeout=240, cwd=out)
    assert res.returncode==0, res.stderr[-3000:]
    return [torch.load(out/f'{i}.pt', weights_only=False) | dict(half=out/'half') for i in range(2)]

def same(a, b): return a.keys()==b.keys() and all(torch.equal(a[k], b[k]) for k in a)

@pytest.mark.parametrize('name', ['plain', 'whole'])
def test_both_processes_end_with_the_same_networks_to_the_bit(two, name):
    a,b = (o[name] for o in two)
    assert any(k.startswith('target.') for k in a['state']) and same(a['state'], b['state']), 'weights and statistics, online and target'
    assert a['taus']==b['taus'] and a['record'][1:-1]==b['record'][1:-1]

def test_gradients_and_weights_are_those_of_one_process_on_the_whole_batch(two):
    one = plain_learner(16)
    one.fit(2)
    a,b = (o['plain'] for o in two)
    for got,want in zip(a['grads'], one.watch.grads): torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-7)
    for k,want in one.model.state_dict().items(): torch.testing.assert_close(a['state'][k], want, rtol=1e-4, atol=1e-6)
    assert a['taus']==list(one.ema_target.taus)
    for va,vb,v in zip(a['views'], b['views'], one.watch.views): assert torch.equal(torch.cat([va, vb]), v), 'together they saw the batch of one process'
    assert a['record'] == pytest.approx([float(o) for o in one.final_record], rel=1e-4)

def test_each_process_has_views_of_its_own(two):
    a,b = (o['whole']['views'] for o in two)
    assert len(a)==len(b)>2 and not any(torch.equal(x, y) for x,y in zip(a, b))

def test_probe_metrics_and_guard_speak_for_all(two):
    a,b = (o['whole'] for o in two)
    assert len(a['record'])==5 and a['record']==b['record'] and a['stds']==b['stds'] and len(a['stds'])>2
    assert 'Collapse at step' in two[0]['stopped'] and two[0]['stopped']==two[1]['stopped']

def test_the_learner_is_left_as_it_was_and_the_streams_of_random_numbers_together(two):
    (model,loaders,a),(_,_,b) = (o['whole']['left'] for o in two)
    assert model and loaders and a==b
    assert all(o['interrupted'] for o in two), 'after Ctrl-C too'

def test_what_two_processes_began_one_brings_to_the_same_end(two):
    state = Checkpoint.read(two[0]['half'])
    one = plain_learner(16)
    one.fit(2, cbs=Checkpoint(two[0]['half'].with_name('one'), state), start_epoch=state['epoch'])
    assert state['epoch']==1 and one.ema_target.k==2*state['k']
    for k,want in one.model.state_dict().items(): torch.testing.assert_close(two[0]['plain']['state'][k], want, rtol=1e-4, atol=1e-6)

def test_parts_of_a_batch_in_one_process_have_the_gradients_of_two(two):
    model = part_norms(whole_learner().model, 2).train()
    v1,v2 = (torch.cat(o) for o in zip(*(o['whole']['pair'] for o in two)))
    BYOLLoss()(model(v1, v2), *model.targets(v1, v2)).backward()
    grads = [p.grad for p in model.parameters() if p.grad is not None]
    assert len(grads)==len(two[0]['whole']['grads'])
    for got,want in zip(two[0]['whole']['grads'], grads): torch.testing.assert_close(got, want, rtol=1e-3, atol=1e-6)

def test_a_norm_of_parts_is_a_norm_for_each_and_learns_as_much_as_one():
    x,plain = torch.randn(12, 5),nn.BatchNorm1d(5)
    parts = part_norms(nn.Sequential(nn.BatchNorm1d(5)), 3)
    assert isinstance(parts[0], PartNorm)
    torch.testing.assert_close(parts(x), torch.cat([plain(o) for o in x.chunk(3)]))
    assert (1-parts[0].norm.momentum)**3==pytest.approx(.9)
    torch.testing.assert_close(parts.eval()(x), parts[0].norm(x))
    with pytest.raises(ValueError, match='at least one device'): part_norms(parts, 0)

class Stream(torch.utils.data.IterableDataset):
    def __iter__(self): return iter(range(1000))

def test_a_stream_is_left_to_cut_itself_and_its_pass_is_shorter():
    dl = scale._shared(DataLoader(Stream(), bs=4, n=40), 1, 2)
    assert len(dl)==5 and torch.cat([*dl]).tolist()==[*range(20)]

def test_the_launchers_understand_the_command_lines_of_the_lesson():
    from torch.distributed.run import get_args_parser
    launchers = dict(torchrun=get_args_parser().parse_args)
    with contextlib.suppress(ImportError):
        from accelerate.commands.launch import launch_command_parser
        launchers['accelerate'] = launch_command_parser().parse_args
    text = '\n'.join(c.source for c in nbformat.read(Path(__file__).parents[1]/'nbs'/'15_scale.ipynb', 4).cells if c.cell_type=='markdown')
    lines = [shlex.split(o, comments=True) for block in re.findall(r'(?s)```bash\n(.*?)```', text) for o in block.splitlines()]
    found = [[o for o in words if '=' not in o or o.startswith('-')] for words in lines if words]
    assert len(found)>=5 and {o[0] for o in found}=={'torchrun', 'accelerate'}
    for name,*words in found:
        if name not in launchers: continue
        a = launchers[name](words[1:] if name=='accelerate' else words)
        assert a.training_script=='program.py' and not a.training_script_args

def test_too_few_images_for_a_batch_in_each_process_is_a_sentence(two):
    assert 'do not fill one batch of 64 in each of 2 processes' in two[0]['few']

@given(st.integers(1, 60), st.integers(1, 9), st.integers(1, 5), st.booleans())
def test_shares_hold_each_image_once_and_the_batches_of_one_process(n, bs, world, drop_last):
    dl = DataLoader(list(range(n)), bs=bs, drop_last=drop_last)
    parts = [Share(dl, r, world).part(list(range(n))) for r in range(world)]
    seen = sum(parts, [])
    assert len(set(seen))==len(seen) and len({len(o) for o in parts})==1
    assert n-len(seen) < (bs*world if drop_last else world)
    for k in range(n//(bs*world)):
        assert sum([p[k*bs:(k+1)*bs] for p in parts], [])==list(range(k*bs*world, (k+1)*bs*world))

def test_alone_nothing_is_changed():
    learn = plain_learner(16)
    model,state = learn.model,torch.get_rng_state()
    with distributed(learn): assert learn.model is model
    with apart(): pass
    assert start_process()==0 and learn.model is model and torch.equal(torch.get_rng_state(), state)

@pytest.mark.parametrize('args', [['--out', 'r'], ['evaluate', 'r']])
def test_the_programs_say_once_that_they_work_in_one_process_and_write_nothing(args, tmp_path):
    env = {k:v for k,v in os.environ.items() if k not in ('RANK', 'WORLD_SIZE')}
    res = subprocess.run([sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc-per-node=2', '-m', 'byol_fastai', *args], env=env, capture_output=True, text=True, timeout=240, cwd=tmp_path)
    assert res.returncode!=0 and res.stderr.count('trains in one process, and 2 were started')==1 and 'Lesson 15' in res.stderr
    assert not list(tmp_path.iterdir()) and 'epoch' not in res.stdout

# --- the benchmarks of the lesson

@pytest.fixture
def bench(tmp_path, monkeypatch):
    "Run a benchmark, and read its figures out of a ledger of its own"
    monkeypatch.setattr(course, 'RESULTS', tmp_path/'ledger')
    def run(name, options):
        importlib.import_module(name).main(options.split())
        path = tmp_path/'ledger'/f'{name}.json'
        return json.loads(path.read_text())['figures'] if path.exists() else None
    return run

@pytest.mark.filterwarnings('ignore::ResourceWarning', 'ignore::pytest.PytestUnraisableExceptionWarning') # webdataset leaves its tar files to the garbage collector
def test_photographs_come_out_of_shards_as_out_of_their_folder(bench, tmp_path):
    pytest.importorskip('webdataset')
    folder = write_images(tmp_path/'photos', 12, suffix='jpg')
    figures = bench('packing', f'{folder} --size 16 --per-shard 5 --repeats 1')
    assert set(figures['images_per_second'])=={'folder', 'folder, bytes only', 'shards', 'small shards', 'pixel shards', 'shards, bytes only'}
    assert figures['images_per_second'].keys()-{'folder'}==figures['ratio'].keys() and all(o>=0 for o in figures['megabytes'].values())
    packing,files = importlib.import_module('packing'),sorted(folder.glob('*.jpg'))
    for kind,read in (('shards', packing.from_shards), ('pixel shards', packing.from_pixels)):
        packing.pack(files, tmp_path/kind, kind, 16, 5)
        assert len([*(tmp_path/kind).glob('*.tar')])==3
        there,here = (sorted(o.tobytes() for o in images) for images in (read(tmp_path/kind, 16), packing.from_folder(files, 16)))
        assert there==here

def test_without_webdataset_the_folder_alone_is_measured(bench, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(importlib.import_module('timing'), 'find_spec', lambda name: None)
    figures = bench('packing', f"{write_images(tmp_path/'photos', 4, suffix='jpg')} --size 16 --repeats 1")
    assert set(figures['images_per_second'])=={'folder', 'folder, bytes only'} and 'webdataset' in capsys.readouterr().out

def test_photographs_to_pack_that_are_not_there_are_a_sentence(bench, tmp_path, capsys):
    assert bench('packing', str(tmp_path/'nothing')) is None and 'nothing was measured' in capsys.readouterr().out

def test_the_price_of_small_parts_is_measured(bench):
    runs = bench('devices', '--seeds 1 --n 80 --epochs 1')['runs']
    assert set(runs)=={'1', '8', '32'} and all(0<=o['0']['knn']<=1 for o in runs.values())
