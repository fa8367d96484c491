"""Policies, the reference, transforms of one image as views of a batch, and the callback that makes two of each"""
import pickle, subprocess, sys
from dataclasses import asdict
from types import SimpleNamespace
import albumentations as A, numpy as np, pytest, torch
from albumentations.pytorch import ToTensorV2
from fastai.vision.all import (DataBlock, DataLoaders, ImageBlock, ImageDataLoaders, Learner, Module, Normalize, PILImage, PILImageBW, Resize,
    TensorImage, TfmdDL, nn)
from PIL import Image
from torchvision import transforms as T
from torchvision.transforms import v2
from byol_fastai.augment import BatchView
from byol_fastai.errors import UserError
from byol_fastai.data import channel_stats
from byol_fastai.views import (AlbumentationsView, PerImage, TwoViews, ViewPolicy, byol_policies, per_image, source_policies)
from conftest import tiny_learner

def images(n=5, h=24, w=31, channels=3, seed=0): return torch.rand(n, channels, h, w, generator=torch.Generator().manual_seed(seed))
def padded(fill, shapes=((20, 30), (24, 10), (5, 31))):
    x = TensorImage(torch.full((len(shapes), 3, 24, 31), fill))
    for k,(o,(h,w)) in enumerate(zip(x, shapes)): o[:,:h,:w] = images(1, h, w, seed=k)[0]
    x.sizes = torch.tensor(shapes)
    return x

# --- policies

def test_the_policies_are_those_of_the_paper():
    t,t2 = byol_policies(224)
    common = dict(size=224, scale=(.08, 1.), ratio=(3/4, 4/3), flip_p=.5, jitter_p=.8, brightness=.4, contrast=.4, saturation=.2, hue=.1, gray_p=.2,
        blur_sigma=(.1, 2.), mean=(.485, .456, .406), std=(.229, .224, .225))
    assert t==ViewPolicy(**common, blur_p=1., solarize_p=0.) and t2==ViewPolicy(**common, blur_p=.1, solarize_p=.2)
    assert t.blur_taps==23
    small = byol_policies(32, hue=.2)
    assert [p.blur_p for p in small]==[0, 0] and [p.solarize_p for p in small]==[0, .2] and [p.hue for p in small]==[.2, .2]

@pytest.mark.parametrize('field, value', [('flip_p', 1.5), ('flip_p', None), ('hue', 'much'), ('scale', .5), ('scale', (.1, .2, .3)), ('ratio', 'wide'), ('jitter_p', True),
    ('size', 32.5), ('size', (32, 0)), ('size', (32, 32, 32)), ('size', '32'), ('size', True), ('std', (1, 0, 1)), ('mean', ('a',)), ('mean', ()), ('jitter_p', -.1), ('gray_p', 2), ('blur_p', -1), ('solarize_p', 1.01), ('scale', (.5, .2)),
    ('scale', (0, 1)), ('scale', (.5, 1.5)), ('ratio', (-1, 1)), ('blur_sigma', (0, 1)), ('brightness', -.1), ('contrast', 1.2), ('saturation', 2),
    ('hue', .6), ('size', 0)])
def test_a_wrong_field_is_refused_in_a_sentence_that_names_it(field, value):
    with pytest.raises(ValueError, match=rf'^{field}=.*\.$'): ViewPolicy(**{'size': 32, field: value})

def test_mean_and_std_of_different_lengths_are_refused():
    with pytest.raises(UserError, match='same number of channels'): ViewPolicy(32, mean=(.1, .2), std=(1, 2, 3))

@pytest.mark.parametrize('size', [(32, 48), [32, 48], np.array([32, 48]), torch.tensor([32, 48])])
def test_views_may_be_oblong(size):
    p = ViewPolicy(size, scale=[.2, 1.], mean=np.array([.1, .2, .3]))
    assert p.size==p.hw==(32, 48) and p.blur_taps==ViewPolicy(32).blur_taps==3 and p==ViewPolicy((32, 48), scale=(.2, 1.), mean=(.1, .2, .3))
    assert BatchView(p)(images(3)).shape==AlbumentationsView(p)(Image.new('RGB', (70, 50))).expand(3, -1, -1, -1).shape==(3, 3, 32, 48)

