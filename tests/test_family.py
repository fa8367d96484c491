"The relatives of BYOL: each loss against a direct formula and against lightly, each learner against what its method says"
import json, math, numpy as np, pytest, torch
from copy import deepcopy
from functools import partial
from torch.nn import functional as F
from hypothesis import given, strategies as st
from byol_fastai.all import BYOL, BYOLLoss, CollapseGuard, KNNProbe, TinyResNet, byol_dls, byol_policies, labelled_dls
from byol_fastai.family import (FAMILY, DINOLoss, MaskedLatents, MoCoQueue, OwnLabels, PairLoss, Prototypes, TinyViT, barlow_twins_loss, dino_loss, family_learner, hide_block, info_nce_queue, nt_xent, queue_size, take, vicreg_loss)
from conftest import Do, same, state

def pair(n=12, d=6, seed=0):
    "Two batches of projections that are alike but not the same, in double precision"
    g = torch.Generator().manual_seed(seed)
    z = torch.randn(n, d, generator=g, dtype=torch.float64)
    return tuple((z+.5*torch.randn(n, d, generator=g, dtype=torch.float64)).requires_grad_() for _ in range(2))

def value_and_gradients(f, *zs):
    zs = [z.detach().clone().requires_grad_() for z in zs]
    loss = f(*zs)
    return loss.detach().double(), [torch.zeros_like(z) if g is None else g.double() for z,g in zip(zs, torch.autograd.grad(loss, zs, allow_unused=True))]

def agree(f, g, *zs, rtol=1e-6):
    "The same loss and the same gradients"
    (a, das), (b, dbs) = value_and_gradients(f, *zs), value_and_gradients(g, *zs)
    torch.testing.assert_close(a, b, rtol=rtol, atol=1e-8)
    for da,db in zip(das, dbs): torch.testing.assert_close(da, db, rtol=max(rtol, 1e-5), atol=1e-7)

# --- the losses, by their formulas

def unit(z): return z/np.linalg.norm(z, axis=1, keepdims=True)

def nt_xent_by_hand(z1, z2, t):
    z = unit(np.concatenate([z1, z2]))
    n, total = len(z), 0.
    for i in range(n):
        partner = (i+len(z1)) % n
        others = sum(math.exp(z[i]@z[j]/t) for j in range(n) if j != i)
        total -= math.log(math.exp(z[i]@z[partner]/t)/others)
    return total/n

def queue_by_hand(q, k, queue, t):
    q, k, queue = unit(q), unit(k), unit(queue)
    rows = [np.exp(np.array([a@b, *(queue@a)])/t) for a,b in zip(q, k)]
    return -np.mean([math.log(o[0]/o.sum()) for o in rows])

def barlow_by_hand(z1, z2, lambd):
    a, b = ((z-z.mean(0))/np.sqrt(z.var(0)+1e-5) for z in (z1, z2))
    c = a.T@b/len(a)
    d = len(c)
    return sum((1-c[i, i])**2 if i==j else lambd*c[i, j]**2 for i in range(d) for j in range(d))

def vicreg_by_hand(z1, z2, inv, var, cov):
    n, d = z1.shape
    def floor(z): return np.maximum(0, 1-np.sqrt(z.var(0, ddof=1)+1e-4)).mean()
    def off(z):
        c = (z-z.mean(0)).T@(z-z.mean(0))/(n-1)
        return (c**2).sum()/d - (np.diag(c)**2).sum()/d
    return inv*((z1-z2)**2).mean() + var*(floor(z1)+floor(z2))/2 + cov*(off(z1)+off(z2))

def dino_by_hand(s, t, centre, st, tt):
    def softmax(o): e = np.exp(o-o.max(1, keepdims=True)); return e/e.sum(1, keepdims=True)
    return -(softmax((t-centre)/tt)*np.log(softmax(s/st))).sum(1).mean()

