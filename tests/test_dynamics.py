"The law of total variance, the linear theory against gradients and samples, and DirectPred against numpy"
import numpy as np, pytest, torch
from hypothesis import given, strategies as st
from scipy.linalg import expm
from torch import nn
from byol_fastai.all import make_shapes
from byol_fastai.dynamics import (DirectPred, LinearBYOL, LinearPredictor, VarianceWatch, alignment,
    direct_predictor, linear_predictor, variance_terms)
from conftest import Do, same, state, tiny_learner

def fit(learn, n_epoch=1, **kwargs):
    with learn.no_bar(): learn.fit_byol(n_epoch, lr=1e-3, **kwargs)
    return learn

# --- the variance and its parts

seeds = st.integers(0, 2**31)
views = st.builds(lambda v, n, d, scale, seed: scale*np.random.default_rng(seed).normal(1, 1, (v, n, d)),
    st.integers(2, 6), st.integers(2, 20), st.integers(1, 9), st.floats(1e-3, 1e3), seeds)

@given(views)
def test_the_parts_add_up_to_the_variance_of_numpy(z):
    parts = variance_terms(torch.tensor(z))
    total = z.reshape(-1, z.shape[-1]).var(0).sum()
    assert parts['total']==pytest.approx(total, rel=1e-9)
    assert parts['within']+parts['between']==pytest.approx(total, rel=1e-9)
    within = np.mean([z[:,i].var(0).sum() for i in range(z.shape[1])])
    assert parts['within']==pytest.approx(within, rel=1e-9)

@given(views, seeds)
def test_moving_whole_images_changes_only_what_lies_between_them(z, seed):
    moved = z + 10*z.std()*np.random.default_rng(seed).normal(size=(1, *z.shape[1:]))
    a,b = (variance_terms(torch.tensor(o)) for o in (z, moved))
    assert a['within']==pytest.approx(b['within'], rel=1e-6) and a['between']!=b['between']

def test_parts_without_views_or_without_images_are_zero():
    z = torch.randn(1, 7, 3).expand(4, 7, 3)
    assert variance_terms(z)['within']==pytest.approx(0, abs=1e-12)
    z = torch.randn(4, 1, 3).expand(4, 7, 3)
    assert variance_terms(z)['between']==pytest.approx(0, abs=1e-12)

@pytest.mark.parametrize('shape', [(5, 3), (1, 5, 3), (5, 1, 3), (2, 3, 4, 5)])
def test_what_is_no_stack_of_views_is_refused(shape):
    says = r'projections \[V,N,d\] of at least 2 views'
    with pytest.raises(ValueError, match=says): variance_terms(torch.randn(shape))

def watched(**kwargs):
    x = make_shapes(6, 16)[0].float()/255
    return tiny_learner(cbs=VarianceWatch(x, n_views=3, every=2), **kwargs)

def test_watching_changes_nothing_and_the_error_is_never_below_the_noise_of_the_views():
    learn,plain = fit(watched(), 2),fit(tiny_learner(), 2)
    assert same(state(learn.model), state(plain.model))
    rows = learn.variance_watch.rows
    assert [r['step'] for r in rows]==[1, 3]
    for r in rows:
        assert r['within']+r['between']==pytest.approx(r['total'], rel=1e-5) and 0<r['total']<=1
        assert r['error']>=r['within']

def test_a_network_that_answers_with_the_target_makes_an_error_of_twice_the_noise_plus_nothing():
    "Prediction and target of two views are two draws of the same: E|z1-z2|^2 is twice the variance within"
    learn = watched(tau=0., schedule='constant')
    learn.model.predictor = nn.Identity()
    learn.two_views.view1 = learn.two_views.view2
    learn.variance_watch.n_views = 200
    learn.model.update_target(0.)
    row = learn.variance_watch.look()
    assert row['error']==pytest.approx(2*row['within'], rel=.1)

