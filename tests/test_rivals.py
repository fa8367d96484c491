"Shallow features: against NumPy, against scikit-learn, and by what they promise to ignore"
import subprocess, sys
import numpy as np, pytest, torch
from hypothesis import given, strategies as st
from sklearn.neighbors import KNeighborsClassifier
from byol_fastai.errors import UserTypeError, UserValueError
from byol_fastai.rivals import (RIVALS, colour_histogram, contrast_normalised, fourier_magnitudes, gradient_histogram, grey_pixels, luma, raw_pixels, tuned_knn)

EVERY = [raw_pixels, grey_pixels, contrast_normalised, colour_histogram, fourier_magnitudes, gradient_histogram]
every = pytest.mark.parametrize('f', EVERY, ids=lambda o: o.__name__)
sizes = st.tuples(st.integers(1, 5), st.integers(1, 8), st.integers(2, 70), st.integers(2, 70), st.integers(0, 99)) # B, C, H, W, seed
WEIGHTS = np.array([.299, .587, .114])

def images(b=4, c=3, h=32, w=32, seed=0): return torch.rand(b, c, h, w, generator=torch.Generator().manual_seed(seed))
def grey(x): return (x.numpy().astype(float)*WEIGHTS[:,None,None]).sum(1)

@every
@given(sizes)
def test_any_channels_and_sizes_give_one_finite_row_an_image_and_no_more_than_32x32(f, shape):
    x = images(*shape)
    res = f(x)
    assert res.shape[0]==len(x) and res.ndim==2 and res.dtype==torch.float32 and res.isfinite().all()
    assert res.shape[1] <= shape[1]*32*32
    torch.testing.assert_close(f(x[-1:]), res[-1:], rtol=1e-4, atol=1e-4) # no image sees its neighbours in the batch

@every
def test_half_precision_and_flat_images_are_fine(f):
    assert f(images().half()).dtype==torch.float32
    for level in (0., .5, 1.): assert f(torch.full((2, 3, 40, 40), level)).isfinite().all()

@every
@pytest.mark.parametrize('x,error', [(torch.zeros(2, 3, 8, 8, dtype=torch.uint8), UserTypeError), (torch.zeros(3, 8, 8), UserTypeError), (torch.zeros(0, 3, 8, 8), UserTypeError),
    (np.zeros((2, 3, 8, 8)), UserTypeError), (torch.full((2, 3, 8, 8), 255.), UserValueError), (torch.full((2, 3, 8, 8), -2.), UserValueError)],
    ids=['bytes', 'one image', 'none', 'array', '0 to 255', 'normalised'])
def test_what_is_no_batch_of_images_from_0_to_1_gets_a_sentence(f, x, error):
    with pytest.raises(error, match='A rival takes'): f(x)

def test_the_rivals_of_the_table_in_its_order():
    assert RIVALS=={'raw pixels': raw_pixels, 'grey pixels': grey_pixels, 'Fourier magnitudes': fourier_magnitudes} and [*RIVALS]==['raw pixels', 'grey pixels', 'Fourier magnitudes']

def test_pixels_are_those_of_the_image_and_large_images_are_shrunk_by_area():
    x = images(h=64, w=96)
    by_area = x.numpy().reshape(4, 3, 32, 2, 32, 3).mean((3, 5))
    np.testing.assert_allclose(raw_pixels(x), by_area.reshape(4, -1), atol=1e-6)
    np.testing.assert_allclose(grey_pixels(x), grey(torch.from_numpy(by_area)).reshape(4, -1), atol=1e-6)
    assert torch.equal(raw_pixels(x[:,:,:20,:30]), x[:,:,:20,:30].flatten(1)), 'small images stay as they are'
    assert torch.equal(luma(x[:,:1]), x[:,:1])

@given(st.floats(.1, .5), st.floats(0., .5))
def test_contrast_and_light_are_gone(contrast, light):
    x = images()
    torch.testing.assert_close(contrast_normalised(contrast*x+light), contrast_normalised(x), rtol=1e-2, atol=1e-2)
    g = contrast_normalised(x)
    torch.testing.assert_close(torch.stack([g.mean(1), g.std(1, correction=0)]), torch.stack([torch.zeros(4), torch.ones(4)]), rtol=1e-4, atol=1e-4)

@pytest.mark.parametrize('c,levels', [(1, 64), (2, 8), (3, 4), (6, 2)])
def test_the_colour_histogram_is_numpys(c, levels):
    x = images(c=c, h=20, w=15)
    theirs = [np.histogramdd(o.flatten(1).T.numpy(), bins=levels, range=[(0, 1)]*c)[0].ravel()/300 for o in x]
    np.testing.assert_allclose(colour_histogram(x)**2, np.stack(theirs), atol=1e-6)

