"The whole learner: what is optimized and how, the learning-rate schedule by hand, and everything that a fit must not change"
import math, numpy as np, pytest, torch
from torch import nn
from fastai.callback.training import GradientClip
from fastai.vision.all import AMPMode, Adam, Callback
from byol_fastai.precision import CPUMixedPrecision, cpu_has_bfloat16, mixed_precision
from byol_fastai.all import byol_policies, run_config
from conftest import Do, same, state, tiny_learner

def groups(learn): learn.create_opt(); return learn.opt.opt.param_groups

def test_one_step_is_the_equation_written_out():
    "views -> crossed losses of both views, summed -> plain SGD on the online network -> moving average, all by hand with torch alone"
    torch.manual_seed(0)
    learn = tiny_learner(opt='sgd', wd=0., tau=.9)
    model,views = learn.model, []
    was = {k: v.clone() for k,v in model.state_dict().items()}
    learn.add_cb(Do(99, before_batch=lambda cb: cb.training and views.append([v.clone() for v in cb.xb])))
    def stop(cb): cb.grown = state(cb.model); raise KeyboardInterrupt
    once = Do(99, after_batch=stop)
    with pytest.raises(KeyboardInterrupt): learn.fit(1, .1, cbs=once)
    other = tiny_learner(opt='sgd').model
    other.load_state_dict(was)
    v1,v2 = views[0]
    online = lambda v: other.predictor(other.projector(other.encoder(v)))
    loss = 0
    for a,b in (v1, v2),(v2, v1):
        p,z = online(a), other.target(b).detach()
        loss = loss + (2-2*torch.cosine_similarity(p, z)).mean()
    loss.backward()
    step = 1+.9 # Nesterov: the gradient, and the first of the momentum that it will lead to
    for name,p in other.named_parameters():
        if p.grad is None: continue
        torch.testing.assert_close(once.grown[name], p.detach()-.1*step*p.grad, rtol=1e-4, atol=1e-6)
    followed = [*other.encoder.parameters(), *other.projector.parameters()]
    for (name,t),p in zip(other.target.named_parameters(), followed):
        torch.testing.assert_close(once.grown[f'target.{name}'], .9*t + .1*(p-.1*step*p.grad).detach(), rtol=1e-4, atol=1e-6)

@pytest.mark.parametrize('opt', ['adamw', 'sgd', 'lars'])
def test_biases_and_batchnorm_get_no_weight_decay_and_the_rest_does(opt):
    learn = tiny_learner(opt=opt)
    learn.fit_byol(1)
    gs = learn.opt.opt.param_groups
    assert all((g['weight_decay']==0) == all(p.ndim<=1 for p in g['params']) and len({p.ndim<=1 for p in g['params']})==1 for g in gs)
    assert all(math.isfinite(o) for o in learn.recorder.losses)

def test_lars_does_not_adapt_biases_and_batchnorm():
    learn = tiny_learner(opt='lars')
    gs = groups(learn)
    for g in gs: g.update(lr=.1, momentum=0.)
    for p in learn.model.parameters(): p.grad = torch.full_like(p, .5) if p.requires_grad else None
    was = {p: p.detach().clone() for g in gs for p in g['params']}
    learn.opt.opt.step()
    for g in gs:
        plain = [torch.allclose(p, was[p]-.1*.5, atol=1e-7) for p in g['params']]
        assert all(plain) if g['weight_decay']==0 else not any(plain), 'weights step in proportion to their norm, biases do not'

@pytest.mark.parametrize('flat, top', [(0., 3), (.1, 3), (.6, 9)])
def test_the_learning_rate_warms_up_in_a_line_stays_and_falls_in_half_a_cosine_without_restart(flat, top):
    learn = tiny_learner(n=64, predictor_lr_mult=10.) # 3 batches an epoch
    rates = []
    learn.add_cb(Do(99, before_step=lambda cb: rates.append([h['lr'] for h in cb.opt.hypers])))
    learn.fit_byol(5, .4, warmup=1, flat=flat)
    K,w = 15, 3
    want = [.4*k/w if k<w else .4*(1+math.cos(math.pi*max(0, k-top)/(K-top)))/2 for k in range(K)]
    np.testing.assert_allclose([r[0] for r in rates], want, atol=1e-6)
    np.testing.assert_allclose([r[1] for r in rates], want, atol=1e-6)
    np.testing.assert_allclose([r[2:] for r in rates], [[10*o]*2 for o in want], atol=1e-6)

def test_the_four_groups_are_encoder_and_projector_then_predictor():
    learn = tiny_learner()
    gs,model = groups(learn), learn.model
    ids = lambda *ms: {id(p) for m in ms for p in m.parameters()}
    assert {id(p) for g in gs[:2] for p in g['params']}==ids(model.encoder, model.projector)
    assert {id(p) for g in gs[2:] for p in g['params']}==ids(model.predictor)

def test_a_fit_learns_and_its_loss_stays_in_0_to_8():
    learn = tiny_learner()
    learn.fit_byol(10, 1e-2)
    losses = [o.item() for o in learn.recorder.losses]
    assert all(0<=o<=8 for o in losses) and np.mean(losses[-4:]) < .75*np.mean(losses[:4])
    assert list(learn.recorder.metric_names)==['epoch', 'train_loss', 'valid_loss', 'feature_std', 'effective_rank', 'time']

