"""Views: every operation against torchvision, image by image and with the same parameters; `BatchView` and `AlbumentationsView` as distributions;
and what a batch of views must never share"""
from dataclasses import replace
import numpy as np, pytest, torch
import torchvision.transforms.v2.functional as V
from fastai.vision.all import TensorImage
from hypothesis import given, strategies as st
from scipy.stats import ks_2samp
from torchvision.transforms import InterpolationMode, RandomResizedCrop
from byol_fastai.all import AlbumentationsView, BatchView, TwoViews, ViewPolicy, byol_policies
from byol_fastai.augment import (adjust_brightness, adjust_contrast, adjust_hue, adjust_saturation, crop_resize, draw_boxes, gaussian_blur, resize_matrices,
    resize_matrix, solarize, to_gray, where_on)
from conftest import tiny_learner

QUIET = dict(scale=(1., 1.), ratio=(1., 1.), flip_p=0., jitter_p=0., gray_p=0., blur_p=0., solarize_p=0.)
PLAIN = dict(mean=(0., 0., 0.), std=(1., 1., 1.)) # no normalisation: views stay in [0,1]
def images(n=5, h=24, w=31, seed=0): return torch.rand(n, 3, h, w, generator=torch.Generator().manual_seed(seed))
def close(a, b, atol=2e-5): torch.testing.assert_close(a, torch.stack(list(b)), rtol=0, atol=atol)

# --- one operation at a time

@pytest.mark.parametrize('ours, theirs, lo, hi', [(adjust_brightness, V.adjust_brightness, .6, 1.4), (adjust_contrast, V.adjust_contrast, .6, 1.4),
    (adjust_saturation, V.adjust_saturation, .2, 1.8), (adjust_hue, V.adjust_hue, -.5, .5)])
def test_colour_operations_are_torchvisions(ours, theirs, lo, hi):
    x,f = images(7), torch.linspace(lo, hi, 7)
    close(ours(x, f), (theirs(o, k.item()) for o,k in zip(x, f)), atol=1e-4)

def test_hue_of_grey_black_white_and_pure_colours_is_torchvisions():
    colours = torch.tensor([[0., 0, 0], [1, 1, 1], [.5, .5, .5], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [0, 1, 1], [1, 0, 1],
        [.2, .2, .9], [.9, .2, .2], [.2, .9, .2]])
    x = colours.T.reshape(1, 3, 3, 4)
    for shift in (-.5, -.1, 0., .03, 1/3, .5): close(adjust_hue(x.clone(), torch.tensor([shift])), V.adjust_hue(x, shift), atol=1e-5)

def test_grey_and_solarize_are_torchvisions():
    x = images()
    close(to_gray(x), map(V.rgb_to_grayscale, x), atol=1e-4)
    close(solarize(x), (V.solarize(o, .5) for o in x), atol=1e-6)

@given(st.integers(8, 40), st.integers(8, 40), st.integers(8, 40), st.integers(0, 10**6))
def test_crop_and_resize_are_torchvisions_bicubic_antialiased(h, w, size, seed):
    x,rng = images(4, h, w, seed), np.random.default_rng(seed)
    height,width = rng.integers(1, h+1, 4), rng.integers(1, w+1, 4)
    top,left = rng.integers(0, h-height+1), rng.integers(0, w-width+1)
    box = torch.tensor(np.stack([top, left, height, width]), dtype=torch.float32)
    flip = torch.tensor([False, True, False, True])
    def theirs(i):
        o = V.resized_crop(x[i], *(int(v) for v in box[:,i]), [size, size], interpolation=InterpolationMode.BICUBIC, antialias=True).clamp(0, 1)
        return V.horizontal_flip(o) if flip[i] else o
    close(crop_resize(x, *box, size, flip), map(theirs, range(4)), atol=1e-4)