def test_a_square_is_one_number_however_it_is_given():
    for size in 32,(32, 32),[32, 32],np.int64(32): assert ViewPolicy(size)==ViewPolicy(32) and type(ViewPolicy(size).size) is int and ViewPolicy(size).hw==(32, 32)
    assert pickle.loads(pickle.dumps(ViewPolicy(32)))==ViewPolicy(**asdict(ViewPolicy(32)))==ViewPolicy(32)

def test_whether_views_are_blurred_depends_on_the_shorter_side():
    assert [p.blur_p for p in byol_policies((32, 64))]==[0, 0] and [p.blur_p for p in byol_policies((64, 48))]==[1, .1]

def test_a_source_says_how_large_and_how_normalised_its_views_are():
    source = SimpleNamespace(name='folder', size=64, mean=(.1, .2, .3), std=(.4, .5, .6))
    assert source_policies(source)==byol_policies(64, mean=source.mean, std=source.std)
    assert source_policies(source, (32, 40), 0., 1.)==byol_policies((32, 40), mean=0., std=1.)
    assert source_policies('pets', 64)==byol_policies(64)
    for shapes in 'shapes',SimpleNamespace(name='shapes', size=32): assert [(p.gray_p, p.hue, p.scale) for p in source_policies(shapes, 32)]==[(.3, .5, (.3, .8))]*2
    with pytest.raises(UserError, match='Give a size'): source_policies('pets')

def test_one_mean_serves_every_channel_and_one_channel_gets_the_average():
    assert channel_stats(.5, (.1, .2), 2)==((.5, .5), (.1, .2))
    assert channel_stats((.1, .2, .6), .5, 1)==(pytest.approx((.3,)), (.5,))
    with pytest.raises(UserError, match='std has 3 numbers'): channel_stats(0, (1, 2, 3), 4)

# --- the reference

@pytest.mark.parametrize('image', [np.zeros((9, 8, 3)), np.zeros((9, 8, 4), np.uint8), torch.rand(3, 9, 8)])
def test_the_reference_wants_bytes_of_three_channels(image):
    with pytest.raises(UserError, match='AlbumentationsView wants'): AlbumentationsView(ViewPolicy(8))(image)

def test_importing_the_library_loads_neither_albumentations_nor_opencv():
    code = "import sys; from byol_fastai.augment import *; assert not {'cv2', 'albumentations'} & set(sys.modules)"
    subprocess.run([sys.executable, '-c', code], check=True)

# --- transforms of one image

NORM = (.5, .5, .5)
PER_IMAGE = dict(
    albumentations=(A.Compose([A.RandomResizedCrop((16, 20)), A.Normalize(NORM, NORM), ToTensorV2()]), 'array'),
    albumentations_arrays=(A.Compose([A.RandomCrop(16, 20)]), 'array'),
    one_of_albumentations=(A.RandomCrop(16, 20), 'array'),
    torchvision_v1=(T.Compose([T.RandomResizedCrop((16, 20)), T.RandomApply([T.ColorJitter(.4)], .8), T.ToTensor(), T.Normalize(NORM, NORM)]), 'pil'),
    torchvision_v1_tensors=(T.Compose([T.RandomCrop((16, 20)), T.ConvertImageDtype(torch.float32)]), 'bytes'),
    torchvision_v2=(v2.Compose([v2.ToImage(), v2.RandomResizedCrop((16, 20)), v2.ToDtype(torch.float32, scale=True), v2.Normalize(NORM, NORM)]), 'pil'),
    torchvision_v2_tensors=(v2.Compose([v2.RandomResizedCrop((16, 20)), v2.TrivialAugmentWide(), v2.ToDtype(torch.float32, scale=True)]), 'bytes'),
    one_of_torchvision=(v2.RandomCrop((16, 20)), 'floats'),
    sequential=(nn.Sequential(T.RandomCrop((16, 20)), T.Normalize(NORM, NORM)), 'floats'))