@pytest.mark.parametrize('kwargs', [dict(n_views=1), dict(every=0)])
def test_a_watch_that_cannot_see_is_refused(kwargs):
    x = torch.rand(4, 3, 16, 16)
    with pytest.raises(ValueError, match='look at 2 views or more'): VarianceWatch(x, **kwargs)

# --- the linear theory

def covariance(n, seed, scale=1.):
    a = np.random.default_rng(seed).normal(size=(n, n))
    return scale*a@a.T/n

def population_loss(m, P, W, T):
    "Half the mean of |P W x1 - T x2|^2, from the covariances"
    X,both = torch.tensor(m.x_cov),torch.tensor(m.x_cov+m.noise_cov)
    A = P@W
    return (torch.trace(A@both@A.T) - 2*torch.trace(A@X@T.T) + torch.trace(T@both@T.T))/2

@given(st.integers(2, 6), st.integers(1, 4), seeds, st.floats(.1, 10), st.floats(0, .5), st.booleans())
def test_the_slopes_are_the_gradients_of_the_loss(n, d, seed, speed, decay, stop):
    m = LinearBYOL(covariance(n, seed), covariance(n, seed+1, .3), predictor_lr=speed, decay=decay,
        target_rate=.5 if stop else None, stop_gradient=stop)
    P,W,T = m.start(d, seed=seed)
    T = T+.1 if stop else W
    leaf = [torch.tensor(o, requires_grad=True) for o in (P, W)]
    loss = population_loss(m, *leaf, torch.tensor(T) if stop else leaf[1])
    dP,dW = (o.numpy() for o in torch.autograd.grad(loss, leaf))
    got = m.slopes(P, W, T)
    np.testing.assert_allclose(got[0], -speed*dP-decay*P, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(got[1], -dW-decay*W, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(got[2], .5*(W-T) if stop else got[1], rtol=1e-8, atol=1e-10)

@given(st.integers(2, 6), st.integers(1, 4), seeds)
def test_with_gradients_through_both_sides_the_encoder_shrinks_at_four_times_the_loss(n, d, seed):
    m = LinearBYOL(covariance(n, seed), covariance(n, seed+1), target_rate=None, stop_gradient=False)
    P,W,T = m.start(d, seed=seed)
    loss = population_loss(m, *map(torch.tensor, (P, W, W))).item()
    assert 2*(W*m.slopes(P, W, T)[1]).sum()==pytest.approx(-4*loss, rel=1e-8, abs=1e-10)

X,NOISE = np.diag([1.5, 1., .5]),.2*np.eye(3)

@pytest.mark.parametrize('change', [{}, dict(target_rate=None), dict(predictor=False),
    dict(predictor_lr=4., decay=.1), dict(stop_gradient=False, target_rate=None)])
def test_gradient_descent_on_samples_follows_the_equation_the_closer_the_smaller_its_steps(change):
    m = LinearBYOL(X, NOISE, **change)
    begin,times = m.start(2, seed=3),np.array([0., 1., 3.])
    want = m.integrate(begin, times)
    def gap(lr, bs):
        got = m.descend(begin, times, lr, bs)
        return max(np.abs(a-b).max() for o,true in zip(got, want) for a,b in zip(o, true))
    fine,coarse = gap(.005, 256),gap(.1, 16)
    assert fine<.05 and fine<coarse

def test_without_predictor_the_linear_network_decays_as_an_exponential():
    "P = 1, the target is the online network: dW/dt = -W X'"
    m = LinearBYOL(X, NOISE, predictor=False, target_rate=None)
    begin = m.start(2)
    assert np.array_equal(begin[0], np.eye(2))
    P,W,T = m.integrate(begin, np.array([0., 5.]))[-1]
    np.testing.assert_allclose(W, begin[1]@expm(-5*NOISE), rtol=1e-5)
    assert np.array_equal(T, W) and np.array_equal(P, np.eye(2))

def test_decay_balances_predictor_and_encoder_at_the_rate_of_the_theory():
    "d/dt (W W^T - P^T P/alpha) = -2 eta (W W^T - P^T P/alpha)"
    m = LinearBYOL(X, NOISE, predictor_lr=2., decay=.05)
    path = m.integrate(m.start(2), np.array([0., 10., 40.]))
    first,middle,last = (W@W.T-P.T@P/2 for P,W,T in path)
    np.testing.assert_allclose(middle, np.exp(-2*.05*10)*first, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(last, np.exp(-2*.05*40)*first, rtol=1e-2, atol=1e-6)

def test_collapse_is_at_rest_with_and_without_decay():
    for decay in (0, .1):
        m = LinearBYOL(X, NOISE, decay=decay)
        assert all(not o.any() for o in m.slopes(np.zeros((2, 2)), np.zeros((2, 3)), np.zeros((2, 3))))

@pytest.mark.parametrize('make,says', [
    (lambda: LinearBYOL(np.eye(3), np.eye(2)), 'two symmetric covariance matrices'),
    (lambda: LinearBYOL(np.ones(3), np.ones(3)), 'two symmetric covariance matrices'),
    (lambda: LinearBYOL(np.array([[1., .5], [0., 1.]]), np.eye(2)), 'two symmetric covariance matrices'),
    (lambda: LinearBYOL(-np.eye(2), np.eye(2)), 'negative eigenvalues'),
    (lambda: LinearBYOL(X, NOISE, decay=-1.), 'must not be negative'),
    (lambda: LinearBYOL(X, NOISE, stop_gradient=False), 'set target_rate=None')])
def test_a_model_that_makes_no_sense_is_refused(make, says):
    with pytest.raises(ValueError, match=says): make()

def test_alignment_is_one_for_shared_eigenvectors_and_has_the_sign_of_the_eigenvalue():
    u = np.linalg.qr(np.random.default_rng(0).normal(size=(4, 4)))[0]
    F_,P = u@np.diag([4., 3, 2, 1])@u.T,u@np.diag([.5, -1, 2, 7])@u.T
    np.testing.assert_allclose(alignment(P, F_), [1, -1, 1, 1], atol=1e-9)
    np.testing.assert_allclose(alignment(np.array([[0., 1.], [-1., 0.]]), np.diag([2., 1.])), 0, atol=1e-12)
    with pytest.raises(ValueError, match='two matrices'): alignment(np.eye(2), np.eye(3))

# --- DirectPred

@given(st.integers(1, 9), seeds, st.floats(0, 1), st.booleans())
def test_the_predictor_is_that_of_numpy(d, seed, eps, relative):
    F_ = covariance(d, seed)
    s,u = np.linalg.eigh(F_)
    if relative: s = s/s.max()
    want = u@np.diag(np.sqrt(np.maximum(s, 0))+eps*s.max())@u.T
    np.testing.assert_allclose(direct_predictor(torch.tensor(F_), eps, relative), want, rtol=1e-6, atol=1e-6)

def test_a_correlation_of_nothing_gives_a_predictor_of_nothing_and_no_nan():
    for relative in (False, True): assert not direct_predictor(torch.zeros(3, 3), relative=relative).any()

@pytest.mark.parametrize('args,says', [((torch.randn(3, 2),), r'correlation \[d,d\]'),
    ((torch.randn(3),), r'correlation \[d,d\]'), ((torch.eye(3), -.1), 'must not be negative'),
    ((torch.eye(3), float('nan')), 'must not be negative')])
def test_bad_correlations_are_refused(args, says):
    with pytest.raises(ValueError, match=says): direct_predictor(*args)

@pytest.mark.parametrize('kwargs', [dict(eps=-1), dict(rho=1.), dict(rho=-.1), dict(every=0)])
def test_bad_settings_are_refused(kwargs):
    with pytest.raises(ValueError, match='rho in'): DirectPred(**kwargs)

def test_the_callback_is_the_recurrence_of_the_paper():
    "Against numpy: the projections that every step saw, averaged by hand, taken apart by hand"
    learn,seen = linear_predictor(tiny_learner()),[]
    def look(cb): seen.append(torch.cat(cb.model.projections).numpy().copy())
    spy = Do(order=DirectPred.order-1, after_step=look)
    fit(learn, 2, cbs=[DirectPred(eps=.2, rho=.6), spy])
    F_ = None
    for z in seen:
        now = z.T@z/len(z)
        F_ = now if F_ is None else .6*F_+.4*now
    s,u = np.linalg.eigh(F_.astype(np.float64))
    want = u@np.diag(np.sqrt(np.maximum(s, 0))+.2*s.max())@u.T
    assert len(seen)==4
    np.testing.assert_allclose(learn.model.predictor.correlation, F_, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(learn.model.predictor.weight.detach(), want, rtol=1e-3, atol=1e-4)

def test_no_gradient_trains_it_during_the_fit_and_afterwards_it_can_be_trained_again():
    learn,grads = linear_predictor(tiny_learner(cbs=DirectPred())),[]
    def look(cb): grads.append(cb.model.predictor.weight.grad)
    fit(learn, cbs=Do(after_backward=look))
    assert grads and all(o is None for o in grads) and learn.model.predictor.weight.requires_grad

def test_after_an_error_the_weight_can_be_trained_again():
    learn = linear_predictor(tiny_learner(cbs=DirectPred()))
    def fail(cb): raise KeyError('on purpose')
    with pytest.raises(KeyError): fit(learn, cbs=Do(after_step=fail))
    assert learn.model.predictor.weight.requires_grad

def test_a_new_predictor_every_other_step():
    weights = []
    learn = linear_predictor(tiny_learner(cbs=DirectPred(every=2)))
    def look(cb): weights.append(cb.model.predictor.weight.clone())
    fit(learn, 2, cbs=Do(order=DirectPred.order+1, after_step=look))
    changed = [not torch.equal(a, b) for a,b in zip(weights, weights[1:])]
    assert torch.equal(weights[0], torch.eye(8)) and changed[:3]==[True, False, True]

def test_a_step_that_was_cancelled_does_not_count():
    from fastai.vision.all import CancelStepException
    def cancel(cb):
        raise CancelStepException()
    learn = linear_predictor(tiny_learner(cbs=DirectPred()))
    fit(learn, cbs=Do(order=DirectPred.order+5, before_step=cancel))
    p = learn.model.predictor
    assert not p.correlation.any() and torch.equal(p.weight, torch.eye(8))

def test_it_goes_on_with_the_average_of_an_earlier_fit():
    learn = fit(linear_predictor(tiny_learner(cbs=DirectPred())))
    other = linear_predictor(tiny_learner(cbs=DirectPred(rho=.999)))
    other.model.load_state_dict(learn.model.state_dict())
    was = learn.model.predictor.correlation.clone()
    fit(other)
    torch.testing.assert_close(other.model.predictor.correlation, was, rtol=.2, atol=.02)

def test_it_asks_for_a_linear_predictor():
    learn = tiny_learner(cbs=DirectPred())
    with pytest.raises(TypeError, match=r'MLPHead: call linear_predictor\(learn\) first'): fit(learn)

def test_linear_predictor_wants_a_byol():
    learn = tiny_learner()
    without = tiny_learner().model
    without.projector = nn.Identity()
    for model in nn.Linear(2, 2),without:
        learn.model = model
        with pytest.raises(TypeError, match='no projector and predictor'): linear_predictor(learn)

def test_a_learned_linear_predictor_is_trained_even_where_an_optimizer_was_there_before():
    learn = tiny_learner()
    learn.create_opt()
    linear_predictor(learn)
    p = learn.model.predictor
    assert isinstance(p, LinearPredictor) and p.weight.shape==(8, 8)
    before = p.weight.detach().clone()
    fit(learn)
    assert not torch.equal(before, p.weight) and not p.correlation.any()