@pytest.mark.parametrize('n_in, n_out', [(9, 12), (32, 20), (70, 64)]) # the last is too large for a table
def test_matrices_looked_up_are_those_calculated(n_in, n_out):
    length = torch.randint(1, n_in+1, (50,))
    start,flip = (torch.rand(50)*(n_in-length+1)).floor(), torch.rand(50) < .5
    torch.testing.assert_close(resize_matrices(start, length, n_in, n_out, flip), resize_matrix(start, length, n_in, n_out, flip))

@pytest.mark.parametrize('size, taps', [(24, 3), (31, 9), (64, 23)])
def test_blur_is_torchvisions(size, taps):
    x,sigma = images(4, size, size), torch.tensor([.1, .5, 1., 2.])
    close(gaussian_blur(x, sigma, taps), (V.gaussian_blur(o, [taps, taps], [s, s]) for o,s in zip(x, sigma.tolist())))

def by_torchvision(x, d, i, hue_at, policy):
    "View of image `i` by torchvision's functions, with the parameters that were drawn for it"
    x = V.resized_crop(x[i], *(int(v) for v in d['box'][:,i]), [policy.size]*2, interpolation=InterpolationMode.BICUBIC, antialias=True).clamp(0, 1)
    if d['flip'][i]: x = V.horizontal_flip(x)
    jitter = [lambda x, f=f, k=k: f(x, d['factor'][k,i].item()) for k,f in enumerate((V.adjust_brightness, V.adjust_contrast, V.adjust_saturation))]
    jitter = [jitter[k] for k in d['order'][:,i]]
    jitter.insert(hue_at, lambda x: V.adjust_hue(x, d['hue'][i].item()))
    for f in jitter if d['jitter'][i] else (): x = f(x)
    if d['gray'][i]: x = V.rgb_to_grayscale(x, 3)
    if d['blur'][i]: x = V.gaussian_blur(x, [policy.blur_taps]*2, [d['sigma'][i].item()]*2)
    if d['solarize'][i]: x = V.solarize(x, .5)
    return V.normalize(x, policy.mean, policy.std)

@pytest.mark.parametrize('hue_at', range(4))
def test_a_batch_of_views_is_what_torchvision_makes_image_by_image(hue_at):
    policy = ViewPolicy(48, blur_p=.5, solarize_p=.5, gray_p=.3)
    view,x = BatchView(policy), images(16, 40, 56)
    d = view.draw(16, 40, 56)
    ours = view.apply(x, d, hue_at)
    theirs = torch.stack([by_torchvision(x, d, i, hue_at, policy) for i in range(16)])
    far = (ours-theirs).abs() > 5e-3 # a pixel within rounding of 0.5 may be solarized by one and not by the other
    assert far.float().mean() < 1e-3

# --- what is drawn

def test_crop_boxes_are_drawn_as_torchvision_draws_them():
    policy,n,(h,w) = ViewPolicy(32), 4000, (60, 90)
    ours = draw_boxes(policy, n, h, w)
    img = torch.zeros(3, h, w)
    theirs = torch.tensor([RandomResizedCrop.get_params(img, policy.scale, policy.ratio) for _ in range(n)]).T
    top,left,height,width = ours
    assert (top>=0).all() and (left>=0).all() and (height>0).all() and (width>0).all() and (top+height<=h).all() and (left+width<=w).all()
    for a,b in zip((*ours, height*width, width/height), (*theirs, theirs[2]*theirs[3], theirs[3]/theirs[2])): assert ks_2samp(a, b).statistic < .04

def test_where_no_box_fits_the_largest_central_one_is_taken_as_in_torchvision():
    for h,w in (10, 200),(200, 10):
        policy = ViewPolicy(32, scale=(1., 1.), ratio=(3/4, 4/3))
        assert draw_boxes(policy, 3, h, w)[:,1].tolist()==list(RandomResizedCrop.get_params(torch.zeros(3, h, w), policy.scale, policy.ratio))