@given(st.integers(2, 20), st.integers(2, 9), st.integers(0, 99))
def test_the_losses_are_what_their_formulas_say(n, d, seed):
    z1, z2 = (z.detach() for z in pair(n, d, seed))
    a, b = z1.numpy(), z2.numpy()
    queue, centre = torch.randn(7, d, dtype=torch.float64), torch.randn(d, dtype=torch.float64)
    for got,want in [(nt_xent(z1, z2, .3), nt_xent_by_hand(a, b, .3)), (info_nce_queue(z1, z2, queue, .2), queue_by_hand(a, b, queue.numpy(), .2)),
        (barlow_twins_loss(z1, z2, .02), barlow_by_hand(a, b, .02)), (vicreg_loss(z1, z2, 9., 8., 2.), vicreg_by_hand(a, b, 9., 8., 2.)),
        (dino_loss(z1, z2, centre, .5, .3), dino_by_hand(a, b, centre.numpy(), .5, .3))]:
        assert got.item()==pytest.approx(want, rel=1e-8, abs=1e-10)

@pytest.mark.parametrize('f', [nt_xent, barlow_twins_loss, vicreg_loss, lambda a, b: info_nce_queue(a, b, torch.eye(6).double()),
    lambda a, b: dino_loss(a, b, torch.zeros(6).double(), .5, .4)])
def test_the_gradients_are_those_of_finite_differences(f):
    z1, z2 = pair()
    assert torch.autograd.gradcheck(lambda z: f(z, z2.detach()), z1)

@pytest.mark.parametrize('f', [lambda a, b: info_nce_queue(a, b, torch.eye(6).double()), lambda a, b: dino_loss(a, b, torch.zeros(6).double())])
def test_the_target_gets_no_gradient(f):
    z1, z2 = pair()
    f(z1, z2).backward()
    assert z1.grad.abs().sum()>0 and z2.grad is None

@pytest.mark.parametrize('f', [nt_xent, barlow_twins_loss, vicreg_loss])
def test_pairs_have_no_order(f):
    z1, z2 = pair()
    agree(f, lambda a, b: f(b, a), z1, z2)

@pytest.mark.parametrize('f', [nt_xent, barlow_twins_loss, vicreg_loss])
def test_what_is_no_pair_is_refused_in_a_sentence(f):
    with pytest.raises(ValueError, match='must have the same shape'): f(torch.rand(4, 3), torch.rand(4, 2))
    with pytest.raises(ValueError, match='at least two images'): f(torch.rand(1, 3), torch.rand(1, 3))

@pytest.mark.parametrize('f', [nt_xent, barlow_twins_loss, vicreg_loss])
def test_16_bits_are_computed_in_32(f):
    z1, z2 = (z.detach().bfloat16() for z in pair())
    with torch.autocast('cpu', torch.bfloat16): low = f(z1, z2)
    assert low.dtype==torch.float32 and low==f(z1.float(), z2.float())

# --- the losses, by lightly

def test_nt_xent_is_that_of_lightly():
    loss = pytest.importorskip('lightly.loss').NTXentLoss(temperature=.3)
    agree(lambda a, b: nt_xent(a, b, .3), loss, *pair())

def test_the_queue_is_that_of_lightly():
    theirs = pytest.importorskip('lightly.loss').NTXentLoss(temperature=.2, memory_bank_size=(32, 6)).double()
    q, k = pair()
    agree(lambda z: info_nce_queue(z, k, theirs.memory_bank.bank, .2), lambda z: deepcopy(theirs)(z, k.detach()), q)

def test_barlow_twins_is_that_of_lightly():
    agree(lambda a, b: barlow_twins_loss(a, b, .02), pytest.importorskip('lightly.loss').BarlowTwinsLoss(lambda_param=.02), *pair())

def test_vicreg_is_that_of_lightly():
    agree(vicreg_loss, pytest.importorskip('lightly.loss').VICRegLoss(), *pair())

def test_dino_is_that_of_lightly_and_so_is_its_centre():
    theirs, ours = pytest.importorskip('lightly.loss').DINOLoss(6, center_momentum=.8).double(), DINOLoss(6, momentum=.8).double()
    for seed in range(3):
        s, (t1, t2) = pair(seed=seed), (z.detach() for z in pair(seed=seed+10))
        agree(lambda a, b: deepcopy(ours)((a, b), t1, t2), lambda a, b: deepcopy(theirs)([t1, t2], [a, b]), *s)
        ours(s, t1, t2), theirs([t1, t2], s)
        torch.testing.assert_close(ours.centre, theirs.center.flatten())