@pytest.mark.parametrize('name', PER_IMAGE)
@pytest.mark.parametrize('as_bytes', [False, True])
def test_transforms_of_other_libraries_become_views_of_a_batch_and_draw_for_each_image(name, as_bytes):
    tfm,wants = PER_IMAGE[name]
    view,x = per_image(tfm), images(1).repeat(12, 1, 1, 1)
    assert isinstance(view, PerImage) and view.wants==wants
    v = view((x*255).byte() if as_bytes else x)
    assert v.shape==(12, 3, 16, 20) and v.dtype==torch.float32 and v.abs().max()<=1.01
    assert len(torch.unique(v.flatten(1), dim=0))>6

@pytest.mark.parametrize('wants', ['array', 'pil', 'bytes', 'floats'])
def test_a_function_gets_the_image_as_it_wants_it_and_may_return_it_in_any_form(wants):
    def f(o):
        kind = dict(array=np.ndarray, pil=Image.Image, bytes=torch.Tensor, floats=torch.Tensor)[wants]
        assert isinstance(o, kind) and not isinstance(o, TensorImage)
        return o
    x = (images(3)*255).round()/255
    torch.testing.assert_close(PerImage(f, wants)(TensorImage(x)), x, rtol=0, atol=1e-6)
    torch.testing.assert_close(PerImage(f, wants)(x[:,:1]), x[:,:1], rtol=0, atol=1e-6)

def test_images_of_a_padded_batch_are_handed_over_in_their_own_size():
    seen = []
    def f(o): seen.append(tuple(o.shape[1:])); return o[:,:5,:10]
    v = PerImage(f)(padded(1e6))
    assert seen==[(20, 30), (24, 10), (5, 31)] and v.max()<=1

def test_any_number_of_channels_goes_through_a_function_but_not_through_pil():
    assert PerImage(lambda o: o[:,:8,:8])(images(channels=13)).shape==(5, 13, 8, 8)
    with pytest.raises(UserError, match="say PerImage"): PerImage(lambda o: o, 'pil')(images(channels=13))

@pytest.mark.parametrize('f, words', [(lambda o: [o, o], 'returned list'), (lambda o: o.mean(), 'returned Tensor'), (lambda o: None, 'returned NoneType')])
def test_what_is_no_view_is_refused_in_a_sentence(f, words):
    with pytest.raises(UserError, match=words): PerImage(f)(images())

def test_views_of_different_shapes_are_refused_in_a_sentence():
    with pytest.raises(UserError, match='crop or resize to one size'): PerImage(lambda o: o)(padded(0.))
    with pytest.raises(UserError, match="wants='jpeg' must be one of 'array'"): PerImage(str, 'jpeg')

def test_what_is_not_clearly_for_one_image_is_left_as_it_is():
    for view in BatchView(ViewPolicy(16)),torch.sigmoid,nn.Sequential(nn.Identity(), T.RandomCrop(16)),nn.Sequential(),PerImage(torch.sigmoid): assert per_image(view) is view
    with pytest.raises(UserError, match='write BatchView'): per_image(ViewPolicy(16))

# --- two views in the training loop

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

class Nothing(Module):
    def __init__(self): self.w = nn.Parameter(torch.ones(1))
    def forward(self, v1, v2): self.seen = v1,v2; return self.w*(v1-v2).abs().mean()

class Batches(TfmdDL):
    "Loader that gives one and the same batch three times"
    def __init__(self, x): self.x,self.n,self.bs,self.device,self._n_inp = x,3*len(x),len(x),torch.device('cpu'),1
    def __iter__(self): return iter([(self.x, torch.zeros(len(self.x)))]*3)
    def __len__(self): return 3

def learner(x, view1, view2=None):
    return Learner(DataLoaders(Batches(x), Batches(x)), Nothing(), loss_func=lambda p, *y: p, lr=0., cbs=TwoViews(view1, view2 or view1))
def fit(learn):
    with learn.no_bar(), learn.no_logging(): learn.fit(1)
    return learn

