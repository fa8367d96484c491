"The contract with fastai: what a `Learner` can do, each learner of the package does, or it says in a sentence why not and what to do"
import math, sys, types, warnings
import numpy as np, pytest, torch
from PIL import Image
from fastai.callback.tracker import EarlyStoppingCallback, SaveModelCallback
from fastai.callback.training import GradientAccumulation, GradientClip
from fastai.vision.all import (Callback, CancelFitException, CategoryBlock, ClassificationInterpretation, CSVLogger, DataBlock, DataLoaders, ImageBlock, ImageDataLoaders,
    Interpretation, Normalize, RandomSplitter, Resize, accuracy, get_image_files, imagenet_stats, load_learner, nn, parent_label, Adam, F1Score)
from byol_fastai.all import (BYOLLoss, KNNProbe, TinyResNet, byol_dls, byol_learner, fine_tune_learner, labelled_dls)
from byol_fastai.errors import UserError
from byol_fastai.evaluate import linear_eval_learner
from byol_fastai.fast import CudnnBenchmark, Compiled, DeviceLosses
from byol_fastai.citizen import BYOLLearner
from byol_fastai.precision import CPUMixedPrecision
from conftest import Do, same, state, write_images

pytestmark = [pytest.mark.filterwarnings(f'ignore:{o}') for o in ('numpy.core is deprecated', 'The .grad attribute of a Tensor that is not a leaf', '__array__ implementation')] # of fastai and of torch

# --- the learners: three kinds, on loaders of three kinds

@pytest.fixture(scope='module')
def photos(tmp_path_factory):
    root = tmp_path_factory.mktemp('photos')
    for i,name in enumerate(('cat', 'dog')): write_images(root/name, 20, size=24, seed=i)
    return root

def normalisation(normalised): return Normalize.from_stats(*imagenet_stats, cuda=False) if normalised else None

def image_loaders(photos, normalised=False):
    return ImageDataLoaders.from_folder(photos, valid_pct=.25, seed=0, item_tfms=Resize(16), batch_tfms=normalisation(normalised), bs=8, num_workers=0)

def own_block(photos, normalised=False, labels=True):
    block = DataBlock((ImageBlock, CategoryBlock)[:1+labels], get_items=get_image_files, get_y=parent_label if labels else None, splitter=RandomSplitter(.25, seed=0), item_tfms=Resize(16),
        batch_tfms=normalisation(normalised))
    return block.dataloaders(photos, bs=8, num_workers=0)

def shapes(kind): return byol_dls('shapes', bs=8, n=48, size=16, valid_pct=.25) if kind=='byol' else labelled_dls('shapes', bs=8, n=40, size=16)
def folder(kind, photos): return byol_dls(photos, bs=8, size=16) if kind=='byol' else labelled_dls(photos, bs=8, size=16)

DATA = {'shapes': lambda kind, photos: shapes(kind), 'folder': folder, 'ImageDataLoaders': lambda kind, photos: image_loaders(photos),
    'DataBlock': lambda kind, photos: own_block(photos, normalised=kind!='byol')}

def quiet(learn):
    learn.remove_cbs([cb for cb in learn.cbs if type(cb).__name__=='ProgressCallback'])
    learn.logger = lambda row: None
    return learn

def byol(dls, **kwargs): return byol_learner(dls, TinyResNet(width=8), **{**dict(n_hidden=16, n_proj=8, opt='adamw', guard=False), **kwargs})
MAKE = dict(byol=byol, linear=lambda dls, **kwargs: linear_eval_learner(dls, TinyResNet(width=8), bs=8, **kwargs),
    fine_tuned=lambda dls, **kwargs: fine_tune_learner(dls, TinyResNet(width=8), bs=8, **kwargs))

@pytest.fixture(params=[f'{k}-{d}' for k in MAKE for d in DATA])
def make(request, photos, tmp_path):
    "A function that makes a learner of one kind on one kind of loaders"
    kind,data = request.param.split('-')
    def new(**kwargs): return quiet(MAKE[kind](DATA[data](kind, photos), path=tmp_path, **kwargs))
    new.kind,new.data,new.photos = kind,data,photos
    return new