# --- what a loss remembers

def test_the_queue_takes_the_newest_keys_in_front_and_lets_the_oldest_go():
    loss = MoCoQueue(4, size=6)
    first, second = torch.randn(4, 4), torch.randn(4, 4)
    loss.push(first); loss.push(second)
    torch.testing.assert_close(loss.queue, F.normalize(torch.cat([second, first[:2]])))

@given(st.integers(1, 5000), st.floats(0, 1))
def test_a_queue_holds_whole_batches_and_no_key_older_than_a_fifth_of_the_targets_memory(bs, tau):
    size = queue_size(bs, tau)
    if size==65536: assert 2*bs*.2/max(1-tau, 1e-9)>=60000
    else: assert size%(2*bs)==0 and size/(2*bs)<=max(1, .2/(1-tau)+.5)

def test_the_queue_of_a_learner_follows_its_batch_and_its_tau():
    for bs,tau,keys in (16, .9, 64),(8, .9, 32),(16, .5, 32),(16, .99, 640): assert len(relative('moco', bs=bs, tau=tau).loss_func.queue)==keys

@pytest.mark.parametrize('make, name', [(MoCoQueue, 'queue'), (DINOLoss, 'centre')])
def test_what_a_loss_remembers_changes_in_training_only(make, name):
    loss = make(8)
    zs, before = [torch.randn(5, 8) for _ in range(4)], getattr(loss, name).clone()
    loss.eval()((zs[0], zs[1]), zs[2], zs[3])
    assert torch.equal(getattr(loss, name), before)
    loss.train()((zs[0], zs[1]), zs[2], zs[3])
    assert not torch.equal(getattr(loss, name), before) and name in loss.state_dict()

# --- the learners

def relative(method, seed=0, n=48, bs=16, size=16, **kwargs):
    "A small silent learner of `method`"
    torch.manual_seed(seed)
    arch = TinyViT(size, 4, 16, 1, 2) if method=='masked latents' else TinyResNet(width=8)
    dls = byol_dls('shapes', bs=bs, n=n, size=size, valid_pct=.25)
    learn = family_learner(method, dls, **dict(arch=arch, n_hidden=16, n_proj=8, opt='adamw', guard=False) | kwargs)
    learn.remove_cbs([cb for cb in learn.cbs if type(cb).__name__=='ProgressCallback'])
    learn.logger = lambda row: None
    return learn

every = pytest.mark.parametrize('method', FAMILY)

@every
def test_every_relative_trains_and_is_measured(method):
    labelled = labelled_dls('shapes', bs=16, size=16, n=60)
    learn = relative(method, cbs=KNNProbe(labelled.train, labelled.valid, k=5))
    before, target = state(learn.model.encoder), state(learn.model.target)
    learn.fit_byol(2, 1e-3)
    assert list(learn.recorder.metric_names)==['epoch', 'train_loss', 'valid_loss', 'feature_std', 'effective_rank', 'knn', 'time']
    assert all(math.isfinite(o) for row in learn.recorder.values for o in row)
    assert not same(before, learn.model.encoder.state_dict())
    assert bool(target)==FAMILY[method].target and same(target, learn.model.target.state_dict())!=FAMILY[method].target
    assert learn.model.encoder(torch.rand(2, 3, 16, 16)).shape==(2, learn.model.encoder.n_features)

@every
def test_all_of_it_is_trained_and_saved(method, tmp_path):
    learn, lacking = relative(method, path=tmp_path), []
    def look(cb): lacking.extend(k for k,p in cb.model.named_parameters() if p.requires_grad and p.grad is None)
    learn.fit_byol(1, 1e-3, cbs=Do(before_step=look))
    assert learn.opt and not lacking
    learn.save('here')
    other = relative(method, seed=1, path=tmp_path)
    assert not same(learn.model.state_dict(), other.model.state_dict())
    other.load('here')
    assert same(learn.model.state_dict(), other.model.state_dict())
    if memory := [k for k in learn.loss_func.state_dict()]: assert all(torch.equal(getattr(other.loss_func, k), getattr(learn.loss_func, k)) for k in memory)

