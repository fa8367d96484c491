"The fast path: the same numbers as the plain one, fewer looks at the device, and nothing left behind"
from collections import Counter
import pytest, torch
from fastai.vision.all import Callback, CancelFitException, ChannelsLast, CrossEntropyLossFlat, Learner, ProgressCallback, Tensor, nn
from fastcore.test import test_close as close
from byol_fastai.all import Compiled, byol_optimizer, byol_splitter
from byol_fastai.fast import CudnnBenchmark, DeviceLosses, LossNumbers, fast_callbacks
from byol_fastai.data import byol_dls
from byol_fastai.model import TinyResNet
from conftest import Do, same, state, tiny_learner

pytestmark = pytest.mark.filterwarnings('ignore:The .grad attribute of a Tensor that is not a leaf') # of torch.compile

def everything(): return [DeviceLosses(), ChannelsLast(), CudnnBenchmark(), Compiled(backend='aot_eager')]

def fitted(fast, n_epoch=2, **kwargs):
    learn = tiny_learner(fast=fast, **kwargs)
    learn.fit_byol(n_epoch)
    return learn

@pytest.fixture(scope='module')
def plain(): return fitted(False)

@pytest.mark.parametrize('keep', [DeviceLosses, LossNumbers])
def test_how_losses_are_kept_changes_no_number(keep):
    plain,late = fitted([]),fitted([keep()])
    assert torch.equal(torch.stack(late.recorder.losses), torch.stack(plain.recorder.losses))
    assert late.recorder.values==plain.recorder.values and same(state(late.model), state(plain.model))

def test_everything_at_once_trains_as_the_plain_learner_does(plain):
    fast = fitted(everything())
    close(torch.stack(fast.recorder.losses), torch.stack(plain.recorder.losses), eps=1e-3)
    close(fast.recorder.values, plain.recorder.values, eps=5e-2)
    for k,v in state(plain.model).items(): close(state(fast.model)[k].float(), v.float(), eps=5e-2)

