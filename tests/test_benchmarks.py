"Every benchmark runs from end to end at a tiny size, without the peers, and writes its figures where the ledger has them"
import importlib, json, sys
from functools import partial
import numpy as np, pytest, torch
from PIL import Image
from byol_fastai import course
from byol_fastai.all import BYOLLoss, linear_probe, make_shapes
from conftest import same, tiny_learner, write_images

def program(name):
    "The module `benchmarks/name.py`"
    return importlib.import_module(name)

@pytest.fixture(autouse=True)
def bench(tmp_path, monkeypatch):
    "Run `benchmarks/name.py` without peers and get its figures, out of a ledger of its own"
    monkeypatch.setattr(course, 'RESULTS', tmp_path/'ledger')
    monkeypatch.setattr(program('timing'), 'find_spec', lambda name: None)
    def run(name, options, file=None):
        monkeypatch.setattr(sys, 'argv', [f'{name}.py', *options.split()])
        program(name).main(options.split())
        path = tmp_path/'ledger'/f'{file or name}.json'
        return json.loads(path.read_text())['figures'] if path.exists() else None
    threads = torch.get_num_threads()
    yield run
    program('timing').set_threads(threads)

def test_everybody_takes_a_turn_in_each_round_and_the_first_does_not_count():
    timing, calls = program('timing'), []
    times = timing.interleaved({o: partial(calls.append, o) for o in 'abc'}, 20)
    rounds = [''.join(calls[i:i+3]) for i in range(0, len(calls), 3)]
    assert all(sorted(o)==['a', 'b', 'c'] for o in rounds) and len(rounds)==21 and len(set(rounds))>2
    assert {k: len(o) for k,o in times.items()}==dict(a=20, b=20, c=20)
    times = dict(ours=[1., 2., 4.], theirs=[3., 4., 100.])
    assert timing.medians(times)==dict(ours=2., theirs=4.) and timing.ratio(times, 'theirs', 'ours')==3.

def test_a_slope_is_the_exponent():
    slope = program('timing').slope
    assert slope([1, 2, 4], [3, 6, 12])==1 and slope([1, 2, 4], [3, 12, 48])==2

def test_views(bench, capsys):
    figures = bench('views', '--n 8 --size 16 --repeats 1')
    assert {'batchview', 'albumentations', 'torchvision_v2'} <= set(figures) and 'kornia_slice' not in figures
    assert set(figures['ratio'])==set(figures['second']['ratio'])=={'albumentations', 'torchvision_v2', 'torchvision_v2_pil'}
    assert 'Not installed, so left out: kornia.' in capsys.readouterr().out

def test_the_torchvision_pipelines_make_what_batchview_makes():
    "In the mean over many views; with cubic interpolation, uint8 steps and other borders between them"
    views, x = program('views'), make_shapes(512, 32)[0] # albumentations draws from a stream that no seed of ours reaches
    for policy in views.byol_policies(32):
        made = {k: job() for k,job in views.jobs(policy, x, {}).items()}
        for o in made.values():
            assert o.shape==(512, 3, 32, 32) and o.dtype==torch.float32
            assert (o.mean((0, 2, 3))-made['batchview'].mean((0, 2, 3))).abs().max()<.25 and (o.std()-made['batchview'].std()).abs()<.2

def test_throughput(bench, monkeypatch):
    monkeypatch.setattr(torch.cpu, 'get_capabilities', dict, raising=False)
    figures = bench('throughput', '--n 32 --overhead-n 32 --bs 16 --size 16 --repeats 1 --threads 1 --workers 0 --widths 8 4')
    assert set(figures['images_per_second'])=={'byol_fastai', 'ceiling', 'albumentations', 'torchvision_v2'}
    assert set(figures['ratio'])=={'ceiling', 'albumentations', 'torchvision_v2'} and isinstance(figures['learner_overhead'], float)
    assert set(figures['width_4'])=={'images_per_second', 'ratio', 'learner_overhead'}

@pytest.mark.parametrize('bf16', [False, True])
def test_a_cpu_with_bfloat16_is_measured_with_it_as_well(bench, monkeypatch, bf16):
    monkeypatch.setattr(torch.cpu, 'get_capabilities', lambda: dict(avx512_bf16=bf16), raising=False)
    figures = bench('throughput', '--n 32 --overhead-n 32 --bs 16 --size 16 --repeats 1 --threads 1 --workers 0 --widths 4')
    assert ('bfloat16' in figures)==bf16
    if not bf16: return
    half = figures['bfloat16']
    assert set(half['ratio'])==set(figures['ratio'])=={'ceiling', 'albumentations', 'torchvision_v2'}
    assert half['images_per_second']['albumentations']==figures['images_per_second']['albumentations']
    assert half['images_per_second']['byol_fastai']!=figures['images_per_second']['byol_fastai']

