"Every benchmark runs from end to end at a tiny size, without the peers, and writes its figures where the ledger has them"
import importlib, json, math, os, signal, sys, time, warnings
from dataclasses import replace
from functools import partial
from inspect import signature
from pathlib import Path
from types import SimpleNamespace
import numpy as np, pytest, torch
from PIL import Image
from byol_fastai import course
from byol_fastai.all import BYOLLoss, linear_probe, make_shapes
from conftest import Do, same, state, tiny_learner, write_images

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

def test_the_ledger_says_what_was_typed_and_not_where_the_files_went(monkeypatch):
    for out in ['--out', '/somewhere/else'],['--out=/somewhere/else'],[]:
        monkeypatch.setattr(sys, 'argv', ['/somewhere/race.py', *out, '--minutes', '5', 'photos'])
        assert program('timing').command()=='python benchmarks/race.py --minutes 5 photos'

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
    figures = bench('throughput', '--n 32 --overhead-n 32 --bs 16 --size 16 --repeats 1 --threads 1 --workers 0 --widths 16 8')
    assert set(figures['images_per_second'])=={'byol_fastai', 'ceiling', 'albumentations', 'torchvision_v2'}
    assert set(figures['ratio'])=={'ceiling', 'albumentations', 'torchvision_v2'} and isinstance(figures['learner_overhead'], float)
    assert set(figures['width_8'])=={'images_per_second', 'ratio', 'learner_overhead'}

@pytest.mark.parametrize('bf16', [False, True])
def test_a_cpu_with_bfloat16_is_measured_with_it_as_well(bench, monkeypatch, bf16):
    monkeypatch.setattr(torch.cpu, 'get_capabilities', lambda: dict(amx_bf16=bf16), raising=False)
    figures = bench('throughput', '--n 32 --overhead-n 32 --bs 16 --size 16 --repeats 1 --threads 1 --workers 0 --widths 8')
    assert ('bfloat16' in figures)==bf16
    if not bf16: return
    half = figures['bfloat16']
    assert set(half['ratio'])==set(figures['ratio'])=={'ceiling', 'albumentations', 'torchvision_v2'}
    assert half['images_per_second']['albumentations']==figures['images_per_second']['albumentations']
    assert half['images_per_second']['byol_fastai']!=figures['images_per_second']['byol_fastai']

@pytest.mark.parametrize('bf16', [False, True])
def test_switches(bench, monkeypatch, bf16):
    monkeypatch.setattr(program('switches').shutil, 'which', lambda name: None)
    monkeypatch.setattr(torch.cpu, 'get_capabilities', lambda: dict(amx_bf16=bf16), raising=False)
    figures = bench('switches', '--n 32 --bs 16 --size 16 --repeats 1 --threads 1 --widths 8')['width_8']
    parts = {'optimizer not fused', 'channels not last'} | ({'bfloat16'} if bf16 else set())
    assert set(figures['ratio'])==parts and set(figures)=={'as it comes', 'ratio'} | parts

def test_each_loader_is_judged_by_its_best_number_of_workers():
    best,chosen = program('throughput').best_workers({'us': [2.], 'x/0': [5., 5., 1.], 'x/2': [3., 3., 9.], 'y/0': [1.], 'y/2': [4.]})
    assert best=={'us': [2.], 'x': [3., 3., 9.], 'y': [1.]} and chosen=={'x': 2, 'y': 0}

def test_the_bare_loop_makes_the_step_of_the_learner():
    throughput = program('throughput')
    task = throughput.Task(make_shapes(16, 16)[0], bs=16, n_hidden=16, n_proj=8)
    learn,model = throughput.learner(task, schedule='constant'),task.networks()
    n = len(throughput.byol_splitter(model))
    assert same(learn.model.encoder.state_dict(), model.encoder.state_dict())
    model.load_state_dict(learn.model.state_dict())
    x,views = next(task.clean()),[throughput.BatchView(o) for o in task.policies]
    v1,v2 = (o(x) for o in views)
    throughput.step(task, model, throughput.optimizer(model), v1, v2)
    learn.ema_target.tau = throughput.TAU
    learn.two_views.view1,learn.two_views.view2 = (lambda x: v1),(lambda x: v2)
    with learn.no_bar(), learn.no_logging(): learn.fit(1, [throughput.LR]*(n-2)+[throughput.LR*throughput.PREDICTOR]*2)
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