def fit(learn, n=1, **kwargs):
    learn.fit_byol(n, **kwargs) if isinstance(learn, BYOLLearner) else learn.fit(n, **kwargs)
    return learn

def finite(learn): return all(math.isfinite(o) for o in learn.recorder.losses) and len(learn.recorder.losses)==len(learn.dls.train)

# --- the list

def test_save_and_load(make):
    learn = fit(make())
    learn.save('half')
    other = make()
    other.load('half')
    assert same(state(learn.model), state(other.model))

def test_export_and_load_learner(make):
    learn = fit(make())
    before = state(learn.model)
    learn.export('e.pkl')
    assert (learn.path/'e.pkl').stat().st_size < 600_000, 'weights and settings, no images'
    with warnings.catch_warnings(): warnings.simplefilter('ignore'); back = load_learner(learn.path/'e.pkl')
    assert same(before, state(back.model)) and type(back) is type(learn)
    fit(learn) # export left the learner as it was

def test_predict(make):
    learn,file = fit(make()),make.photos/'cat'/'0_000.png'
    if make.kind=='byol':
        with pytest.raises(TypeError, match='fine_tune_learner') as e: learn.predict(file)
        assert isinstance(e.value, UserError)
        return
    for item in (file, str(file), Image.open(file).convert('RGB'), np.array(Image.open(file))):
        name,i,p = learn.predict(item)
        vocab = list(learn.dls.vocab)
        assert str(name)==vocab[int(i)] and int(i)==int(p.argmax()) and float(p.sum())==pytest.approx(1, abs=1e-4) and len(p)==len(vocab)

def test_predict_after_export(make):
    if make.kind=='byol': return
    learn,file = fit(make()),make.photos/'dog'/'1_000.png'
    want = learn.predict(file)[2]
    learn.export('e.pkl')
    with warnings.catch_warnings(): warnings.simplefilter('ignore'); back = load_learner(learn.path/'e.pkl')
    torch.testing.assert_close(torch.as_tensor(want), torch.as_tensor(back.predict(file)[2]), rtol=1e-4, atol=1e-5)

@pytest.mark.parametrize('ds_idx', [0, 1])
def test_get_preds(make, ds_idx):
    learn = fit(make())
    n = len(learn.dls[ds_idx].dataset)
    preds,targs,losses = learn.get_preds(ds_idx=ds_idx, with_loss=True)
    if make.kind=='byol': assert [o.shape for o in (*preds, *targs)]==[(n, 8)]*4
    else: assert preds.shape==(n, len(learn.dls.vocab)) and targs.shape==(n,)
    assert losses.shape==(n,) and losses.isfinite().all()

def test_validate(make):
    learn = fit(make())
    for ds_idx in (0, 1):
        values = learn.validate(ds_idx)
        assert len(values)==(3 if make.kind=='byol' else 2) and all(math.isfinite(o) for o in values)

def test_show_results(make):
    learn = fit(make())
    if make.kind!='byol': return learn.show_results(max_n=4)
    with pytest.raises(TypeError, match='plot_neighbours'): learn.show_results()

def test_summary(make):
    for learn in (make(), fit(make())): assert 'Total params' in learn.summary()

def test_lr_find_puts_everything_back(make):
    learn = fit(make())
    weights,opt = state(learn.model), [h['lr'] for h in learn.opt.hypers]
    ema = dict(vars(learn.ema_target)) if make.kind=='byol' else None
    with warnings.catch_warnings(record=True) as told: warnings.simplefilter('always'); res = learn.lr_find(num_it=12, show_plot=False)
    assert same(weights, state(learn.model)) and res[0]>0
    if ema:
        assert [h['lr'] for h in learn.opt.hypers]==opt
        assert any('collapse' in str(o.message) for o in told), 'the advice is none'
        assert learn.ema_target.taus==ema['taus'] and learn.ema_target.tau==ema['tau']
    fit(learn)