@pytest.mark.parametrize('bf16', [False, True])
def test_switches(bench, monkeypatch, bf16):
    monkeypatch.setattr(program('switches').shutil, 'which', lambda name: None)
    monkeypatch.setattr(torch.cpu, 'get_capabilities', lambda: dict(avx512_bf16=bf16), raising=False)
    figures = bench('switches', '--n 32 --bs 16 --size 16 --repeats 1 --threads 1 --widths 4')['width_4']
    parts = {'optimizer not fused', 'channels not last'} | ({'bfloat16'} if bf16 else set())
    assert set(figures['ratio'])==parts and set(figures)=={'as it comes', 'ratio'} | parts

def test_each_loader_is_judged_by_its_best_number_of_workers():
    best,chosen = program('throughput').best_workers({'us': [2.], 'x/0': [5., 5., 1.], 'x/2': [3., 3., 9.], 'y/0': [1.], 'y/2': [4.]})
    assert best=={'us': [2.], 'x': [3., 3., 9.], 'y': [1.]} and chosen=={'x': 2, 'y': 0}

def test_the_bare_loop_makes_the_step_of_the_learner():
    throughput = program('throughput')
    task = throughput.Task(make_shapes(16, 16)[0], bs=16, n_hidden=16, n_proj=8)
    learn,model = throughput.learner(task, schedule='constant'),task.networks()
    assert same(learn.model.encoder.state_dict(), model.encoder.state_dict())
    model.load_state_dict(learn.model.state_dict())
    x,views = next(task.clean()),[throughput.BatchView(o) for o in task.policies]
    v1,v2 = (o(x) for o in views)
    throughput.step(task, model, throughput.byol_optimizer(throughput.byol_splitter(model), throughput.LR).opt, v1, v2)
    learn.ema_target.tau = throughput.TAU
    learn.two_views.view1,learn.two_views.view2 = (lambda x: v1),(lambda x: v2)
    with learn.no_bar(), learn.no_logging(): learn.fit(1, throughput.LR)
    assert learn.train_iter==1
    for k,o in model.state_dict().items(): torch.testing.assert_close(o, learn.model.state_dict()[k], msg=k)

def test_the_parts_of_a_step_add_up_to_it(bench):
    figures = bench('step_profile', '--n 64 --bs 16 --size 16 --epochs 1 --threads 1')
    parts = {k: o for k,o in figures.items() if k!='step'}
    assert set(parts)==set(program('step_profile').PARTS) and all(o>0 for o in parts.values())
    assert sum(parts.values())==pytest.approx(figures['step'], rel=.3), 'medians of the parts'

def test_scaling(bench):
    figures = bench('scaling', '--images 32 64 --batches 16 32 --bs 16 --epochs 2 --repeats 1 --threads 1')
    assert set(figures['images']['seconds'])=={'32', '64'} and set(figures['batch']['milliseconds'])=={'16', '32'} and set(figures['epochs']['megabytes'])=={'1', '2'}

def test_knn(bench):
    figures = bench('knn', '--bank 2000 --queries 40 --features 8 --k 5 --threads 1')
    assert set(figures)=={'10', '40'} and all(o['seconds']>=0 for o in figures.values())

def test_photos(bench, tmp_path, capsys):
    write_images(tmp_path/'photos', 12)
    figures = bench('photos', f"{tmp_path/'photos'} --size 16 --bs 4 --repeats 1 --threads 1 --workers 0")
    assert set(figures['images_per_second'])=={'files', 'cached', 'fastai'} and set(figures['ratio'])=={'files', 'cached'}

def test_photos_that_are_not_there_are_a_sentence(bench, tmp_path, capsys):
    assert bench('photos', str(tmp_path/'nothing')) is None
    assert 'nothing was measured' in capsys.readouterr().out

def test_ours_and_fastai_hand_out_the_same_images(tmp_path):
    photos = program('photos')
    for i,o in enumerate(make_shapes(6, 40)[0]): Image.fromarray(o.permute(1, 2, 0).numpy()).save(tmp_path/f'{i}.png')
    data = photos.load_source(tmp_path, 16, memory_gb=0).train
    a,b = (torch.cat([x.as_subclass(torch.Tensor) for x,_ in o]) for o in (photos.ours(data, 6), photos.fastais(data, 6, 0)))
    a,b = (o[o.mean((1, 2, 3)).argsort()] for o in (a, b))
    assert a.shape==b.shape and (a-b).abs().mean()<.02, 'bicubic and bilinear'

# --- all in one call, as on a GPU