def test_listing(bench):
    figures = bench('listing', '--files 20 40 --per-folder 10')
    assert set(figures)=={'20', '40'} and all(o['cpu_microseconds_per_file']>=0 and o['making_seconds']>=0 for o in figures.values())

def test_photos(bench, tmp_path, capsys):
    write_images(tmp_path/'photos', 12)
    figures = bench('photos', f"{tmp_path/'photos'} --size 16 --bs 4 --repeats 1 --threads 1 --workers 0")
    assert set(figures['images_per_second'])=={'files', 'cached', 'fastai'} and set(figures['ratio'])=={'files', 'cached'}

def test_photos_that_are_not_there_are_a_sentence(bench, tmp_path, capsys):
    assert bench('photos', str(tmp_path/'nothing')) is None
    assert 'nothing was measured' in capsys.readouterr().out

def test_views_of_photographs(bench, tmp_path):
    write_images(tmp_path/'photos', 12)
    figures = bench('photo_views', f"{tmp_path/'photos'} --sizes 16 24 --bs 4 --part-bs 4 --arch tiny --repeats 1 --threads 1 --workers 0")
    assert set(figures)=={'size_16', 'size_24'} and set(figures['size_24'])=={'images_per_second', 'ratio', 'milliseconds', 'workers'}
    assert {'files', 'cached', 'albumentations'} <= set(figures['size_16']['images_per_second']) and 'albumentations' in figures['size_16']['ratio']['files']
    assert set(figures['size_16']['milliseconds'])=={'decode whole', 'decode and shrink', 'two views', 'step of tiny'}

def test_the_others_make_two_views_of_each_file_too(tmp_path):
    p = program('photo_views')
    data = p.load_source(write_images(tmp_path, 6), 16, memory_gb=0).train
    for f in (p.albumentations_views, *([p.lightly_views] if p.present(p.PEERS) else [])):
        (v1, v2), = p.loader(data, f(16), len(data), 0)
        assert v1.shape==v2.shape==(len(data), 3, 16, 16) and not torch.equal(v1, v2)

def test_ours_and_fastai_hand_out_the_same_images(tmp_path):
    photos = program('photos')
    for i,o in enumerate(make_shapes(6, 40)[0]): Image.fromarray(o.permute(1, 2, 0).numpy()).save(tmp_path/f'{i}.png')
    data = photos.load_source(tmp_path, 16, memory_gb=0).train
    a,b = (torch.cat([x.as_subclass(torch.Tensor) for x,_ in o]) for o in (photos.ours(data, 6), photos.fastais(data, 6, 0)))
    a,b = (o[o.mean((1, 2, 3)).argsort()] for o in (a, b))
    assert a.shape==b.shape and (a-b).abs().mean()<.02, 'bicubic and bilinear'

# --- experiments with several seeds

TINY = '--n 128 --epochs 1 --bs 16 --seeds 1'

@pytest.mark.filterwarnings('ignore:KNNProbe could not look at the encoder') # of a training that diverged
@pytest.mark.parametrize('name', ['taus', 'first_tau', 'ladder', 'normalisation', 'views_decide', 'shield', 'clinic', 'dynamics'])
def test_an_experiment_runs_every_setting(bench, name):
    if name in ('views_decide', 'shield') and 'return_params' not in signature(make_shapes).parameters: pytest.skip('the shapes do not tell their parameters')
    figures = bench(name, TINY)
    for setting, runs in figures['runs'].items():
        assert set(runs)=={'0'} and {'knn', 'linear', 'seconds'} <= set(runs['0']), setting
        assert all({'epoch', 'valid_loss', 'knn'} <= set(o) for o in runs['0'].get('history', []) if o['epoch']>=0) # what was read before the first epoch has no loss
    finite = {k for k,o in figures['runs'].items() if o['0']['knn'] is not None} # a loss may diverge, which is a result too
    assert finite and set(figures['knn'])==finite==set(course.ledger(name)['figures']['linear'])
    assert any('history' in o['0'] for o in figures['runs'].values())