def moved(learn, f):
    before = state(learn.model)
    f()
    return {k.split('.')[0] for k,v in learn.model.named_parameters() if not torch.equal(before[k], v)}

def test_freeze_and_unfreeze(make):
    learn = make()
    parts = dict(byol=[{'projector', 'predictor', 'target'}, {'encoder', 'projector', 'predictor', 'target'}], linear=[{'head'}]*2, fine_tuned=[None, {'0', '1'}])[make.kind]
    if make.kind=='fine_tuned': first_conv = learn.model[0].stem[0].weight.detach().clone()
    learn.freeze()
    still = moved(learn, lambda: fit(learn))
    if make.kind=='fine_tuned': # BatchNorm is not frozen by fastai, the convolutions are
        conv = learn.model[0].stem[0].weight.detach().clone()
        assert torch.equal(conv, first_conv)
    learn.unfreeze()
    assert parts[0] in (still, None) and moved(learn, lambda: fit(learn))==parts[1]
    if make.kind=='fine_tuned': assert '1' in still and not torch.equal(conv, learn.model[0].stem[0].weight)

def test_fine_tune(make):
    learn = make()
    assert moved(learn, lambda: learn.fine_tune(1)) >= dict(byol={'encoder', 'predictor'}, linear={'head'}, fine_tuned={'0', '1'})[make.kind]
    if make.kind=='byol':
        with pytest.raises(ValueError, match='freeze\\(\\) keeps the encoder still'): learn.freeze_to(-2)

def test_interpretation(make):
    learn = fit(make())
    losses,idx = Interpretation.from_learner(learn).top_losses(3)
    assert len(losses)==3 and losses[0]>=losses[1]
    if make.kind=='byol':
        with pytest.raises(TypeError, match='knows no classes'): ClassificationInterpretation.from_learner(learn).confusion_matrix() if hasattr(learn.dls, 'vocab') else learn.get_preds(with_decoded=True)
        return
    interp = ClassificationInterpretation.from_learner(learn)
    assert interp.confusion_matrix().sum()==len(learn.dls.valid.dataset)
    interp.plot_top_losses(3)

def test_save_the_best_by_a_column(make):
    probe = [KNNProbe(*labelled_dls('shapes', bs=8, n=40, size=16).loaders, k=5, every=2)] if make.kind=='byol' else []
    learn = make(cbs=[*probe, SaveModelCallback(monitor='knn' if probe else 'accuracy'), EarlyStoppingCallback(monitor='valid_loss', patience=9)])
    fit(learn, 3)
    assert (learn.path/'models'/'model.pth').exists() and learn.save_model.best==max(o for o in (v[-1] for v in learn.recorder.values) if o==o)

def test_half_precision(make):
    with warnings.catch_warnings(): # fastai's autocast is for CUDA, and says so on a CPU
        warnings.simplefilter('ignore')
        learn = fit(make().to_fp16())
        assert finite(learn) and len(learn._grab_cbs(type(learn.mixed_precision)))==1
        fit(learn.to_fp32())

@pytest.mark.parametrize('cb', [lambda: GradientAccumulation(16), lambda: GradientClip(.1), lambda: CSVLogger()], ids=['accumulate', 'clip', 'csv'])
def test_callbacks_of_fastai(make, cb):
    learn = make(cbs=cb())
    assert finite(fit(learn))
    if hasattr(learn, 'csv_logger'): assert list(learn.csv_logger.read_log().columns)==list(learn.recorder.metric_names)