def test_the_losses_of_an_epoch_are_numbers_until_it_ends_however_it_ends():
    "A tensor kept at every batch leaves holes between those that go, and memory grows by them"
    kinds = []
    def look(cb): kinds.append([type(o) for o in cb.recorder.losses]) if cb.training else None
    learn = fitted([LossNumbers()], cbs=Do(99, after_batch=look))
    n = len(learn.dls.train)
    assert kinds==[[Tensor]*(n*(i//n))+[float]*(i%n+1) for i in range(2*n)]
    assert all(type(o) is Tensor and o.dtype==torch.float32 for o in learn.recorder.losses) and len(learn.recorder.losses)==2*n
    for error in KeyboardInterrupt(),CancelFitException():
        def stop(cb):
            if cb.training and cb.iter==1: raise error
        learn = tiny_learner(fast=[LossNumbers()], cbs=Do(99, after_batch=stop))
        try: learn.fit_byol(1)
        except KeyboardInterrupt: pass
        assert [type(o) for o in learn.recorder.losses]==[Tensor]*2
        assert '_do_epoch' not in vars(learn)

def test_the_default_on_a_cpu_is_the_plain_learner_with_a_fused_optimizer(plain):
    default = fitted(True)
    assert {type(o) for o in default.cbs}=={type(o) for o in plain.cbs}|{LossNumbers}
    assert all(g['fused'] for g in default.opt.opt.param_groups) and not any(g['fused'] for g in plain.opt.opt.param_groups)
    close(torch.stack(default.recorder.losses), torch.stack(plain.recorder.losses), eps=1e-4)

def test_what_is_added_depends_on_the_device():
    for cpu in 'cpu',torch.device('cpu'): assert [type(o) for o in fast_callbacks(cpu)]==[LossNumbers]
    assert [type(o) for o in fast_callbacks('cuda:0')]==[DeviceLosses, ChannelsLast, CudnnBenchmark]

@pytest.mark.parametrize('name', ['sgd', 'adamw', 'lars'])
def test_a_fused_optimizer_makes_the_same_steps(name):
    def steps(fused):
        learn = tiny_learner()
        opt = byol_optimizer(byol_splitter(learn.model), 1e-2, name, fused=fused).opt
        g = torch.Generator().manual_seed(0)
        for _ in range(3):
            for p in learn.model.parameters(): p.grad = torch.empty_like(p).normal_(generator=g) if p.requires_grad else None # laid out as its parameter, as autograd does
            opt.step()
        return state(learn.model)
    for a,b in zip(steps(True).values(), steps(False).values()): close(a.float(), b.float(), eps=1e-5)

def looks(fast, n, monkeypatch):
    "How often the training batches of an epoch over `n` images read a number from the device"
    count,training = Counter(),[False]
    class Watch(Callback):
        order = -1000
        def before_train(self): training[0] = True
        def after_train(self): training[0] = False # before all others, by its order
    learn = tiny_learner(n=n, bs=8, fast=fast, cbs=Watch(), metrics=[])
    with monkeypatch.context() as m:
        for name in ('item', 'cpu', 'tolist'):
            m.setattr(Tensor, name, lambda self, *args, _f=getattr(Tensor, name), _n=name, **kwargs: (count.update([_n] if training[0] else []), _f(self, *args, **kwargs))[1])
        learn.fit(1, 1e-3) # without a scheduler, which looks at numbers of its own on the CPU
    return sum(count.values()), len(learn.dls.train)

def test_no_batch_waits_for_the_device(monkeypatch):
    (slow,n),(slow2,n2) = (looks(False, o, monkeypatch) for o in (64, 128))
    assert slow2-slow >= n2-n, 'fastai looks at every loss'
    monkeypatch.setattr('byol_fastai.augment.check_unit', lambda *args: None) # it reads every batch of a CPU, which waits for nothing, and of a GPU the first one only
    assert looks([DeviceLosses()], 128, monkeypatch)[0]==looks([DeviceLosses()], 64, monkeypatch)[0]

class StopAt(Callback):
    "Stop a fit in the middle of its first epoch"
    order = 60 # after the recorder
    def after_batch(self):
        if self.training and self.iter==1: raise CancelFitException()

@pytest.mark.parametrize('stop', [False, True])
def test_a_fit_leaves_nothing_behind(stop):
    before = torch.backends.cudnn.benchmark
    learn = tiny_learner(fast=everything(), cbs=StopAt() if stop else None)
    learn.add_cb(ProgressCallback())
    lent = learn.recorder.loss,learn.recorder.smooth_loss
    with learn.no_bar(): learn.fit_byol(1)
    assert torch.backends.cudnn.benchmark==before
    assert (learn.recorder.loss,learn.recorder.smooth_loss)==lent
    assert all(m._compiled_call_impl is None for m in learn.model.modules())
    assert all(not o.is_cuda for o in learn.recorder.losses) and len(learn.recorder.losses)==(2 if stop else len(learn.dls.train))

@pytest.mark.parametrize('error', [KeyboardInterrupt(), ValueError('an error')])
def test_a_plain_learner_of_fastai_is_left_in_order_after_ctrl_c(error):
    "fastai does not call `after_fit` then"
    def stop(cb): raise error
    dls = byol_dls('shapes', bs=8, n=48, size=16)
    learn = Learner(dls, nn.Sequential(TinyResNet(width=8), nn.Linear(32, 10)), CrossEntropyLossFlat(), cbs=[DeviceLosses(), CudnnBenchmark(), Compiled(backend='eager'), Do(99, after_step=stop)])
    lent = learn.recorder.loss,learn.recorder.smooth_loss
    with learn.no_bar(), learn.no_logging(), pytest.raises(type(error)): learn.fit(1)
    assert not torch.backends.cudnn.benchmark and lent==(learn.recorder.loss, learn.recorder.smooth_loss) and '_do_epoch' not in vars(learn)
    assert all(m._compiled_call_impl is None for m in learn.model.modules()) and 'after_batch' not in vars(learn.progress)

def test_the_smoothed_loss_goes_on_from_where_it_was_put():
    "A checkpoint puts it back before the first new epoch"
    def restore(cb): cb.recorder.smooth_loss.count,cb.recorder.smooth_loss.val = 50, torch.tensor(3.)
    a,b = (fitted(fast, 1, cbs=Do(75, before_epoch=restore)) for fast in ([], [DeviceLosses()]))
    assert torch.equal(torch.stack(a.recorder.losses), torch.stack(b.recorder.losses)) and a.recorder.losses[0]>1.5

def test_validating_in_the_middle_of_a_fit_gives_nothing_back_too_early():
    seen = []
    learn = tiny_learner(fast=[CudnnBenchmark()])
    learn.add_cb(Do(40, after_train=lambda cb: cb.learn.validate(), before_batch=lambda cb: cb.training and seen.append(torch.backends.cudnn.benchmark)))
    learn.fit_byol(2)
    assert all(seen) and not torch.backends.cudnn.benchmark

def test_the_views_keep_batch_statistics_of_their_own():
    learn,seen = tiny_learner(fast=True),[]
    for m in (learn.model.encoder, learn.model.target[0]): m.register_forward_pre_hook(lambda m, args: seen.append(len(args[0])) if m.training else None)
    learn.fit_byol(1)
    assert len(seen)==4*len(learn.dls.train) and set(seen)=={learn.dls.train.bs}