def test_simsiam_is_byol_with_tau_0():
    "The same losses and the same weights after a fit, up to the last bits"
    byol, simsiam = relative('byol', tau=0., schedule='constant'), relative('simsiam')
    simsiam.model.load_state_dict({k: v for k,v in byol.model.state_dict().items() if not k.startswith('target')})
    for learn in (byol, simsiam):
        torch.manual_seed(1)
        learn.dls.rng.seed(1)
        learn.fit_byol(2, 1e-3)
    torch.testing.assert_close(torch.stack(byol.recorder.losses), torch.stack(simsiam.recorder.losses))
    torch.testing.assert_close(dict(byol.model.encoder.named_parameters()), dict(simsiam.model.encoder.named_parameters()), rtol=1e-3, atol=1e-5)

def test_the_loss_and_gradients_of_simsiam_are_those_of_byol_with_tau_0():
    model = BYOL(TinyResNet(width=8), 16, 8).double()
    v1, v2 = torch.rand(2, 6, 3, 16, 16).double()
    def gradients(labels):
        model.zero_grad()
        loss = BYOLLoss()(model(v1, v2), *labels())
        loss.backward()
        return loss.detach(), [p.grad.clone() for p in model.parameters() if p.grad is not None]
    with torch.no_grad(): model.encoder.stem[0].weight += .1
    model.update_target(0.)
    (a, das), (b, dbs) = gradients(lambda: model.targets(v1, v2)), gradients(lambda: model.projections)
    torch.testing.assert_close(a, b); torch.testing.assert_close(das, dbs)
    p, z = model(v1, v2), model.projections
    simsiam = -sum(F.cosine_similarity(o, t).mean() for o,t in ((p[0], z[1]), (p[1], z[0])))/2 # equation 2 of the paper
    torch.testing.assert_close(a, 4+4*simsiam.detach())

def test_without_a_predictor_the_guard_stops_byol_and_says_why():
    guards = [o for o in relative('mean teacher', guard=None).cbs if isinstance(o, CollapseGuard)]
    assert len(guards)==1 and not [o for o in relative('simclr', guard=None).cbs if isinstance(o, CollapseGuard)]

def test_a_config_of_byol_suits_simclr():
    "As an experiment uses it: policies, optimizer, and sizes are those of `byol_learner`"
    policies = byol_policies(16)
    learn = relative('simclr', policies=policies, opt='sgd', lr=.05, wd=1e-4, n_hidden=12, n_proj=6, predictor_lr_mult=20.)
    assert [o.policy for o in (learn.two_views.view1, learn.two_views.view2)]==list(policies)
    assert learn.lr==.05 and learn.model.projector[-1].weight.shape==(6, 12)
    learn.fit_byol(1)
    assert learn.opt.hypers[0]['wd']==1e-4 and isinstance(learn.ema_target, OwnLabels)

def test_the_learning_rate_finder_works_without_a_target():
    learn = relative('simclr')
    before = state(learn.model)
    with pytest.warns(UserWarning, match='Do not rely'): learn.lr_find(num_it=4, show_plot=False)
    assert same(before, learn.model.state_dict())

def test_a_loss_of_ones_own_is_used():
    sharp = relative('simclr', loss_func=PairLoss(partial(nt_xent, temperature=.1)))
    sharp.fit_byol(1, 1e-9)
    z1, z2 = pair(16, 8)
    assert sharp.loss_func((z1, z2), z1, z2)==nt_xent(z1, z2, .1)!=nt_xent(z1, z2)

def test_what_does_not_go_together_is_refused_in_a_sentence():
    with pytest.raises(ValueError, match="method='simclear' is not known: give one of 'byol', 'mean teacher'"): relative('simclear')
    with pytest.raises(ValueError, match='extra_views: simclr has no projections'): relative('simclr', extra_views=2)
    with pytest.raises(TypeError, match='TinyViT only, not from a TinyResNet'): relative('masked latents', arch=TinyResNet(width=8))
    with pytest.raises(ValueError, match='30 pixels cannot be cut into squares of 4'): TinyViT(30, 4)