@pytest.fixture
def tensorboard(monkeypatch):
    "TensorBoard that takes numbers only, as the real one does"
    rows = []
    class SummaryWriter:
        def __init__(self, **kwargs): pass
        def add_scalar(self, name, value, step): rows.append((name, float(value)))
        def add_graph(self, model, *xb): torch.jit.trace(model.eval(), [x.as_subclass(torch.Tensor) for x in xb], check_trace=False)
        def add_image(self, *args): pass
        def add_embedding(self, *args, **kwargs): pass
        def close(self): pass
    fake,inner = types.ModuleType('torch.utils.tensorboard'),types.ModuleType('tensorboard')
    fake.SummaryWriter = SummaryWriter
    monkeypatch.setitem(sys.modules, 'tensorboard', inner); monkeypatch.setitem(sys.modules, 'torch.utils.tensorboard', fake)
    monkeypatch.delitem(sys.modules, 'fastai.callback.tensorboard', raising=False)
    from fastai.callback.tensorboard import TensorBoardCallback
    return TensorBoardCallback,rows

def test_tensorboard(make, tensorboard):
    callback,rows = tensorboard
    with warnings.catch_warnings(): warnings.simplefilter('ignore'); fit(make(cbs=callback(log_preds=make.kind=='byol', trace_model=make.kind=='byol')), 2)
    assert {'train_loss', 'valid_loss'} <= {k for k,_ in rows}

# --- a look changes nothing

def test_looks_leave_the_next_fit_as_it_would_have_been(photos):
    def weights(look):
        torch.manual_seed(0); np.random.seed(0)
        import random; random.seed(0)
        learn = quiet(byol(byol_dls('shapes', bs=8, n=48, size=16), cbs=KNNProbe(*labelled_dls('shapes', bs=8, n=40, size=16).loaders, k=5)))
        fit(learn)
        if look: learn.validate(); learn.get_preds(); learn.summary(); learn.lr_find(num_it=8, show_plot=False)
        fit(learn)
        return state(learn.model), learn.knn_probe.values
    with warnings.catch_warnings(): warnings.simplefilter('ignore'); (a,va),(b,vb) = weights(False),weights(True)
    assert same(a, b) and va==vb

def test_no_looks_at_neighbours_but_in_a_fit():
    calls = []
    probe = KNNProbe(*labelled_dls('shapes', bs=8, n=40, size=16).loaders, k=5)
    probe.look = lambda: calls.append(1) or .5
    learn = quiet(byol(byol_dls('shapes', bs=8, n=48, size=16, valid_pct=.25), cbs=probe))
    learn.validate(); learn.get_preds(); learn.summary()
    with warnings.catch_warnings(): warnings.simplefilter('ignore'); learn.lr_find(num_it=8, show_plot=False)
    assert not calls
    fit(learn, 2)
    assert len(calls)==2 and len(learn.final_record)==5 and len(learn.validate())==3 and len(calls)==2

# --- nothing stays behind

class Stop(Callback):
    order = 90
    def __init__(self, event, error): self.at,self.error = event,error
    def __call__(self, event_name):
        if event_name==self.at and getattr(self, 'training', False): raise self.error

def everything(): return [DeviceLosses(), CudnnBenchmark(), Compiled(backend='eager')]

@pytest.mark.parametrize('error', [KeyboardInterrupt(), RuntimeError('out of memory'), CancelFitException()], ids=['ctrl-c', 'error', 'cancelled'])
@pytest.mark.parametrize('event', ['before_batch', 'after_pred', 'after_step', 'before_epoch', 'before_train'])
def test_nothing_stays_behind_however_a_fit_ends(event, error, monkeypatch):
    monkeypatch.setattr(torch.cpu, 'get_capabilities', lambda: dict(amx_bf16=True), raising=False)
    probe = KNNProbe(*labelled_dls('shapes', bs=8, n=40, size=16).loaders, k=5)
    learn = byol_learner(byol_dls('shapes', bs=8, n=48, size=16), TinyResNet(width=8), n_hidden=16, n_proj=8, opt='adamw', guard=False, fast=everything(), cbs=[probe, CPUMixedPrecision()])
    before = torch.backends.cudnn.benchmark, torch.is_autocast_enabled('cpu'), learn.recorder.loss, learn.recorder.smooth_loss, list(learn.metrics), set(vars(learn))
    with learn.no_bar(), learn.no_logging():
        try: learn.fit_byol(1, cbs=Stop(event, error))
        except (KeyboardInterrupt, RuntimeError): pass
    assert before[:-1]==(torch.backends.cudnn.benchmark, torch.is_autocast_enabled('cpu'), learn.recorder.loss, learn.recorder.smooth_loss, list(learn.metrics))
    assert '_do_epoch' not in vars(learn) or event=='before_epoch'
    assert all(m._compiled_call_impl is None for m in learn.model.modules()) and 'after_batch' not in vars(learn.progress)
    with learn.no_bar(), learn.no_logging(): learn.fit_byol(1) # the cell, run again
    assert list(learn.recorder.metric_names).count('knn')==1 and '_do_epoch' not in vars(learn)

