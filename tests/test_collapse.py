"Collapse metrics against numpy and scipy, and runs that collapse, or do not, before the eyes of `CollapseGuard`"
import math, numpy as np, pytest, torch
import torch.nn.functional as F
from hypothesis import given, strategies as st
from scipy.stats import entropy
from torch import nn
from fastai.vision.all import OptimWrapper
from byol_fastai.all import (CollapseError, CollapseGuard, EffectiveRank, FeatureStd, FeatureVariance, TinyResNet, condition_number,
    effective_rank, eigenspectrum, feature_std, feature_variance)
from conftest import Do, tiny_learner

embeddings = st.builds(lambda n, d, scale, seed: scale*torch.randn(n, d, generator=torch.Generator().manual_seed(seed)) + scale,
    st.integers(2, 40), st.integers(1, 12), st.floats(.01, 100), st.integers(0, 2**31))

@given(embeddings)
def test_metrics_are_those_of_numpy(z):
    a = z.double().numpy()
    np.testing.assert_allclose(feature_variance(z), a.var(0, ddof=1).mean(), rtol=1e-4)
    unit = a/np.linalg.norm(a, axis=1, keepdims=True)
    np.testing.assert_allclose(feature_std(z), unit.std(0, ddof=1).mean()*a.shape[1]**.5, rtol=1e-3, atol=1e-5)
    want = np.linalg.eigvalsh(np.atleast_2d(np.cov(a.T)))[::-1]
    np.testing.assert_allclose(eigenspectrum(z), want, rtol=1e-3, atol=1e-5*want[0])
    s = np.linalg.svd(a, compute_uv=False)
    np.testing.assert_allclose(effective_rank(z), np.exp(entropy(s/s.sum())), rtol=1e-3)

@given(st.lists(st.floats(.05, 10), min_size=1, max_size=8), st.integers(0, 99))
def test_effective_rank_of_a_known_spectrum(values, seed):
    d = len(values)
    rng = np.random.default_rng(seed)
    u,v = (np.linalg.qr(rng.standard_normal(s))[0] for s in ((20, d), (d, d)))
    z = torch.tensor(u @ np.diag(values) @ v)
    assert effective_rank(z).item() == pytest.approx(np.exp(entropy(values)), rel=1e-9)

def test_feature_std_is_0_on_constant_rows_and_about_1_on_gaussian_rows():
    assert feature_std(torch.ones(64, 128)).item() == pytest.approx(0, abs=1e-6)
    assert feature_std(torch.randn(4096, 128)).item() == pytest.approx(1, abs=.01)
    z = torch.randn(64, 128)
    assert feature_std(1e-3*z).item() == pytest.approx(feature_std(z).item(), rel=1e-4), 'it measures spread, not scale'

def test_effective_rank_counts_directions():
    q,_ = torch.linalg.qr(torch.randn(100, 10))
    assert effective_rank(q).item() == pytest.approx(10, rel=1e-5)
    assert effective_rank(torch.ones(30, 1) @ torch.randn(1, 10)).item() == pytest.approx(1, abs=1e-3)
    assert effective_rank(torch.zeros(5, 3)).item() == 1

def test_condition_number_is_numpys_and_infinite_with_a_warning_where_images_are_too_few():
    z = torch.randn(200, 6, dtype=torch.float64) @ torch.diag(torch.tensor([1., 2, 3, 4, 5, 6], dtype=torch.float64))
    assert condition_number(z) == pytest.approx(np.linalg.cond(np.cov(z.numpy().T)), rel=1e-6)
    for n in (5, 6):
        with pytest.warns(UserWarning, match=f'{n} embeddings of 6 dimensions'): assert condition_number(torch.randn(n, 6))==math.inf

@pytest.mark.parametrize('f', [feature_variance, feature_std, eigenspectrum, effective_rank])
def test_a_single_embedding_is_refused_in_a_sentence(f):
    with pytest.raises(ValueError, match='at least 2 rows'): f(torch.randn(1, 4))