def test_the_prototypes_are_cosines_and_the_target_begins_with_the_same():
    z, heads = torch.randn(5, 8), relative('dino').model
    said = Prototypes(8, 3)(z)
    assert said.shape==(5, 3) and said.abs().max()<=1+1e-6
    assert same(state(heads.projector), state(heads.target[1])) and heads.projector[-1].directions.shape==(256, 8)

# --- masked latents

@given(st.integers(1, 9), st.integers(2, 8), st.integers(1, 7))
def test_a_hidden_block_is_a_square_and_the_rest_is_seen(n, side, block):
    block = min(block, side-1)
    seen, hidden = hide_block(n, side, block)
    for s,h in zip(seen, hidden):
        assert sorted([*s.tolist(), *h.tolist()])==list(range(side**2))
        rows, cols = h//side, h % side
        assert len(h)==block**2 and rows.max()-rows.min()==cols.max()-cols.min()==block-1

def test_the_online_encoder_does_not_see_what_is_hidden():
    "Whatever is painted over the hidden block, the prediction stays; the target's labels do not"
    model, x = MaskedLatents(TinyViT(16, 4, 16, 1, 2)).eval(), torch.rand(3, 3, 16, 16)
    torch.manual_seed(1); tokens, hidden = model(x)
    mask = torch.zeros(3, 16).scatter(1, hidden, 1.).view(3, 1, 4, 4).repeat_interleave(4, 2).repeat_interleave(4, 3)
    other = torch.where(mask.bool(), torch.rand_like(x), x)
    torch.manual_seed(1); again, places = model(other)
    assert torch.equal(places, hidden)
    torch.testing.assert_close(tokens, again)
    (t,), (u,) = model.targets(x), model.targets(other)
    assert (take(t, hidden)-take(u, hidden)).abs().max()>.1

def test_the_prediction_depends_on_the_place_that_is_asked_for():
    model = MaskedLatents(TinyViT(16, 4, 16, 1, 2)).eval()
    context = torch.rand(1, 12, 16)
    seen = torch.arange(12)[None]
    a, b = (model.predictor(context, seen, torch.tensor([[o]])) for o in (13, 15))
    assert (a-b).abs().max()>1e-4

def test_masked_latents_keep_the_colours_of_their_one_view():
    learn = relative('masked latents')
    p = learn.two_views.view1.policy
    assert p.jitter_p==p.gray_p==p.blur_p==p.solarize_p==0
    seen = []
    learn.add_cb(Do(before_batch=lambda cb: seen.append(len(cb.learn.xb)), order=1))
    learn.fit_byol(1, 1e-3)
    assert set(seen)=={1}

def test_take_takes_other_places_from_each_image():
    t = torch.arange(12.).view(2, 3, 2)
    assert take(t, torch.tensor([[2], [0]])).tolist()==[[[4., 5.]], [[6., 7.]]]

# --- the experiment

def test_the_experiment_chooses_a_rate_once_and_keeps_it(tmp_path, monkeypatch):
    from importlib import import_module
    from byol_fastai import course
    monkeypatch.setattr(course, 'RESULTS', tmp_path)
    family = import_module('family')
    monkeypatch.setattr(family, 'RATES', (1e-4, .05))
    tried = []
    monkeypatch.setattr(family, 'trial', lambda config, method, lr: tried.append(lr) or lr)
    small = '--settings simclr --n 96 --bs 16 --epochs 1 --threads 1'.split()
    family.main([*small, '--seeds', '1'])
    family.main([*small, '--seeds', '2'])
    runs = json.loads((tmp_path/'family.json').read_text())['figures']['runs']['simclr']
    assert tried==[1e-4, .05] and [o['lr'] for o in runs.values()]==[.05]*2 and set(runs)=={'0', '1'}
    assert runs['0']['trials']=={'0.0001': 1e-4, '0.05': .05} and 0<=runs['1']['knn']<=1