def test_a_cell_run_three_times_has_one_column():
    data = labelled_dls('shapes', bs=8, n=40, size=16)
    learn = quiet(byol(byol_dls('shapes', bs=8, n=48, size=16)))
    for _ in range(3):
        try: learn.fit_byol(2, cbs=[KNNProbe(*data.loaders, k=5), Do(99, after_epoch=lambda cb: (_ for _ in ()).throw(KeyboardInterrupt))])
        except KeyboardInterrupt: pass
    learn.fit_byol(1, cbs=KNNProbe(*data.loaders, k=5))
    assert list(learn.recorder.metric_names)==['epoch', 'train_loss', 'valid_loss', 'feature_std', 'effective_rank', 'knn', 'time']
    assert [m.name for m in learn.metrics]==['feature_std', 'effective_rank']

# --- any loader, any metric, any optimizer

@pytest.mark.parametrize('make_dls', [image_loaders, own_block])
def test_normalised_loaders_are_refused_in_a_sentence(photos, make_dls):
    with pytest.raises(ValueError, match='take Normalize out of batch_tfms') as e: byol(make_dls(photos, normalised=True))
    assert isinstance(e.value, UserError)

def tensors(x, bs=8): return DataLoaders.from_dsets(torch.utils.data.TensorDataset(x, torch.zeros(len(x)).long()), torch.utils.data.TensorDataset(x[:8], torch.zeros(8).long()), bs=bs, num_workers=0, device='cpu')

def test_images_outside_the_unit_range_are_refused_in_a_sentence():
    with pytest.raises(ValueError, match='take Normalize out of batch_tfms'): byol(tensors(torch.randn(32, 3, 16, 16)))
    with pytest.raises(ValueError, match='divide by 255'): byol(tensors(255*torch.rand(32, 3, 16, 16)))
    with pytest.raises(TypeError, match=r'wants batches \(x, y\) with images x \[B,C,H,W\]'): byol(tensors(torch.rand(32, 7)))

def test_loaders_of_pytorch_alone():
    x = torch.rand(32, 3, 16, 16)
    data = torch.utils.data.TensorDataset(x, torch.zeros(32).long())
    learn = quiet(byol(DataLoaders(*[torch.utils.data.DataLoader(data, batch_size=8) for _ in range(2)], device='cpu')))
    assert finite(fit(learn))

def test_images_without_labels(photos):
    learn = quiet(byol(own_block(photos, labels=False)))
    assert finite(fit(learn)) and learn.get_preds()[0][0].shape==(10, 8)

def test_looking_at_the_first_images_draws_no_random_numbers(photos):
    dls = image_loaders(photos)
    torch.manual_seed(3)
    was,order = torch.get_rng_state(),dls.train.rng.getstate()
    from byol_fastai.learner import _first_images
    _first_images(dls)
    assert torch.equal(was, torch.get_rng_state()) and order==dls.train.rng.getstate()

