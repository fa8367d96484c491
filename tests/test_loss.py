"`byol_loss` and `BYOLLoss` against the equation, written out in float64, and torch's own cosine"
import numpy as np, pytest, torch
import torch.nn.functional as F
from hypothesis import given, strategies as st
from byol_fastai.all import BYOLLoss, byol_loss

def equation(p, z):
    "BYOL, equation 2, in numpy: the squared distance of the l2-normalised rows, averaged over the batch"
    p,z = (np.asarray(o, dtype=np.float64) for o in (p, z))
    p,z = (o/np.linalg.norm(o, axis=1, keepdims=True) for o in (p, z))
    return ((p-z)**2).sum(1).mean()

def gradient(p, z):
    "Its derivative by `p`, by hand: -2/B (z^ - (p^.z^) p^) / |p|"
    p,z = (np.asarray(o, dtype=np.float64) for o in (p, z))
    n = np.linalg.norm(p, axis=1, keepdims=True)
    p,z = p/n, z/np.linalg.norm(z, axis=1, keepdims=True)
    return -2/len(p)*(z - (p*z).sum(1, keepdims=True)*p)/n

pairs = st.tuples(st.integers(1, 9), st.integers(2, 33), st.floats(.01, 100), st.integers(0, 2**31))
def draw(b, d, scale, seed, dtype=torch.float32):
    g = torch.Generator().manual_seed(seed)
    return scale*torch.randn(b, d, generator=g, dtype=dtype), torch.randn(b, d, generator=g, dtype=dtype)

@given(pairs)
def test_loss_and_gradient_are_those_of_the_equation(o):
    p,z = draw(*o)
    p.requires_grad_()
    loss = byol_loss(p, z)
    loss.backward()
    np.testing.assert_allclose(loss.item(), equation(p.detach(), z), rtol=1e-5, atol=1e-6)
    want = gradient(p.detach(), z)
    np.testing.assert_allclose(p.grad, want, rtol=1e-4, atol=1e-6+1e-5*abs(want).max())
    torch.testing.assert_close(loss.detach(), (2-2*F.cosine_similarity(p, z)).mean().detach())

def test_gradcheck_agrees_in_float64():
    p,z = draw(4, 6, 1., 0, torch.float64)
    assert byol_loss(p, z).dtype==torch.float64, 'float64 in, float64 out: nothing is rounded on the way'
    np.testing.assert_allclose(byol_loss(p, z), equation(p, z), rtol=1e-14)
    assert torch.autograd.gradcheck(lambda o: byol_loss(o, z), p.requires_grad_())

@given(pairs, st.floats(.01, 100))
def test_loss_lies_in_0_to_4_and_ignores_lengths(o, length):
    p,z = draw(*o)
    assert -1e-6 <= byol_loss(p, z) <= 4+1e-6
    torch.testing.assert_close(byol_loss(p, length*z), byol_loss(p, z), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(byol_loss(z, length*z), torch.tensor(0.), rtol=0, atol=1e-5)
    torch.testing.assert_close(byol_loss(z, -length*z), torch.tensor(4.), rtol=0, atol=1e-5)

def test_no_gradient_reaches_the_targets():
    p,z = (o.requires_grad_() for o in draw(4, 6, 1., 0))
    byol_loss(p, z).backward()
    assert p.grad.abs().sum()>0 and z.grad is None
    p1,p2,z1,z2 = (torch.randn(4, 6, requires_grad=True) for _ in range(4))
    BYOLLoss()((p1, p2), z1, z2).backward()
    assert p1.grad is not None and p2.grad is not None and z1.grad is None and z2.grad is None

def test_views_are_crossed_and_the_two_terms_are_summed():
    p1,p2,z1,z2 = torch.randn(4, 5, 7)
    assert BYOLLoss()((p1, p2), z1, z2).item() == pytest.approx(equation(p1, z2)+equation(p2, z1), rel=1e-6)
    assert BYOLLoss()((z2, z1), z1, z2).item() == pytest.approx(0, abs=1e-5), 'each prediction meets the target of the other view'
    assert BYOLLoss()((-z2, -z1), z1, z2).item() == pytest.approx(8, abs=1e-5), 'a sum, not a mean'
    assert BYOLLoss()((z1, z2), z1, z2).item() > 1, 'a target of its own view is no answer'

@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_half_precision_inputs_are_compared_in_float32(dtype):
    p,z = (o.to(dtype) for o in draw(64, 256, 1., 0))
    with torch.autocast('cpu', dtype=torch.bfloat16): loss = byol_loss(p, z)
    assert loss.dtype==torch.float32
    np.testing.assert_allclose(loss.item(), equation(p.float(), z.float()), rtol=1e-6)

def test_a_zero_vector_gives_a_finite_loss_and_gradient():
    p = torch.zeros(2, 3, requires_grad=True)
    loss = byol_loss(p, torch.ones(2, 3))
    loss.backward()
    assert loss.isfinite() and p.grad.isfinite().all()

@pytest.mark.parametrize('loss', [BYOLLoss('none'), BYOLLoss(reduction='none')])
def test_the_loss_of_each_image_averages_to_the_loss(loss):
    p1,p2,z1,z2 = torch.randn(4, 5, 7)
    each = loss((p1, p2), z1, z2)
    assert each.shape==(5,)
    torch.testing.assert_close(each.mean(), BYOLLoss()((p1, p2), z1, z2))
    np.testing.assert_allclose(byol_loss(p1, z2, 'none'), [equation(p[None], z[None]) for p,z in zip(p1, z2)], rtol=1e-5, atol=1e-6)

def test_what_cannot_be_compared_is_refused_in_a_sentence():
    with pytest.raises(ValueError, match=r'\[4, 6\] and targets \[4, 5\] must have the same shape'): byol_loss(torch.randn(4, 6), torch.randn(4, 5))
    with pytest.raises(ValueError, match="reduction='sum' should be 'mean'"): byol_loss(torch.randn(4, 6), torch.randn(4, 6), 'sum')