@pytest.fixture
def npz(tmp_path):
    (x,y),(xt,yt) = make_shapes(64, 32),make_shapes(40, 32, seed=1)
    def images(x): return x.permute(0, 2, 3, 1).numpy()
    np.savez(tmp_path/'data.npz', x_train=images(x), y_train=y.numpy(), x_test=images(xt), y_test=yt.numpy())
    return tmp_path/'data.npz'

def options(npz, out, more=''): return f'--data {npz} --device cpu --arch tiny --n-hidden 16 --n-proj 8 --bs 16 --repeats 1 --workers 0 --commit 0123456 --out {out} {more}'

def test_gpu(bench, npz, tmp_path):
    out = tmp_path/'out'
    bench('gpu', options(npz, out, '--minutes .02'))
    entry = json.loads((out/'gpu.json').read_text())
    assert set(entry['figures'])=={'checks', 'timings', 'training', 'probes'} and entry['commit']
    assert set(entry['figures']['timings'])=={'views', 'throughput', 'step_profile', 'switches'} and entry['config']['epochs']>=1
    figures = json.loads((out/'cifar10_gpu.json').read_text())['figures']
    assert {'knn', 'linear'}==set(figures['byol'])==set(figures['random']) and figures['epochs']==figures['of']

def test_gpu_goes_on_where_it_was_stopped(bench, npz, tmp_path, monkeypatch):
    gpu,ends = program('gpu'),{}
    monkeypatch.setattr(gpu.Sometimes, 'every', 0)
    monkeypatch.setattr(gpu, 'save_encoder', lambda path, encoder, *args, **kwargs: ends.update({path.parent.name: encoder.state_dict()}))
    bench('gpu', options(npz, tmp_path/'whole', '--epochs 3 --train-only'))
    keep = gpu.Report.keep
    def stop(self, stage, figures):
        keep(self, stage, figures)
        if figures.get('epochs')==2: raise KeyboardInterrupt
    monkeypatch.setattr(gpu.Report, 'keep', stop)
    with pytest.raises(KeyboardInterrupt): bench('gpu', options(npz, tmp_path/'parts', '--epochs 3 --train-only'))
    monkeypatch.setattr(gpu.Report, 'keep', keep)
    for _ in range(2): # the second time there is nothing left to train
        bench('gpu', f"--out {tmp_path/'parts'} --resume --train-only")
        assert same(ends['whole'], ends.pop('parts'))
    figures = [json.loads((tmp_path/o/'cifar10_gpu.json').read_text())['figures'] for o in ('whole', 'parts')]
    assert figures[0]['byol']==figures[1]['byol'] and figures[0]['epochs']==figures[1]['epochs']==3

def test_gpu_does_not_write_over_what_it_has_measured(bench, npz, tmp_path, capsys):
    (tmp_path/'gpu.json').write_text('{}')
    with pytest.raises(SystemExit): bench('gpu', options(npz, tmp_path))
    assert 'go on with --resume' in capsys.readouterr().err

def test_a_wrong_result_is_noticed():
    gpu = program('gpu')
    assert gpu.wrong(gpu.checks('cpu'))=={} and set(gpu.wrong(dict(loss=float('nan'), hue=.1, ema=1e-6)))=={'loss', 'hue'}

def test_two_of_many_views_are_byol(bench):
    gpu = program('gpu')
    learn = tiny_learner()
    many = gpu.ManyViews(learn.model.encoder, 16, 8)
    many.load_state_dict(learn.model.state_dict())
    v = [torch.randn(16, 3, 16, 16) for _ in range(3)]
    a,b = (loss(m(*v[:2]), *m.targets(*v[:2])) for m,loss in ((learn.model, BYOLLoss()), (many, gpu.ManyViewsLoss())))
    torch.testing.assert_close(a, b)
    z1,z2,z3 = (torch.nn.functional.normalize(many.target(o), dim=1) for o in v)
    torch.testing.assert_close(many.targets(*v)[0], (z2+z3)/2)

def test_gpu_trains_with_many_views(bench, npz, tmp_path):
    bench('gpu', options(npz, tmp_path/'out', '--views 3 --epochs 1 --train-only'))
    assert (tmp_path/'out'/'cifar10_gpu.json').exists()

def test_logistic_regression_on_the_device_is_that_of_the_linear_probe():
    g = torch.Generator().manual_seed(0)
    def data(n): return (lambda y: (torch.randn(n, 6, generator=g)+.8*torch.nn.functional.one_hot(y, 6), y))(torch.randint(4, (n,), generator=g))
    train,test = data(300),data(500)
    assert program('gpu').logistic_regression(train, test)==pytest.approx(linear_probe(train, test), abs=.005)