def smooth_images(n, size, seed=0):
    "Colourful images without fine detail, so that the two interpolations agree"
    return torch.nn.functional.interpolate(images(n, 4, 4, seed), size=(size, size), mode='bicubic', align_corners=False).clamp(0, 1).mul(255).round().byte()

def statistics(v):
    "Columns, by view: channel means and stds, colourfulness, and the difference of left and right"
    colour = (v.amax(1)-v.amin(1)).mean((1, 2))
    half = v.shape[-1]//2
    return torch.cat([v.mean((2,3)), v.std((2,3)), colour[:,None], (v[...,:half]-v[...,half:]).mean((1,2,3))[:,None]], 1)

STRONG = dict(blur_p=1., solarize_p=.2, brightness=.8, contrast=.8, saturation=.8, hue=.5, gray_p=.5)
@pytest.mark.parametrize('policy', [ViewPolicy(32, **PLAIN), ViewPolicy(32, **STRONG, **PLAIN)], ids=['paper', 'strong'])
def test_batch_view_and_albumentations_view_draw_from_one_distribution(policy):
    x = smooth_images(4, 40).repeat(400, 1, 1, 1)
    ours = BatchView(policy)(x.float()/255)
    theirs = AlbumentationsView(policy)
    theirs.tfm.set_random_seed(0)
    theirs = torch.stack([theirs(o) for o in x.permute(0, 2, 3, 1).numpy()])
    a,b = statistics(ours), statistics(theirs)
    for k in range(a.shape[1]): assert ks_2samp(a[:,k], b[:,k]).statistic < .06 # 1600 against 1600: a hundredth of equal samples lie above .058
    grey = [(o.amax(1)-o.amin(1)).amax((1, 2)).lt(.01).float().mean() for o in (ours, theirs)]
    assert grey[0]==pytest.approx(policy.gray_p, abs=.04) and grey[1]==pytest.approx(policy.gray_p, abs=.04)

@pytest.mark.parametrize('field', ['flip_p', 'jitter_p', 'gray_p', 'blur_p', 'solarize_p'])
def test_each_probability_is_the_share_of_views_that_are_changed(field):
    x = smooth_images(1, 32).float().div(255).repeat(600, 1, 1, 1)
    plain = BatchView(ViewPolicy(32, **{**QUIET, **PLAIN}))(x)
    changed = BatchView(ViewPolicy(32, **{**QUIET, **PLAIN, field: .3}))(x)
    assert (plain-changed).abs().amax((1, 2, 3)).gt(1e-4).float().mean().item() == pytest.approx(.3, abs=.06)

def test_the_policies_are_those_of_the_paper():
    t,t2 = byol_policies(224)
    common = dict(size=224, scale=(.08, 1.), ratio=(3/4, 4/3), flip_p=.5, jitter_p=.8, brightness=.4, contrast=.4, saturation=.2, hue=.1, gray_p=.2,
        blur_sigma=(.1, 2.), mean=(.485, .456, .406), std=(.229, .224, .225))
    assert t==ViewPolicy(**common, blur_p=1., solarize_p=0.) and t2==ViewPolicy(**common, blur_p=.1, solarize_p=.2)
    assert t.blur_taps==23
    small = byol_policies(32, hue=.2)
    assert [p.blur_p for p in small]==[0, 0] and [p.solarize_p for p in small]==[0, .2] and [p.hue for p in small]==[.2, .2]

@pytest.mark.parametrize('field, value', [('flip_p', 1.5), ('jitter_p', -.1), ('gray_p', 2), ('blur_p', -1), ('solarize_p', 1.01), ('scale', (.5, .2)),
    ('scale', (0, 1)), ('scale', (.5, 1.5)), ('ratio', (-1, 1)), ('blur_sigma', (0, 1)), ('brightness', -.1), ('contrast', 1.2), ('saturation', 2),
    ('hue', .6), ('size', 0)])
