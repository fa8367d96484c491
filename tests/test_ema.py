"The target network in time: schedules, what counts as a step, and the moving average itself, against hand computation"
import math, pytest, torch
from torch import nn
from hypothesis import given, strategies as st
from fastai.vision.all import CancelStepException, Learner, MixedPrecision
from fastai.callback.training import GradientAccumulation
from byol_fastai.all import BYOL, BYOLLoss, EMATarget, TinyResNet, TwoViews, tau_constant, tau_cosine, tau_linear
from byol_fastai.ema import base_tau
from byol_fastai.ema import make_targets
from conftest import Do, same, state, tiny_learner

BASE = .9
def cosine(K): return [1 - (1-BASE)*(math.cos(math.pi*k/K)+1)/2 for k in range(K)]
def ema_learner(**kwargs): return tiny_learner(tau=BASE, **kwargs) # 48 images, 36 of them to train on: 2 batches of 16 an epoch
def target(learn): return state(learn.model.target)

def count_steps(learn):
    "A list that grows with every step that torch's optimizer really makes"
    steps = []
    learn.create_opt()
    learn.opt.opt.register_step_post_hook(lambda *args: steps.append(1))
    return steps

def test_schedules_at_both_ends_and_in_the_middle():
    assert [tau_cosine(k, 100, .996) for k in (0, 50, 100)] == pytest.approx([.996, .998, 1.], abs=1e-15)
    assert [tau_linear(k, 1000, .996, .999) for k in (0, 500, 1000, 5000)] == pytest.approx([.996, .9975, .999, .999], abs=1e-15)
    assert [tau_constant(k, .99) for k in (0, 7)] == [.99, .99]
    assert [base_tau(n) for n in (40, 300, 1000)] == [.97, .99, .996], "the authors' presets"

@given(st.integers(1, 500), st.floats(0, 1))
def test_schedules_rise_and_stay_between_base_and_1(K, base):
    for taus in [tau_cosine(k, K, base) for k in range(K+1)],[tau_linear(k, K, base, 1.) for k in range(K+1)]:
        assert all(a<=b+1e-15 for a,b in zip(taus, taus[1:])) and taus[0]==pytest.approx(base) and taus[-1]==pytest.approx(1)

def test_wrong_settings_are_refused_in_a_sentence():
    with pytest.raises(ValueError, match=r'tau=1.5 must lie in \[0, 1\]'): EMATarget(1.5)
    with pytest.raises(ValueError, match="schedule='cosin' is not known"): EMATarget(.9, 'cosin')

def test_the_schedule_spans_the_fit_and_ticks_once_per_optimizer_step():
    learn = ema_learner()
    steps = count_steps(learn)
    learn.fit(3)
    assert len(steps)==6
    assert learn.ema_target.taus == pytest.approx(cosine(6)), 'first update k = 0, last k = K - 1, no restart at an epoch'

def test_a_new_fit_starts_a_new_schedule():
    learn = ema_learner()
    learn.fit(2); learn.fit(1)
    assert learn.ema_target.taus == pytest.approx(cosine(2))

def test_a_fit_that_goes_on_from_an_epoch_goes_on_with_the_schedule():
    learn = ema_learner()
    learn.fit(4, start_epoch=1)
    assert learn.ema_target.taus == pytest.approx(cosine(8)[2:])

@pytest.mark.parametrize('schedule, want', [('constant', [BASE]*4), ('linear', [.9, .925, .95, .975]), (lambda k, K: k/K, [0, .25, .5, .75])])
def test_other_schedules_tick_alike(schedule, want):
    learn = ema_learner(schedule=schedule)
    learn.fit(2)
    assert learn.ema_target.taus == pytest.approx(want)

@pytest.mark.parametrize('n_acc', [32, 40, 80])
def test_accumulated_batches_tick_once_and_K_is_the_number_of_optimizer_steps(n_acc):
    learn = ema_learner(n=64, cbs=GradientAccumulation(n_acc)) # 3 batches of 16 an epoch; 80 images take longer than one
    steps = count_steps(learn)
    learn.fit(3)
    assert len(steps)==9//math.ceil(n_acc/16)
    assert learn.ema_target.taus == pytest.approx(cosine(len(steps)))

@pytest.mark.parametrize('order', [MixedPrecision.order, 50])
def test_a_skipped_step_moves_neither_the_target_nor_the_schedule(order):
    seen = []
    def skip(cb):
        if cb.train_iter in (0, 2): raise CancelStepException() # as `MixedPrecision` does where fp16 gradients overflow
    watch = Do(99, after_step=lambda cb: seen.append(target(cb.learn)))
    learn = ema_learner(cbs=[Do(order, before_step=skip), watch])
    start,steps = target(learn), count_steps(learn)
    learn.fit(2)
    params = [k for k,_ in learn.model.target.named_parameters()]
    moved = [not all(torch.equal(a[k], b[k]) for k in params) for a,b in zip([start, *seen], seen)]
    assert moved==[False, True, False, True] and len(steps)==2
    assert learn.ema_target.taus == pytest.approx(cosine(4)[:2])