def test_the_ceiling_and_the_worth_of_labels(bench):
    assert {'knn', 'linear', 'accuracy', 'images', 'network'} <= set(bench('supervised', TINY)['runs']['supervised']['0'])
    runs = bench('labels', TINY)['runs']
    assert set(runs)=={*program('labels').WAYS} and all(len(o['0']['accuracy'])==len(program('labels').SHARES) for o in runs.values())

def test_the_main_job_is_measured_by_itself(bench, monkeypatch):
    main_job,asked = program('main_job'),[]
    def run(command, **kwargs): # the program itself is tested elsewhere; here is what is made of its report
        asked.append(command)
        out,seed = Path(command[command.index('--out')+1]),int(command[command.index('--seed')+1])
        out.mkdir()
        probes = {'raw pixels': dict(kNN=.2, linear=.3), 'grey pixels': dict(kNN=.1+.1*seed, linear=None), 'BYOL': dict(kNN=.8+.02*seed, linear=.9), 'random encoder': dict(kNN=.1, linear=.1),
            'supervised': dict(kNN=.99, linear=.99, stored='measured beforehand')}
        (out/'report.json').write_text(json.dumps(dict(probes=probes, seconds=60.+seed, peak_memory_gb=1.5, history=[dict(epoch=0, knn=.5)])))
    monkeypatch.setattr(main_job, 'subprocess', SimpleNamespace(run=run))
    figures = bench('main_job', '--seeds 3')
    assert [o for c in asked for o in c if o.startswith('--')]==['--seed', '--out']*3, 'no option but the seed'
    assert figures['pixels']==dict(knn=.2, linear=.3) and figures['grey']==dict(knn=.2) and figures['byol']==dict(knn=.82, linear=.9)
    assert figures['ahead']==dict(knn=.54, linear=.6) and figures['spread']==dict(knn=.04, linear=0) and figures['worst']==dict(knn=.8, linear=.9)
    assert (figures['seconds'], figures['most_seconds'], figures['peak_memory_gb'])==(61, 62, 1.5)
    assert [*figures['runs']]==[*main_job.ROWS] and figures['runs']['supervised']=={} and figures['runs']['BYOL']['2']['history']
    assert 'supervised' not in figures and bench('main_job', '--seeds 3')==figures and len(asked)==3

def table(name='made_up', settings=('a', 'b'), **config):
    seeds = program('seeds')
    return seeds.Table(name, 'A test', [*settings], config, f'python benchmarks/{name}.py', seeds.means)

def counting(calls, name, stop=None):
    "A job that says what it was asked for, and stops at one seed"
    def job(seed):
        if seed==stop: raise KeyboardInterrupt
        calls.append((name, seed))
        return dict(knn=.1*seed, history=[dict(epoch=0, knn=math.nan)])
    return job

def test_an_experiment_goes_on_where_it_was_stopped(bench):
    seeds,calls = program('seeds'),[]
    with pytest.raises(KeyboardInterrupt): seeds.run_all(table(lr=1.), {'a': counting(calls, 'a'), 'b': counting(calls, 'b', stop=1)}, 3, log=lambda *a, **k: None)
    assert calls==[('a', 0), ('b', 0), ('a', 1)]
    seeds.run_all(table(lr=1.), {'a': counting(calls, 'a'), 'b': counting(calls, 'b')}, 3, log=lambda *a, **k: None)
    assert calls[3:]==[('b', 1), ('a', 2), ('b', 2)]
    entry = course.ledger('made_up')
    assert entry['figures']['runs']['b']['1']['history']==[dict(epoch=0, knn=None)] and entry['figures']['knn']==dict(a=.1, b=.1)
    assert entry['command']=='python benchmarks/made_up.py --seeds 3'

def test_what_has_changed_starts_anew_and_nothing_else_does(bench):
    table(lr=1., views=[dict(p=.5)]).add('a', 0, dict(knn=.5))
    other = table(lr=2., views=[dict(p=.5)])
    assert table(lr=1., views=[dict(p=.5)]).fresh==[] and other.fresh==['lr'] and table(lr=1., views=[], more=dict(n=3)).fresh==['more', 'views']
    assert other.lacks(['a'], [0])==[0] and table(lr=1., views=[dict(p=.5)]).runs['a'], 'until the first run is done, the old ones are still there'
    other.add('b', 0, dict(knn=.7))
    assert course.figure('made_up/runs')==dict(a={}, b={'0': dict(knn=.7)})