def test_the_same_seed_gives_the_same_weights_to_the_bit():
    def weights(seed): learn = tiny_learner(seed=seed); learn.fit_byol(2); return state(learn.model)
    a,b,c = map(weights, (1, 1, 2))
    assert same(a, b) and not same(a, c)

def test_a_module_of_ones_own_and_other_callbacks_fit_in():
    conv = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    conv.n_features = 6
    learn = tiny_learner(arch=conv, cbs=GradientClip(.1))
    learn.fit_byol(1)
    assert learn.model.encoder is conv and math.isfinite(learn.recorder.losses[-1])

def test_fit_byol_chooses_tau_by_the_length_of_the_fit_unless_told():
    learn = tiny_learner(); learn.fit_byol(1)
    told = tiny_learner(tau=.5); told.fit_byol(1)
    assert learn.ema_target.taus[0]==pytest.approx(.97) and told.ema_target.taus[0]==pytest.approx(.5)

def pretend(monkeypatch, **has): monkeypatch.setattr(torch.cpu, 'get_capabilities', lambda: has, raising=False)

@pytest.mark.parametrize('has, does', [({}, False), (dict(avx512_bf16=False, avx2=True), False), (dict(avx512_bf16=True, amx_bf16=False), False), (dict(amx_bf16=True), True)])
def test_a_cpu_has_bfloat16_where_it_has_a_matrix_unit_for_it(monkeypatch, has, does):
    pretend(monkeypatch, **has)
    assert cpu_has_bfloat16() is does

def test_an_older_pytorch_does_not_tell(monkeypatch):
    monkeypatch.delattr(torch.cpu, 'get_capabilities', raising=False)
    assert cpu_has_bfloat16() is False
    with pytest.warns(UserWarning, match='slower than in 32 bits'): tiny_learner(cbs=CPUMixedPrecision()).fit_byol(1)

def test_mixed_precision_by_itself_is_for_cards(): assert mixed_precision(torch.device('cpu'))==mixed_precision(torch.device('mps'))==[]

@pytest.mark.parametrize('capability, kind', [((7, 5), AMPMode.FP16), ((8, 0), AMPMode.BF16), ((9, 0), AMPMode.BF16)])
def test_a_card_computes_in_bfloat16_from_capability_8_on(monkeypatch, capability, kind):
    monkeypatch.setattr(torch.cuda, 'get_device_capability', lambda device: capability)
    assert [o.amp_mode for o in mixed_precision(torch.device('cuda'))]==[kind]

class Dtypes(Callback):
    "The number formats that a training batch meets"
    order = 20 # after the target has made the labels
    def before_batch(self): self.seen = dict(labels={o.dtype for o in self.yb})
    def after_pred(self): self.seen.update(projections={o.dtype for o in self.model.projections})
    def after_loss(self): self.seen.update(loss=self.learn.loss.dtype, inside=torch.is_autocast_enabled('cpu'))

def test_16_bits_on_a_cpu_train_the_same_network_up_to_rounding(monkeypatch):
    pretend(monkeypatch, amx_bf16=True)
    plain,half = tiny_learner(n=96, bs=32, opt='sgd'), tiny_learner(n=96, bs=32, opt='sgd', cbs=[CPUMixedPrecision(), seen := Dtypes()])
    for o in plain, half: o.fit_byol(3)
    assert seen.seen==dict(labels={torch.bfloat16}, projections={torch.bfloat16}, loss=torch.float32, inside=False)
    assert all(o.dtype==torch.float32 for o in half.model.parameters()) and not torch.is_autocast_enabled('cpu')
    a,b = (torch.stack(o.recorder.losses) for o in (plain, half))
    assert not torch.equal(a, b)
    torch.testing.assert_close(a, b, rtol=0, atol=.3)   # of at most 8; a new network sees all images as almost the same, and its BatchNorm blows the rest up, rounding included
    assert b[-1]<b[0]

def test_wrong_settings_are_refused_in_a_sentence():
    learn = tiny_learner()
    with pytest.raises(ValueError, match='at least one epoch'): learn.fit_byol(0)
    with pytest.raises(ValueError, match='warmup=3 must lie between 0 and the 2 epochs'): learn.fit_byol(2, warmup=3)
    with pytest.raises(ValueError, match=r'flat=1.0 must lie in \[0, 1\)'): learn.fit_byol(2, flat=1.)
    with pytest.raises(ValueError, match=r'flat=-0.1 must lie in \[0, 1\)'): run_config(flat=-.1)
    with pytest.raises(ValueError, match='lr=-1.0 must be positive'): learn.fit_byol(1, -1.)
    with pytest.raises(ValueError, match="opt='adam' is not known"): tiny_learner(opt='adam')
    with pytest.raises(ValueError, match='cannot take images of 16 pixels'): tiny_learner(arch=nn.Sequential(nn.Conv2d(3, 4, 17), nn.Flatten()))
    with pytest.raises(ValueError, match='give one of them'): tiny_learner(opt='sgd', opt_func=Adam)
    with pytest.raises(ValueError, match='got 3, but a pair is wanted'): tiny_learner(policies=byol_policies(16)+byol_policies(16)[:1])
    with pytest.raises(ValueError, match='tau=1.5'): tiny_learner(tau=1.5)