def test_views_of_ones_own_and_many_channels():
    "13 bands, as satellites have them: the views say what the encoder will see"
    encoder = nn.Sequential(nn.Conv2d(13, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    encoder.n_features = 4
    view = lambda x: x[...,2:14,2:14] + .1*torch.randn(len(x), 13, 12, 12)
    learn = quiet(byol_learner(tensors(3*torch.randn(32, 13, 16, 16)), encoder, n_hidden=16, n_proj=8, policies=(view, view), opt='adamw'))
    assert finite(fit(learn)) and learn.model.encoder is encoder

@pytest.mark.parametrize('metric', [accuracy, F1Score()], ids=['accuracy', 'F1Score'])
def test_a_metric_of_classes_ends_in_a_sentence(metric):
    learn = quiet(byol(byol_dls('shapes', bs=8, n=48, size=16), metrics=metric))
    with pytest.raises(TypeError, match='cannot judge a BYOL learner.*KNNProbe for an accuracy'): fit(learn)

def test_a_metric_for_pairs_works():
    def gap(preds, z1, z2): return (preds[0]-z2).abs().mean()
    learn = quiet(byol(byol_dls('shapes', bs=8, n=48, size=16), metrics=[gap]))
    fit(learn)
    assert learn.recorder.metric_names[3]=='gap' and learn.final_record[-1]>0

def test_what_a_learner_takes(tmp_path):
    dls = byol_dls('shapes', bs=8, n=48, size=16)
    learn = byol(dls, opt=None, opt_func=Adam, lr=3e-3, path=tmp_path, model_dir='m', moms=(.9, .8, .9), wd=.01)
    learn = quiet(learn)
    learn.fit_one_cycle(1)
    assert learn.lr==3e-3 and learn.save('x').parent==tmp_path/'m' and type(learn.opt).__name__=='Optimizer'
    own = quiet(byol(dls, splitter=lambda m: [list(m.encoder.parameters()), [*m.projector.parameters(), *m.predictor.parameters()]]))
    fit(own)
    assert len(own.opt.hypers)==4 and all((p.ndim>1)==(i%2==0) for i,g in enumerate(own.opt.param_lists) for p in g)
    assert type(quiet(byol(dls, loss_func=BYOLLoss())).loss_func) is BYOLLoss

def test_weight_decay_given_to_fit_spares_biases():
    learn = quiet(byol(byol_dls('shapes', bs=8, n=48, size=16)))
    learn.fit(1, wd=.3)
    assert [h['wd'] for h in learn.opt.hypers]==[.3, 0., .3, 0.]

@pytest.mark.parametrize('n_epoch, lr, wd, tau', [(40, .45, 1e-6, .97), (100, .45, 1e-6, .99), (300, .3, 1e-6, .99), (1000, .2, 1.5e-6, .996)])
def test_the_presets_of_lars_follow_the_length_of_the_fit_together(n_epoch, lr, wd, tau):
    learn,seen = quiet(byol(byol_dls('shapes', bs=8, n=48, size=16), opt='lars')),{}
    def stop(cb): seen.update(lr=cb.opt.hypers[0]['lr'], wd=[h['wd'] for h in cb.opt.hypers], tau=cb.ema_target.tau); raise CancelFitException
    learn.fit_byol(n_epoch, warmup=0, cbs=Do(99, after_batch=stop))
    assert seen['lr']==pytest.approx(lr*8/256, rel=1e-3) and seen['wd']==[wd, 0., wd, 0.] and seen['tau']==tau
    told = quiet(byol(byol_dls('shapes', bs=8, n=48, size=16), opt='lars', lr=.1, wd=1e-3, tau=.5))
    told.fit_byol(n_epoch, warmup=0, cbs=Do(99, after_batch=stop))
    assert seen==dict(lr=pytest.approx(.1, rel=1e-3), wd=[1e-3, 0., 1e-3, 0.], tau=.5)

def test_transformers_get_adamw():
    learn = byol_learner(byol_dls('shapes', bs=8, n=48, size=32), 'vit_tiny_patch16_224', n_hidden=16, n_proj=8)
    assert learn.opt_func.keywords['name']=='adamw' and learn.lr==pytest.approx(5e-4*8/256)