def count_passes(learn):
    "Per batch `(training, online encoder passes, target encoder passes)`"
    n,batches = dict(online=0, target=0), []
    for name,m in dict(online=learn.model.encoder, target=learn.model.target[0]).items():
        m.register_forward_hook(lambda *args, name=name: n.update({name: n[name]+1}))
    def start(cb): n.update(online=0, target=0)
    learn.add_cb(Do(-99, before_batch=start)); learn.add_cb(Do(99, after_batch=lambda cb: batches.append((cb.training, n['online'], n['target']))))
    return batches

def test_all_metrics_and_the_guard_cost_no_forward_pass():
    learn = tiny_learner(metrics=[FeatureVariance(), FeatureStd(), EffectiveRank()], cbs=CollapseGuard(min_std=0, grace=0, every=1))
    batches = count_passes(learn)
    learn.fit(2)
    assert learn.collapse_guard.stds and learn.final_record is not None
    assert set(batches)=={(True, 2, 2), (False, 2, 2)}

def test_the_metrics_in_the_table_are_those_of_all_validation_projections():
    learn = tiny_learner(bs=5, metrics=[FeatureVariance(), FeatureStd(), EffectiveRank()])
    zs = []
    learn.add_cb(Do(99, before_validate=lambda cb: zs.clear(), after_batch=lambda cb: cb.training or zs.append(cb.model.projections[0].clone())))
    learn.fit(1)
    z = torch.cat(zs)
    assert len(zs)>1 and len(z)==12
    assert list(learn.final_record)[-3:] == pytest.approx([f(z).item() for f in (feature_variance, feature_std, effective_rank)])

def collapsing(preds, z1, z2):
    "Both views pulled together with the gradient through both, and nothing to keep images apart"
    return 4 - 4*F.cosine_similarity(*preds).mean()

def guarded(seed, **kwargs):
    return tiny_learner(n=64, bs=24, seed=seed, arch=TinyResNet(width=8), n_hidden=64, n_proj=32, cbs=CollapseGuard(**kwargs)) # 2 batches an epoch

@pytest.mark.parametrize('seed', range(3))
def test_a_run_made_to_collapse_is_caught(seed, capsys):
    learn = guarded(seed, strict=True)
    learn.model.predictor,learn.loss_func = nn.Identity(), collapsing
    cbs = list(learn.cbs)
    with pytest.raises(CollapseError, match=r'Collapse at step \d+: feature_std.*Likely cause: there is no predictor'): learn.fit_byol(40, 1e-2)
    assert learn.collapse_guard.stds[-1][1] < .1 and list(learn.cbs)==cbs
    healthy = guarded(seed)
    learn.model,learn.loss_func,learn.opt = healthy.model, healthy.loss_func, None
    learn.fit_byol(1)
    assert math.isfinite(learn.recorder.losses[-1]), 'the learner is usable afterwards'

def test_a_guard_that_is_not_strict_stops_the_fit_and_says_why(capsys):
    learn = guarded(0)
    learn.model.predictor,learn.loss_func = nn.Identity(), collapsing
    learn.fit_byol(40, 1e-2)
    assert 'there is no predictor' in capsys.readouterr().out and learn.train_iter<80

@pytest.mark.parametrize('seed', range(3))
def test_a_healthy_run_is_left_alone(seed):
    learn = guarded(seed, strict=True)
    learn.fit_byol(30)
    assert learn.train_iter==60 and len(learn.collapse_guard.stds)==5

def test_a_loss_that_is_not_finite_is_named(capsys):
    learn = tiny_learner(cbs=CollapseGuard(grace=0, every=1))
    learn.loss_func = lambda preds, z1, z2: preds[0].sum()*math.nan
    learn.fit(1)
    assert 'the loss is nan' in capsys.readouterr().out

class LikeMPS(torch.Tensor):
    "A tensor that says it lies on Apple's GPU, where matrices cannot be taken apart, until it is copied to the CPU"
    device = property(lambda self: torch.device('mps'))
    def cpu(self): return self.as_subclass(torch.Tensor)

@pytest.mark.parametrize('f', [feature_variance, feature_std, eigenspectrum, effective_rank])
def test_matrices_are_taken_apart_on_the_cpu_where_the_device_cannot(f, monkeypatch):
    z = torch.randn(20, 5)
    for name in ('svdvals', 'eigvalsh'):
        def only_cpu(x, f=getattr(torch.linalg, name)):
            if x.device.type!='cpu': raise NotImplementedError(name)
            return f(x)
        monkeypatch.setattr(torch.linalg, name, only_cpu)
    torch.testing.assert_close(f(z.as_subclass(LikeMPS)), f(z))