def test_validation_moves_nothing():
    learn = ema_learner()
    learn.fit(1)
    was = state(learn.model)
    clock = learn.ema_target.k, learn.ema_target.K, list(learn.ema_target.taus)
    learn.validate(); learn.get_preds(); learn.summary()
    assert same(state(learn.model), was) and (learn.ema_target.k, learn.ema_target.K, learn.ema_target.taus)==clock

def test_looking_at_a_learner_that_never_trained_works():
    learn = ema_learner()
    learn.validate(); learn.summary()
    assert learn.ema_target.K is None and learn.ema_target.k==0
    learn.fit(1)
    assert learn.ema_target.taus == pytest.approx(cosine(2))

def test_a_look_in_the_middle_of_a_fit_does_not_move_the_clock():
    learn = ema_learner()
    def peek(cb):
        if not cb.learn.lock.locked(): cb.learn.validate() # a validation has an epoch of its own
    learn.add_cb(Do(99, after_epoch=peek))
    learn.fit(2)
    assert learn.ema_target.taus == pytest.approx(cosine(4))

def test_wrapped_networks_are_reached():
    learn = ema_learner()
    learn.model = nn.DataParallel(learn.model) # without a GPU it hands everything to the network inside
    learn.fit(2)
    assert learn.ema_target.taus == pytest.approx(cosine(4))
    assert not same(state(learn.model.module.target), state(nn.Sequential(learn.model.module.encoder, learn.model.module.projector)))

def test_the_targets_of_several_gpus_are_spread_over_them(monkeypatch):
    byol,x,seen = BYOL(TinyResNet(width=8), 16, 8).eval(), torch.randn(2, 6, 3, 16, 16), []
    def spread(module, views, device_ids):
        seen.append(device_ids)
        parts = [module(*[v.chunk(len(device_ids))[i] for v in views]) for i in range(len(device_ids))]
        return tuple(map(torch.cat, zip(*parts)))
    monkeypatch.setattr(nn.parallel, 'data_parallel', spread)
    wrapped = nn.DataParallel(byol)
    wrapped.device_ids = [0, 1, 2]
    for got,want in zip(make_targets(wrapped, *x), byol.targets(*x)): torch.testing.assert_close(got, want)
    assert seen==[[0, 1, 2]]

def test_a_model_or_a_batch_that_has_no_targets_is_told_so():
    learn = ema_learner()
    learn.remove_cb(TwoViews)
    with pytest.raises(ValueError, match='add the callback `TwoViews`'): learn.fit(1)
    learn = Learner(learn.dls, TinyResNet(width=8), BYOLLoss(), cbs=EMATarget())
    with pytest.raises(TypeError, match='TinyResNet was asked for its labels'): learn.fit(1)

def test_the_target_is_the_exponential_average_in_float64():
    online = []
    def params(model): return [p.detach().double().clone() for m in (model.encoder, model.projector) for p in m.parameters()]
    learn = ema_learner(schedule='constant', cbs=Do(99, after_step=lambda cb: online.append(params(cb.model))))
    want = [p.detach().double() for p in learn.model.target.parameters()]
    learn.fit(3, 1e-2)
    for now in online: want = [BASE*w + (1-BASE)*o for w,o in zip(want, now)]
    for w,p in zip(want, learn.model.target.parameters()): torch.testing.assert_close(p.detach().double(), w, rtol=1e-5, atol=1e-6)

def test_tau_1_never_moves_the_target_and_tau_0_copies_the_online_network():
    for tau in (1., 0.):
        learn = tiny_learner(tau=tau, schedule='constant')
        was = [p.clone() for p in learn.model.target.parameters()]
        learn.fit(1)
        want = was if tau else [*learn.model.encoder.parameters(), *learn.model.projector.parameters()]
        assert all(map(torch.equal, learn.model.target.parameters(), want))

def test_the_optimizer_never_sees_the_target():
    learn = ema_learner()
    learn.fit(1)
    trained = {id(p) for g in learn.opt.opt.param_groups for p in g['params']}
    frozen = {id(p) for p in learn.model.target.parameters()}
    assert not trained & frozen and trained | frozen == {id(p) for p in learn.model.parameters()}
    learn.unfreeze()
    assert not any(p.requires_grad or p.grad is not None for p in learn.model.target.parameters())

def test_the_target_runs_under_the_same_autocast_as_the_online_network():
    dtypes,ctx = {}, torch.autocast('cpu', dtype=torch.bfloat16)
    autocast = Do(MixedPrecision.order, before_batch=lambda cb: ctx.__enter__(), after_loss=lambda cb: ctx.__exit__(None, None, None))
    learn = ema_learner(cbs=autocast)
    for name,m in dict(online=learn.model.projector, target=learn.model.target[1], predictor=learn.model.predictor).items():
        m.register_forward_hook(lambda m, x, y, name=name: dtypes.setdefault(name, set()).add(y.dtype))
    learn.fit(1)
    assert dtypes==dict.fromkeys(['online', 'target', 'predictor'], {torch.bfloat16})
    assert all(p.dtype==torch.float32 for p in learn.model.parameters())
