"The embedded shapes: the contract of `make_shapes`, and that nothing shallow solves them"
from functools import partial
import numpy as np, pytest, torch
import torch.nn.functional as F
from hypothesis import given, strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from byol_fastai.all import TinyResNet, make_shapes
from byol_fastai.errors import UserValueError
from byol_fastai.rivals import (colour_histogram, contrast_normalised, fourier_magnitudes, gradient_histogram, grey_pixels, luma, raw_pixels, tuned_knn)
from byol_fastai.shapes import SHAPES, make_wallpapers, paint_shapes

def pixels(x): return {o.numpy().tobytes() for o in x}

def test_shapes_have_the_types_and_sizes_that_were_promised():
    x,y = make_shapes(7, size=20, seed=3)
    assert (x.dtype, x.shape, y.dtype, y.shape)==(torch.uint8, (7, 3, 20, 20), torch.int64, (7,))

@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 99))
def test_image_i_depends_on_seed_and_i_alone(m, n, seed):
    (x,y,p),(x2,y2,p2) = (make_shapes(o, 16, seed, return_params=True) for o in (m, n))
    k = min(m, n)
    assert torch.equal(x[:k], x2[:k]) and torch.equal(y[:k], y2[:k])
    assert p.keys()==p2.keys()
    for o in p: np.testing.assert_array_equal(p[o][:k], p2[o][:k])

@given(st.integers(1, 12), st.integers(8, 50), st.integers(0, 99))
def test_the_parameters_draw_the_images_again(n, size, seed):
    x,y,params = make_shapes(n, size, seed, return_params=True)
    assert torch.equal(paint_shapes(y, params, size), x)
    assert all(o.shape in {(n,), (n, 4, 4)} for o in params.values())

def test_what_is_told_of_a_patch_can_be_seen():
    x,y,params = make_shapes(5, 96, return_params=True)
    told = np.argwhere(~np.isnan(params['ground_hue']))
    def changes(i, row, col):
        other = {k: o[i:i+1].copy() for k,o in params.items()}
        other['ground_hue'][0,row,col] += .5
        return not torch.equal(paint_shapes(y[i:i+1], other, 96), x[i:i+1])
    assert 5*3*3 <= len(told) <= 5*4*4
    assert sum(changes(*o) for o in told) >= .9*len(told) # of a few, less than half a pixel lies in the picture

def test_other_seeds_give_other_images():
    assert not pixels(make_shapes(300, 32, seed=0)[0]) & pixels(make_shapes(300, 32, seed=1)[0])
    assert len(pixels(make_shapes(300, 32)[0]))==300

@pytest.mark.parametrize('make', [make_shapes, make_wallpapers])
@pytest.mark.parametrize('sizes', [dict(n=0), dict(n=-1), dict(n=2.), dict(n=2, size=16.5), dict(n=2, size=0), dict(n=2, size='32')])
def test_images_are_counted_and_measured_in_whole_numbers(make, sizes):
    with pytest.raises(UserValueError, match='give a whole number from 1 on'): make(**sizes)

@pytest.fixture(scope='module')
def sets():
    "5,000 images of a bank and 2,000 queries, in [0,1], with their classes"
    return [(x/255, y) for x,y in (make_shapes(5000), make_shapes(2000, seed=1))]

def test_the_ten_classes_are_balanced(sets):
    counts = torch.bincount(sets[0][1], minlength=10)
    assert len(counts)==len(SHAPES)==10 and counts.min()>410 and counts.max()<590 # 500 each, within four standard deviations

def test_brightness_does_not_tell_the_class(sets):
    (a,y),(b,t) = ((luma(x).mean((1, 2, 3))[:,None].numpy(), y.numpy()) for x,y in sets)
    a,b = ((o-a.mean())/a.std() for o in (a, b))
    for model in (KNeighborsClassifier(20), KNeighborsClassifier(200), LogisticRegression()): assert model.fit(a, y).score(b, t) <= .2

def hog(x, signed, bins):
    "Histograms of oriented gradients: cells of 8 pixels, each scaled in every block of 2x2 cells it belongs to (Dalal and Triggs 2005)"
    h = (gradient_histogram(x, bins, 4, signed)**2).view(len(x), 4, 4, bins).permute(0, 3, 1, 2)
    blocks = F.unfold(h, 2).view(len(x), 4*bins, -1)
    return F.normalize(F.normalize(blocks, dim=1).clamp(max=.2), dim=1).flatten(1)

BOUNDS = {'raw pixels': (raw_pixels, .25), 'grey pixels': (grey_pixels, .25), 'contrast-normalised grey pixels': (contrast_normalised, .25), 'colour histogram': (colour_histogram, .25),
    'Fourier magnitudes': (fourier_magnitudes, .70), 'gradients, signed': (gradient_histogram, .70), 'gradients, unsigned': (partial(gradient_histogram, bins=12, signed=False), .70),
    'HOG, signed': (partial(hog, signed=True, bins=18), .70), 'HOG': (partial(hog, signed=False, bins=9), .70)}

@pytest.mark.parametrize('name', BOUNDS)
def test_no_shallow_feature_solves_the_shapes(sets, name):
    f,bound = BOUNDS[name]
    assert .08 < tuned_knn(*[(f(x), y) for x,y in sets]) <= bound

@torch.no_grad()
def test_an_untrained_network_does_not_solve_the_shapes(sets):
    encoder = TinyResNet().eval()
    feats = [(torch.cat([encoder(o) for o in ((x-.5)/.25).split(500)]), y) for x,y in sets]
    assert tuned_knn(*feats) <= .30

def test_a_shallow_feature_solves_the_wallpapers():
    sets = [(fourier_magnitudes(x/255), y) for x,y in (make_wallpapers(3000), make_wallpapers(500, seed=1))]
    assert tuned_knn(*sets) > .93

def test_magnitudes_toss_a_coin_between_a_shape_and_itself_upside_down(sets):
    (x,y),(q,t) = sets
    for pair in ('peak', 'funnel'),('caret', 'vee'):
        pair = torch.tensor([SHAPES.index(o) for o in pair])
        bank,asked = torch.isin(y, pair),torch.isin(t, pair)
        assert tuned_knn((fourier_magnitudes(x[bank]), y[bank]), (fourier_magnitudes(q[asked]), t[asked])) < .6
