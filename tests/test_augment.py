"""Views: every operation against torchvision, image by image and with the same parameters; `BatchView` and `AlbumentationsView` as distributions;
and what a batch of views must never share"""
from dataclasses import replace
import numpy as np, pytest, torch
import torchvision.transforms.v2.functional as V
from fastai.vision.all import TensorImage
from hypothesis import given, strategies as st
from scipy.stats import ks_2samp
from torchvision.transforms import InterpolationMode, RandomResizedCrop
from byol_fastai.augment import (BatchView, adjust_brightness, adjust_contrast, adjust_hue, adjust_saturation, as_view, blur_matrix, colour_jitter, crop_each, crop_resize,
    draw_boxes, draw_parameters, gaussian_blur, make_views, plan_batch, resize_matrices, resize_matrix, solarize, to_gray, where_on)
from byol_fastai.data import ToUnit
from byol_fastai.errors import UserError
from byol_fastai.views import AlbumentationsView, PerImage, ViewPolicy, byol_policies

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

@given(st.integers(8, 40), st.integers(8, 40), st.integers(8, 40), st.integers(8, 40), st.integers(0, 10**6))
def test_crop_and_resize_are_torchvisions_bicubic_antialiased(h, w, high, wide, seed):
    x,rng = images(4, h, w, seed), np.random.default_rng(seed)
    height,width = rng.integers(1, h+1, 4), rng.integers(1, w+1, 4)
    top,left = rng.integers(0, h-height+1), rng.integers(0, w-width+1)
    box = torch.tensor(np.stack([top, left, height, width]), dtype=torch.float32)
    flip = torch.tensor([False, True, False, True])
    def theirs(i):
        o = V.resized_crop(x[i], *(int(v) for v in box[:,i]), [high, wide], interpolation=InterpolationMode.BICUBIC, antialias=True).clamp(0, 1)
        return V.horizontal_flip(o) if flip[i] else o
    for crop in crop_resize,crop_each: close(crop(x, *box, (high, wide), flip), map(theirs, range(4)), atol=1e-4)
    if high==wide: assert torch.equal(crop_each(x, *box, high, flip), crop_each(x, *box, (high, wide), flip))

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
    x = V.resized_crop(x[i], *(int(v) for v in d['box'][:,i]), list(policy.hw), interpolation=InterpolationMode.BICUBIC, antialias=True).clamp(0, 1)
    if d['flip'][i]: x = V.horizontal_flip(x)
    jitter = [lambda x, f=f, k=k: f(x, d['factor'][k,i].item()) for k,f in enumerate((V.adjust_brightness, V.adjust_contrast, V.adjust_saturation))]
    jitter = [jitter[k] for k in d['order'][:,i]]
    jitter.insert(hue_at, lambda x: V.adjust_hue(x, d['hue'][i].item()))
    for f in jitter if d['jitter'][i] else (): x = f(x)
    if d['gray'][i]: x = V.rgb_to_grayscale(x, 3)
    if d['blur'][i]: x = V.gaussian_blur(x, [policy.blur_taps]*2, [d['sigma'][i].item()]*2)
    if d['solarize'][i]: x = V.solarize(x, .5)
    return V.normalize(x, policy.mean, policy.std)