def test_a_changed_experiment_says_so(bench, capsys):
    bench('taus', f'{TINY} --settings 0')
    assert 'starts anew' not in capsys.readouterr().err
    bench('taus', f"{TINY.replace('--bs 16', '--bs 32')} --settings 1")
    assert 'measured with another run bs' in capsys.readouterr().err

def test_an_experiment_takes_the_place_of_a_file_without_runs(bench):
    program('ledger').record('made_up', 'A test', {'0.9': .5}, 'pytest', seed=0)
    t = table(lr=1.)
    assert t.fresh and t.runs==dict(a={}, b={})
    t.add('a', 0, dict(knn=.5))
    assert table(lr=1.).fresh==[]

def test_two_processes_may_write(bench):
    one,two = table(),table()
    one.add('a', 0, dict(knn=.5)); two.add('b', 0, dict(knn=.6)); one.add('a', 1, dict(knn=.7))
    assert course.figure('made_up/runs')==dict(a={'0': dict(knn=.5), '1': dict(knn=.7)}, b={'0': dict(knn=.6)})

@pytest.mark.skipif(not hasattr(os, 'fork'), reason='there is no fork here')
def test_an_experiment_may_be_killed_at_any_time(bench, tmp_path):
    "Again and again in the midst of its writing; every time the file is whole and no run is lost"
    seeds,file,before = program('seeds'),tmp_path/'ledger'/'killed.json',0
    def job(seed): return dict(knn=seed/1000, history=[dict(epoch=i, knn=.5) for i in range(100)])
    def go(): seeds.run_all(table('killed', 'a'), {'a': job}, 10_000, log=lambda *a, **k: None)
    for wait in (0., .004, .02):
        with warnings.catch_warnings():
            warnings.simplefilter('ignore') # newer Pythons warn of any fork
            child = os.fork()
        if child==0:
            try: go()
            finally: os._exit(0)
        def done(): return len(json.loads(file.read_text())['figures']['runs']['a']) if file.exists() else 0
        until = time.monotonic()+30
        while done()<before+3 and time.monotonic()<until: time.sleep(.001)
        time.sleep(wait)
        os.kill(child, signal.SIGKILL); os.waitpid(child, 0)
        assert done()>=before+3
        before = done()
    runs = json.loads(file.read_text())['figures']['runs']['a']
    assert [*runs]==[str(i) for i in range(before)] and all(o['knn']==int(s)/1000 and len(o['history'])==100 for s,o in runs.items())

def test_a_setting_that_is_not_known_is_a_sentence(bench, capsys):
    for options,text in (('--settings 0.5,0.55', '0.55 not known; give some of 0, 0.5'), ('--seeds 0', 'at least 1'), ('--n 20', 'larger than')):
        with pytest.raises(SystemExit): bench('taus', options)
        assert text in capsys.readouterr().err

def test_a_long_history_is_thinned_and_keeps_its_end():
    tidy = program('seeds').tidy
    rows = tidy([dict(epoch=i, loss=torch.tensor(i/3)) for i in range(1000)])
    assert len(rows)<=101 and rows[0]['epoch']==0 and rows[-1]==dict(epoch=999, loss=333.)
    assert tidy(dict(a=math.inf, b=.123456, c=12, d=[], e=None))==dict(a=None, b=.1235, c=12, d=[], e=None)

@pytest.fixture
def small(): return program('seeds').run_config('shapes', n=64, epochs=4, bs=16, n_hidden=16, n_proj=8)

def test_the_target_is_copied_every_so_many_epochs(small):
    taus = program('taus')
    steps = []
    def learner(*args, **kwargs):
        learn = program('seeds').learner(*args, **kwargs)
        learn.add_cb(Do(after_fit=lambda o: steps.append([*o.learn.ema_target.taus])))
        return learn
    mp = pytest.MonkeyPatch()
    with mp.context() as m:
        m.setattr(taus, 'learner', learner)
        taus.copied(small, 1, 0); taus.copied(small, 2, 0); taus.constant(small, .5, 0)
    assert steps==[[1, 1, 0]*4, [1, 1, 1, 1, 1, 0]*2, [.5]*12]