class Plain(nn.Module):
    "A model that keeps no projections, but its features"
    def __init__(self):
        super().__init__()
        self.byol = tiny_learner().model
    def forward(self, v1, v2):
        self.features = self.byol.encoder(v1)
        return self.byol(v1, v2)
    def targets(self, *views): return self.byol.targets(*views)
    def update_target(self, tau): self.byol.update_target(tau)

def plain_learner(**kwargs):
    learn = tiny_learner(**kwargs)
    learn.model,learn.opt,learn.splitter = Plain(), None, lambda m: [p for p in m.parameters() if p.requires_grad]
    learn.opt_func = lambda params, lr: OptimWrapper(params, torch.optim.SGD, lr=lr)
    return learn

def test_any_function_from_model_to_embedding_will_do_and_without_one_there_is_a_sentence():
    learn = plain_learner(metrics=[FeatureStd(embedding=lambda model: model.features)], cbs=CollapseGuard(grace=0, every=1, min_std=0, embedding=lambda model: model.features))
    learn.fit(1)
    assert 0<learn.final_record[-1]<2 and learn.collapse_guard.stds
    for kwargs in dict(metrics=[FeatureStd()]),dict(metrics=[], cbs=CollapseGuard(grace=0, every=1)):
        with pytest.raises(TypeError, match=r'`model.projections`, which Plain does not keep.*embedding=lambda model'): plain_learner(**kwargs).fit(1)

def test_metrics_and_guard_reach_into_wrappers():
    learn = tiny_learner(metrics=[FeatureStd()], cbs=CollapseGuard(grace=0, every=1, min_std=0))
    learn.model = nn.DataParallel(learn.model)
    learn.fit(1)
    assert learn.final_record[-1]>0 and len(learn.collapse_guard.stds)==2

def cause_for(images, **kwargs):
    "What a guard that takes every network for collapsed says about it"
    learn = guarded(0, min_std=99, patience=1, grace=1, every=1)
    data = learn.dls.train.dataset
    data.x = images(data.x)
    learn.fit(1)
    return learn.collapse_guard.message

def test_images_that_are_alike_are_named_as_the_cause():
    assert 'all black perhaps' in cause_for(torch.zeros_like)
    noise = lambda x: (x[:1].float() + 5*torch.randn(x.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 255).byte()
    assert 'the images are nearly alike' in cause_for(noise)
    assert 'halve `lr`' in cause_for(lambda x: x)

@pytest.mark.parametrize('lr', [1e-3, 1e-2])
def test_a_healthy_start_on_images_that_are_nearly_alike_is_not_stopped(lr):
    learn = guarded(0)
    data = learn.dls.train.dataset
    data.x = (data.x[:1].float() + 5*torch.randn(data.x.shape)).clamp(0, 255).byte()
    learn.fit_byol(20, lr)
    assert learn.collapse_guard.seen is None or learn.collapse_guard.stds[-1][1]<.1

def test_low_values_do_not_count_while_the_learning_rate_is_warmed_up():
    learn = guarded(0, min_std=99, grace=2, every=2, patience=2)
    learn.fit_byol(100, 1e-3, warmup=10) # 200 steps, 20 of them warm-up
    assert 20 <= learn.train_iter <= 26, learn.train_iter
    learn = guarded(0, min_std=99, grace=2, every=2, patience=2)
    learn.fit(100, 1e-3) # no warm-up: the second low value in a row, or the third, is enough
    assert learn.train_iter <= 6

def test_the_guard_keeps_out_of_the_search_for_a_learning_rate_and_remembers_over_a_look():
    learn = guarded(0, min_std=99, grace=1, every=1, patience=1)
    with pytest.warns(UserWarning, match='Do not rely on this suggestion'): learn.lr_find(show_plot=False)
    assert learn.collapse_guard.seen is None
    learn.fit(1)
    seen = learn.collapse_guard.stds
    learn.validate(); learn.get_preds()
    assert seen and learn.collapse_guard.stds is seen and learn.collapse_guard.seen