@pytest.mark.parametrize('channels', [1, 3, 13])
def test_images_of_bytes_are_cropped_as_torchvision_crops_bytes(channels):
    x = torch.randint(256, (3, channels, 60, 50), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    box = torch.tensor([[0., 5., 30.], [0., 7., 9.], [60., 40., 21.], [50., 31., 40.]])
    theirs = [V.resized_crop(o, *box[:, i].int().tolist(), [32, 32], InterpolationMode.BICUBIC, antialias=True)/255 for i,o in enumerate(x)]
    close(crop_each(x/255, *box, 32, of_bytes=True), theirs, atol=1.01/255)

def test_only_batches_that_are_made_of_bytes_are_rounded():
    x = TensorImage(torch.randint(256, (4, 3, 90, 80), dtype=torch.uint8))
    batch,floats = ToUnit()(x),TensorImage(images(4, 90, 80))
    ways = {k: plan_batch(o, ViewPolicy(64), 2**17)[2] for k,o in dict(bytes=x, unit=batch, floats=floats, again=ToUnit()(floats*255)).items()}
    assert {k: getattr(o, 'keywords', {}) for k,o in ways.items()}==dict(bytes=dict(of_bytes=True), unit=dict(of_bytes=True), floats={}, again={})
    view = BatchView(ViewPolicy(64, **QUIET | PLAIN))
    for o in batch, batch*1.2-.1: torch.testing.assert_close(view(o), view(o.as_subclass(torch.Tensor)), rtol=0, atol=3/255)

def test_the_last_resort_is_never_without_a_pixel():
    box = draw_boxes(ViewPolicy(8, scale=(1., 1.), ratio=(.023, .023)), 4, 12, 10)
    assert (box[2:]>=1).all() and (box[2]<=12).all() and (box[3]<=10).all()

def test_no_weight_of_a_blur_is_next_to_nothing():
    m = blur_matrix(torch.tensor([.1, .5, 2.]), 60, 23)
    assert m[m>0].min()>1e-13 and torch.allclose(m.sum(-1), torch.ones(3, 60))   # a CPU multiplies subnormal numbers a hundred times more slowly

@pytest.mark.parametrize('size, crop', [(48, crop_resize), ((24, 50), crop_each)])
@pytest.mark.parametrize('hue_at', range(4))
def test_a_batch_of_views_is_what_torchvision_makes_image_by_image(hue_at, size, crop):
    policy,x = ViewPolicy(size, blur_p=.5, solarize_p=.5, gray_p=.3), images(16, 40, 56)
    d = draw_parameters(policy, 16, 40, 56)
    ours = make_views(policy, x, d, hue_at, crop)
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
    return torch.nn.functional.interpolate(images(n, 4, 4, seed), size=size, mode='bicubic', align_corners=False).clamp(0, 1).mul(255).round().byte()

def statistics(v):
    "Columns, by view: channel means and stds, colourfulness, and the difference of left and right"
    colour = (v.amax(1)-v.amin(1)).mean((1, 2))
    half = v.shape[-1]//2
    return torch.cat([v.mean((2,3)), v.std((2,3)), colour[:,None], (v[...,:half]-v[...,half:]).mean((1,2,3))[:,None]], 1)

STRONG = dict(blur_p=1., solarize_p=.2, brightness=.8, contrast=.8, saturation=.8, hue=.5, gray_p=.5)
@pytest.mark.parametrize('policy, size', [(ViewPolicy(32, **PLAIN), 40), (ViewPolicy(32, **STRONG, **PLAIN), (30, 52)), (ViewPolicy((24, 40), **PLAIN), (56, 33))],
    ids=['paper', 'strong, wide images', 'wide views of high images'])
def test_batch_view_and_albumentations_view_draw_from_one_distribution(policy, size):
    x = smooth_images(4, size).repeat(400, 1, 1, 1)
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
    policy,x = replace(byol_policies(40)[1], blur_p=.5), images(9, 32, 32)
    d = draw_parameters(policy, 9, 32, 32)
    alone = torch.cat([make_views(policy, x[i:i+1], {k: v[...,i:i+1] for k,v in d.items()}, 2) for i in range(9)])
    torch.testing.assert_close(make_views(policy, x, d, 2), alone, rtol=0, atol=1e-5)

def test_two_neighbouring_bites_never_share_the_place_of_the_hue(monkeypatch):
    places = []
    monkeypatch.setattr('byol_fastai.augment.make_views', lambda p, x, d, hue_at, crop, out: places.append((len(x), hue_at)))
    for n,sizes in (8, [4, 4]),(1, [1]),(300, [128, 128, 44]):
        places.clear()
        BatchView(ViewPolicy(32))(images(n, 32, 32))
        assert [k for k,_ in places]==sizes and all(a!=b for (_,a),(_,b) in zip(places, places[1:]))

# --- padded batches of images of different shapes

SHAPES = [(40, 56), (17, 56), (40, 9), (40, 40), (33, 21), (1, 1)]
def padded(fill, shapes=SHAPES, h=40, w=56, channels=3):
    "The same images whatever `fill` stands in the padding"
    x = TensorImage(torch.full((len(shapes), channels, h, w), fill))
    for k,(o,(a,b)) in enumerate(zip(x, shapes)): o[:,:a,:b] = images(1, a, b, k)[0,:channels]
    x.sizes = torch.tensor(shapes)
    return x

@pytest.mark.parametrize('crop', [crop_resize, crop_each])
def test_views_of_a_padded_batch_are_those_of_each_image_alone(crop):
    policy,x = replace(byol_policies(24)[1], blur_p=.5), padded(1e6)
    d = draw_parameters(policy, len(x), *x.sizes.T)
    ours = make_views(policy, x.as_subclass(torch.Tensor), d, 1, crop)
    for i,(h,w) in enumerate(SHAPES):
        alone = make_views(policy, images(1, h, w, i), {k: v[...,i:i+1] for k,v in d.items()}, 1)
        torch.testing.assert_close(ours[i:i+1], alone, rtol=0, atol=1e-4)

@pytest.mark.parametrize('size', [24, (20, 36)])
def test_what_stands_in_the_padding_is_never_seen(size):
    view = BatchView(byol_policies(size)[1])
    def draw(fill): torch.manual_seed(3); return view(padded(fill))
    assert torch.equal(draw(0.), draw(1e6))
    assert draw(1e6).isfinite().all()

@given(st.lists(st.tuples(st.integers(1, 60), st.integers(1, 60)), min_size=1, max_size=8), st.integers(0, 10**6))
def test_boxes_lie_inside_their_own_image(shapes, seed):
    torch.manual_seed(seed)
    h,w = torch.tensor(shapes).T
    top,left,height,width = draw_boxes(ViewPolicy(8), len(shapes), h, w)
    assert (top>=0).all() and (left>=0).all() and (height>0).all() and (width>0).all() and (top+height<=h).all() and (left+width<=w).all()

def test_boxes_of_a_mixed_batch_are_drawn_as_torchvision_draws_them_for_each_shape():
    policy,n,shapes = ViewPolicy(32), 3000, [(60, 90), (90, 30), (20, 100)]
    h,w = torch.tensor(shapes).repeat_interleave(n, 0).T
    ours = draw_boxes(policy, 3*n, h, w).view(4, 3, n)
    for k,(h,w) in enumerate(shapes):
        theirs = torch.tensor([RandomResizedCrop.get_params(torch.zeros(3, h, w), policy.scale, policy.ratio) for _ in range(n)]).T
        for a,b in zip(ours[:,k], theirs): assert ks_2samp(a, b).statistic < .045

def test_a_mixed_batch_and_its_images_alone_have_one_distribution():
    shapes = [(40, 60), (60, 30)]
    policy,x = ViewPolicy(16, **PLAIN), padded(1e6, shapes, 60, 60)
    mixed = TensorImage(x.repeat(600, 1, 1, 1))
    mixed.sizes = x.sizes.repeat(600, 1)
    mixed = BatchView(policy)(mixed)
    for k,(h,w) in enumerate(shapes):
        alone = statistics(BatchView(policy)(x[k:k+1,:,:h,:w].as_subclass(torch.Tensor).repeat(600, 1, 1, 1)))
        ours = statistics(mixed[k::2])
        for c in range(ours.shape[1]): assert ks_2samp(ours[:,c], alone[:,c]).statistic < .11 # 600 against 600: a thousandth of equal samples lie above .113

def test_the_first_images_of_a_padded_batch_keep_their_sizes():
    x = padded(1e6)
    assert BatchView(ViewPolicy(16))(x[:1]).isfinite().all() # as `Learner.summary` takes them: fastai hands on the sizes of all

@pytest.mark.parametrize('sizes', [[[40, 57]]*6, [[0, 5]]*6, [[5, 5]]*5, [[5, 5, 5]]*6, [5]*6])
def test_sizes_that_cannot_be_are_refused_in_a_sentence(sizes):
    x = padded(0.)
    x.sizes = torch.tensor(sizes)
    with pytest.raises(UserError, match=r'^x\.sizes must hold height and width .*\.$'): BatchView(ViewPolicy(16))(x)

# --- channels

def test_one_channel_is_jittered_in_brightness_and_contrast_as_by_torchvision():
    x,d = images(6)[:,:1], draw_parameters(ViewPolicy(16), 6, 24, 31)
    for hue_at in range(4):
        theirs = []
        for i,o in enumerate(x):
            for k in d['order'][:,i]:
                if k<2: o = (V.adjust_brightness, V.adjust_contrast)[k](o, d['factor'][k,i].item())
            theirs.append(o)
        close(colour_jitter(x.clone(), d['factor'], d['hue'], d['order'], hue_at), theirs, atol=1e-4)

def test_one_channel_is_what_three_equal_channels_are():
    grey,policy = images(20)[:,:1], ViewPolicy(16, mean=.4, std=.3, solarize_p=.3, blur_p=.5)
    def draw(x): torch.manual_seed(5); return BatchView(policy)(x)
    torch.testing.assert_close(draw(grey), draw(grey.expand(-1, 3, -1, -1))[:,:1], rtol=0, atol=2e-3) # the weights of luma add up to .9999

def test_one_channel_is_normalised_by_the_average_of_three():
    x = images(3, 16, 16)[:,:1]
    out = BatchView(ViewPolicy(16, **QUIET))(TensorImage(x))
    torch.testing.assert_close(out, (x-.449)/.226, rtol=0, atol=2e-3)

@pytest.mark.parametrize('channels', [2, 4, 13])
def test_many_channels_work_where_nothing_asks_for_colours(channels):
    x = torch.rand(5, channels, 20, 24)
    for policy in byol_policies((18, 14), jitter_p=0, gray_p=0, blur_p=1, mean=[.5]*channels, std=.25):
        assert BatchView(policy)(x).shape==(5, channels, 18, 14)
    quiet = ViewPolicy((20, 24), **{**QUIET, 'scale': (1, 1), 'ratio': (1.2, 1.2)}, mean=list(range(channels)), std=2)
    torch.testing.assert_close(BatchView(quiet)(x), (x-torch.arange(channels).view(-1, 1, 1))/2)

@pytest.mark.parametrize('change, words', [({}, 'set jitter_p=0 and gray_p=0'), (dict(gray_p=0), 'set jitter_p=0 in both'), (dict(jitter_p=0), 'set gray_p=0 in both'),
    (dict(jitter_p=0, gray_p=0), 'give 13 numbers, or one for all')])
def test_a_policy_for_other_channels_is_refused_in_a_sentence_that_says_what_to_set(change, words):
    view,x = BatchView(ViewPolicy(16, **change)), torch.rand(2, 13, 20, 20)
    for f in view,view.check:
        with pytest.raises(UserError, match=words): f(x)

# --- what is refused

@pytest.mark.parametrize('x, words', [(torch.rand(3, 20, 20), r'x\[None\]'), (torch.zeros(2, 3, 20, 20).long(), r'\.byte\(\)'), (torch.zeros(2, 3, 20, 20)>0, 'torch.bool'),
    (torch.zeros(0, 3, 20, 20), r'\[0, 3, 20, 20\]'), (images(4)*255, 'divide by 255'), (images(4)*2-1, 'take Normalize out of batch_tfms'),
    ((images(4)-.45)/.22, 'take Normalize out of batch_tfms'), (images(4)*torch.nan, 'not numbers'), ([1, 2], 'got list')])
def test_a_batch_that_views_cannot_be_made_of_is_refused_in_a_sentence(x, words):
    view = BatchView(ViewPolicy(16))
    for f in view,view.check:
        with pytest.raises(UserError, match=words): f(x)

def test_pixels_a_little_outside_as_interpolation_leaves_them_are_taken(): BatchView(ViewPolicy(16))(images(4)*1.2-.1)

def test_images_are_cropped_in_the_way_that_suits_their_size():
    for x,way in (images(2, 32, 32), crop_resize),(images(2, 200, 300), crop_each),(padded(0.), crop_each):
        assert plan_batch(x, ViewPolicy(32 if way is crop_resize else 128), 2**17)[2] is way

def test_a_policy_is_a_view_of_a_batch_and_a_function_is_taken_at_its_word():
    view = BatchView(ViewPolicy(16))
    assert isinstance(as_view(ViewPolicy(16)), BatchView) and as_view(view) is view and as_view(torch.sigmoid) is torch.sigmoid
    assert isinstance(as_view(AlbumentationsView(ViewPolicy(16))), PerImage)
    with pytest.raises(UserError, match='a function of a batch'): as_view('simclr')
