"The embedded shapes: the contract of `make_shapes`"
import torch
from hypothesis import given, strategies as st
from byol_fastai.all import make_shapes

def pixels(x): return {o.numpy().tobytes() for o in x}

def test_shapes_have_the_types_and_sizes_that_were_promised():
    x,y = make_shapes(7, size=20, seed=3)
    assert (x.dtype, x.shape, y.dtype, y.shape)==(torch.uint8, (7, 3, 20, 20), torch.int64, (7,))

@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 99))
def test_image_i_depends_on_seed_and_i_alone(m, n, seed):
    (x,y),(x2,y2) = make_shapes(m, 16, seed), make_shapes(n, 16, seed)
    k = min(m, n)
    assert torch.equal(x[:k], x2[:k]) and torch.equal(y[:k], y2[:k])

def test_the_ten_classes_are_balanced_and_labels_do_not_give_themselves_away():
    x,y = make_shapes(2000, 16)
    counts = torch.bincount(y, minlength=10)
    assert len(counts)==10 and counts.min()>140 and counts.max()<260 # 200 each, within four standard deviations
    means = x.float().mean((1, 2, 3))
    by_class = torch.stack([means[y==c].mean() for c in range(10)])
    assert by_class.max()-by_class.min() < means.std()/2, 'brightness does not tell the class'

def test_other_seeds_give_other_images():
    assert not pixels(make_shapes(300, 32, seed=0)[0]) & pixels(make_shapes(300, 32, seed=1)[0])
    assert len(pixels(make_shapes(300, 32)[0]))==300