def test_a_wrong_field_is_refused_in_a_sentence_that_names_it(field, value):
    with pytest.raises(ValueError, match=rf'^{field}=.*\.$'): ViewPolicy(**{'size': 32, field: value})

# --- what every batch must keep

@pytest.mark.parametrize('change', [dict(scale=(.2, 1.), ratio=(.5, 2.)), dict(jitter_p=1.), dict(blur_p=1.)], ids=['crop', 'jitter', 'blur'])
def test_each_image_of_a_batch_draws_its_own_parameters(change):
    x = images(1, 32, 32).repeat(32, 1, 1, 1)
    views = BatchView(ViewPolicy(32, **{**QUIET, **change}))(x).flatten(1)
    assert len(torch.unique(views.round(decimals=3), dim=0)) > 26 # a few boxes, or blurs too weak to see, may coincide

@pytest.mark.parametrize('b, h, w', [(1, 20, 20), (2, 33, 17), (65, 24, 31), (131, 16, 48)])
def test_any_batch_size_and_any_shape_gives_finite_views(b, h, w):
    for policy in byol_policies(40):
        out = BatchView(policy)(TensorImage(images(b, h, w)))
        assert out.shape==(b, 3, 40, 40) and out.dtype==torch.float32 and out.isfinite().all()

@given(st.integers(0, 10**6), st.integers(1, 80))
def test_views_before_normalisation_stay_in_0_to_1(seed, b):
    torch.manual_seed(seed)
    out = BatchView(ViewPolicy(12, blur_p=.5, solarize_p=.5, hue=.5, saturation=.9, **PLAIN))(images(b, 14, 12, seed))
    assert out.min()>=-1e-5 and out.max()<=1+1e-5

def test_the_seed_of_torch_decides_and_the_input_is_left_alone():
    x,view = images(70, 32, 32), BatchView(byol_policies(32)[1])
    was = x.clone()
    def draw(seed): torch.manual_seed(seed); return view(x)
    a,b,c = draw(1), draw(1), draw(2)
    assert torch.equal(a, b) and not torch.equal(a, c) and torch.equal(x, was)

def test_bytes_are_as_good_as_floats():
    x,view = (images(70, 32, 32)*255).byte(), BatchView(byol_policies(32)[1])
    def draw(x): torch.manual_seed(1); return view(x)
    torch.testing.assert_close(draw(x), draw(x/255), rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match='floats in .* or bytes'): view(x.int())

def test_an_operation_for_some_images_leaves_the_others_alone():
    x,on,f = images(6), torch.tensor([True, False, True, True, False, False]), torch.linspace(.6, 1.4, 6)
    ours = where_on(on, x.clone(), adjust_contrast, f)
    assert torch.equal(ours[~on], x[~on])
    torch.testing.assert_close(ours[on], adjust_contrast(x, f)[on])
    assert torch.equal(where_on(on&False, x.clone(), adjust_contrast, f), x)

def test_an_images_view_does_not_depend_on_its_neighbours():
    view,x = BatchView(replace(byol_policies(40)[1], blur_p=.5)), images(9, 32, 32)
    d = view.draw(9, 32, 32)
    alone = torch.cat([view.apply(x[i:i+1], {k: v[...,i:i+1] for k,v in d.items()}, 2) for i in range(9)])
    torch.testing.assert_close(view.apply(x, d, 2), alone, rtol=0, atol=1e-5)

def test_two_views_are_made_in_training_and_in_validation_and_differ():
    learn = tiny_learner()
    assert isinstance(learn.two_views, TwoViews)
    seen,forward = set(), learn.model.forward
    def watch(v1, v2):
        assert v1.shape==v2.shape==(len(v1), 3, 16, 16) and (v1-v2).abs().amax((1, 2, 3)).min()>0
        seen.add(learn.training)
        return forward(v1, v2)
    learn.model.forward = watch
    learn.fit(1)
    assert seen=={True, False}