def test_the_colour_histogram_does_not_know_where_a_pixel_is():
    x = images()
    torch.testing.assert_close(colour_histogram(x), colour_histogram(x.flatten(2)[:,:,torch.randperm(32*32)].view_as(x)))

def test_the_magnitudes_are_numpys():
    x = images()
    np.testing.assert_allclose(fourier_magnitudes(x), np.log1p(np.abs(np.fft.rfft2(grey(x)))).reshape(4, -1), atol=1e-4)

@given(st.integers(-40, 40), st.integers(-40, 40))
def test_magnitudes_ignore_where_a_picture_is_and_which_way_up(down, right):
    x = images()
    for o in (x.roll((down, right), (2, 3)), x.flip(2, 3)): torch.testing.assert_close(fourier_magnitudes(o), fourier_magnitudes(x), rtol=1e-3, atol=1e-3)

def directions(g, bins, signed):
    "Histogram of the directions of the gradients of an image [H,W], by NumPy"
    dy,dx = np.gradient(g)
    turn = np.arctan2(dy, dx)%(2*np.pi if signed else np.pi)
    return np.histogram(turn, bins, (0, 2*np.pi if signed else np.pi), weights=np.hypot(dx, dy))[0]

@pytest.mark.parametrize('signed', [True, False])
def test_the_directions_of_gradients_are_numpys(signed):
    x = images()
    theirs = np.stack([directions(o, 24, signed) for o in grey(x)])
    np.testing.assert_allclose(gradient_histogram(x, signed=signed)**2, theirs/theirs.sum(1, keepdims=True), atol=2e-3) # a gradient on the border of two bins may fall on either side

def test_cells_are_parts_of_the_picture():
    x = torch.zeros(1, 1, 32, 32)
    x[:,:,:16,:16] = torch.linspace(0, 1, 16) # lighter to the right, in the first of four cells
    h = gradient_histogram(x, bins=4, cells=2).view(2, 2, 4)
    assert h[0,0].argmax()==0 and h[1,1].sum()==0
    ours = gradient_histogram(images(), bins=9, cells=4).view(4, 16, 9)
    torch.testing.assert_close((ours**2).sum(2), torch.ones(4, 16))

def test_gradients_with_a_sign_tell_which_way_up():
    x = images(1)
    torch.testing.assert_close(gradient_histogram(x.flip(2, 3)), gradient_histogram(x).roll(12, 1), rtol=.1, atol=.02) # half a turn
    torch.testing.assert_close(gradient_histogram(1-x, signed=False), gradient_histogram(x, signed=False), rtol=.1, atol=.02)

def labelled(n=300, d=5, classes=3, seed=0):
    "Features around one middle a class, in columns of very different spread"
    g = torch.Generator().manual_seed(seed)
    y = torch.arange(n)%classes
    return (y[:,None]*torch.linspace(0, 1, d)+torch.randn(n, d, generator=g))*10.**torch.arange(d).sub(2),y

def best_of_scikit_learn(train, test):
    "The same four settings, by scikit-learn"
    (x,y),(q,t) = ((a.numpy().astype(np.float32), b.numpy()) for a,b in (train, test))
    mean,std,size = x.mean(0),x.std(0),len(y)//len(set(y.tolist()))
    def knn(scale, k):
        votes = KNeighborsClassifier(min(k, size), metric='cosine', algorithm='brute', weights=lambda d: np.exp((1-d)/.1))
        return votes.fit((x-mean)/scale, y).score((q-mean)/scale, t)
    return max(knn(scale, k) for scale in (1, std+1e-6) for k in (20, 200))

@pytest.mark.parametrize('n', [30, 900])
def test_the_tuned_vote_is_scikit_learns_best(n):
    train,test = labelled(n),labelled(120, seed=1)
    assert tuned_knn(train, test)==pytest.approx(best_of_scikit_learn(train, test), abs=.01)

def test_no_row_is_its_own_neighbour():
    x,y = torch.randn(200, 8, generator=torch.Generator().manual_seed(0)),torch.arange(200)%10
    assert tuned_knn((x, y), (x, y)) < .3

def test_few_images_of_a_class_and_columns_that_say_nothing_are_fine():
    x = torch.cat([torch.eye(3).repeat(2, 1), torch.ones(6, 2)], 1)
    assert tuned_knn((x, torch.arange(6)%3), (x.clone(), torch.arange(6)%3))==1
    assert 0 <= tuned_knn((x[:1], torch.tensor([0])), (x, torch.arange(6)%3)) <= 1

def test_the_module_needs_no_other_of_the_library_until_it_measures():
    code = "import byol_fastai.rivals, sys; print([o for o in sys.modules if o.startswith('byol_fastai.')])"
    found = subprocess.run([sys.executable, '-c', code], check=True, capture_output=True, text=True).stdout
    assert sorted(eval(found))==['byol_fastai.errors', 'byol_fastai.rivals']