@pytest.mark.parametrize('view', [BatchView(ViewPolicy(16)), AlbumentationsView(ViewPolicy(16)), PER_IMAGE['torchvision_v1'][0], lambda x: x+torch.rand_like(x)],
    ids=['batch', 'albumentations', 'torchvision', 'function'])
def test_any_pair_of_callables_makes_views(view):
    learn = fit(learner(TensorImage(images(6)), view))
    v1,v2 = learn.model.seen
    assert len(v1)==6 and (v1-v2).abs().amax((1, 2, 3)).min()>0

def test_padded_batches_reach_the_views_with_their_sizes():
    v1,v2 = fit(learner(padded(1e6), BatchView(ViewPolicy(16)), AlbumentationsView(ViewPolicy(16)))).model.seen
    assert v1.shape==v2.shape==(3, 3, 16, 16) and max(v1.max(), v2.max())<3

@pytest.mark.parametrize('change, words', [(lambda x: x*255, 'divide by 255'), (Normalize.from_stats((.48,)*3, (.22,)*3, cuda=False), 'take Normalize out'), (lambda x: x[:,:2], 'set jitter_p=0')])
@pytest.mark.parametrize('on_cpu', [True, False])
def test_images_that_views_cannot_be_made_of_stop_the_fit_at_its_first_batch(change, words, on_cpu, monkeypatch):
    if not on_cpu: monkeypatch.setattr(BatchView, '__call__', lambda self, x: x) # on a GPU a view does not look at values itself
    with pytest.raises(UserError, match=words): fit(learner(change(TensorImage(images(4))), BatchView(ViewPolicy(16))))

def test_values_are_looked_at_once_in_a_pass(monkeypatch):
    looks = []
    monkeypatch.setattr(BatchView, 'check', lambda self, x: looks.append(len(x)))
    fit(learner(images(4), BatchView(ViewPolicy(16))))
    assert looks==[4]*4 # two views, in training and in validation

@pytest.mark.parametrize('view, words', [(lambda image: image.convert('RGB'), 'write PerImage'), (lambda x: x[0], 'write PerImage'), (lambda x: (x, x), 'returned tuple')])
def test_a_view_that_is_none_is_named_with_the_cure(view, words):
    with pytest.raises(UserError, match=words): fit(learner(images(4), view))

def test_two_views_leave_nothing_behind():
    learn = learner(images(4), BatchView(ViewPolicy(16)))
    was = set(vars(learn))
    fit(learn)
    with learn.no_bar(): learn.validate()
    assert {o for o in set(vars(learn))-was if 'view' in o.lower()}==set()

@pytest.fixture
def files(tmp_path):
    for i,o in enumerate(images(12)): Image.fromarray((o*255).byte().permute(1, 2, 0).numpy()).save(tmp_path/f'{i}.png')
    return sorted(tmp_path.iterdir())

@pytest.mark.parametrize('kind, channels', [(PILImage, 3), (PILImageBW, 1)])
def test_loaders_of_fastai_in_colour_and_in_black_and_white_give_views(files, kind, channels):
    dls = DataBlock(ImageBlock(kind), get_items=lambda _: files, item_tfms=Resize(20)).dataloaders('.', bs=4, num_workers=0)
    learn = fit(Learner(dls, Nothing(), loss_func=lambda p, *y: p, lr=0., cbs=TwoViews(*map(BatchView, byol_policies((16, 24))))))
    assert all(v.shape[1:]==(channels, 16, 24) for v in learn.model.seen)

def test_loaders_that_normalise_are_refused_with_the_cure(files):
    dls = ImageDataLoaders.from_lists('.', files, ['a']*12, bs=4, item_tfms=Resize(20), batch_tfms=Normalize.from_stats((.5,)*3, (.2,)*3), num_workers=0)
    with pytest.raises(UserError, match='take Normalize out of batch_tfms'):
        fit(Learner(dls, Nothing(), loss_func=lambda p, *y: p, lr=0., cbs=TwoViews(*map(BatchView, byol_policies(16)))))