def test_a_step_of_the_ladder_has_the_last_student_for_its_target_and_new_weights(small):
    seeds,ladder = program('seeds'),program('ladder')
    first = seeds.fit(ladder.student(small, 0), small)
    teacher = ladder.as_teacher(first)
    second = ladder.student(small, 10_000, teacher)
    assert not same(second.model.encoder.state_dict(), teacher[0].state_dict())
    before = state(teacher)
    seeds.fit(second, small)
    weights = {k for k,_ in teacher.named_parameters()}
    assert all(torch.equal(v, before[k]) for k,v in second.model.target.state_dict().items() if k in weights), 'it stays as it is'

def test_losses_are_what_they_are_called():
    n = program('normalisation')
    p,z = (torch.randn(2, 32, 8).unbind() for _ in range(2))
    torch.testing.assert_close(n.BYOLS(p, *z), BYOLLoss()(p, *z))
    torch.testing.assert_close(n.MEAN(p, *z), BYOLLoss()(p, *z)/2)
    torch.testing.assert_close(n.TWO_VIEWS['two views not crossed'](p, *z), BYOLLoss()(p, *z[::-1]))
    for f,scale,shift in ((n.layer_norm, 3, 5), (n.batch_norm, torch.arange(1, 9), torch.arange(8))):
        assert f(p[0]*scale+shift, p[0])<1e-6 and f(p[0], z[0])>.1 and n.none(p[0]*scale+shift, p[0])>.1
    assert n.none(torch.tensor([[3., 4.]]), torch.zeros(1, 2))==25

def test_an_optimizer_that_is_not_the_presets_has_rates_of_its_own(small, monkeypatch):
    n,seen = program('normalisation'),[]
    monkeypatch.setattr(n, 'fit', lambda learn, config, lr: seen.append((learn.predictor_lr_mult, lr)) or learn)
    monkeypatch.setattr(n, 'figures', lambda learn, config: {})
    for opt in ('sgd', 'adamw', 'lars'): n.one(small, opt, None, 0)
    assert seen==[(small.predictor_lr_mult, small.lr), (1, 4e-3), (1, None)]

def test_crossing_is_judged_without_views_that_would_cross_it(small):
    jobs = program('normalisation').jobs(replace(small, extra_views=2))
    assert {k: o.args[0].extra_views for k,o in jobs.items()}=={k: 0 if 'two views' in k else 2 for k in jobs} and 'sgd two views not crossed' in jobs

def test_what_can_be_read_by_a_straight_line_is_read():
    read_out,rng = program('views_decide').read_out,np.random.default_rng(0)
    x,xt = rng.normal(size=(300, 5)),rng.normal(size=(200, 5))
    w = rng.normal(size=(5, 2))
    assert read_out(x, xt, 'size', (x@w, xt@w))>.99 and read_out(x, xt, 'size', (rng.normal(size=300), rng.normal(size=200)))<.1
    hue,other = rng.random(300),rng.random(200)
    circle = [np.stack([np.sin(2*np.pi*o), np.cos(2*np.pi*o)], 1) for o in (hue, other)]
    assert read_out(*circle, 'hue', (hue, other))>.99 > read_out(*circle, 'size', (hue, other))
    assert read_out(x, xt, 'size', (np.ones(300), np.ones(200)))==0
    patches = [o[:,:4].reshape(-1, 2, 2)*[[1, 2], [3, 4]] for o in (x, xt)]
    assert read_out(x, xt, 'size', patches)>.99 and program('views_decide').columns('hue', patches[0]).shape==(300, 2)

# --- all in one call, as on a GPU

@pytest.fixture
def npz(tmp_path):
    (x,y),(xt,yt) = make_shapes(64, 32),make_shapes(40, 32, seed=1)
    def images(x): return x.permute(0, 2, 3, 1).numpy()
    np.savez(tmp_path/'data.npz', x_train=images(x), y_train=y.numpy(), x_test=images(xt), y_test=yt.numpy())
    return tmp_path/'data.npz'

def options(npz, out, more=''): return f'--data {npz} --device cpu --arch tiny --n-hidden 16 --n-proj 8 --bs 16 --repeats 1 --workers 0 --commit 0123456 --out {out} {more}'

@pytest.mark.filterwarnings('ignore:This CPU has no matrix unit for bfloat16') # which is measured all the same
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
