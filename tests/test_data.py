"The embedded shapes, the loaders, and the promise that no test image is ever pretrained on"
import warnings
from functools import cache
import numpy as np, pytest, torch
from fastai.data.external import fastai_path
from fastai.vision.all import TensorImage
from hypothesis import given, strategies as st
from PIL import Image
from byol_fastai import data
from byol_fastai.all import BatchView, ViewPolicy, byol_dls, labelled_dls, make_shapes
from byol_fastai.data import load_source
from conftest import write_images

def pixels(*datasets):
    "The images of data sets, as a set of bytes"
    return {o[0].numpy().tobytes() for ds in datasets for o in ds}
def plain(dl): return torch.cat([x.as_subclass(torch.Tensor) for x,_ in dl])
def labels(dl): return torch.cat([y for _,y in dl])

# --- shapes

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
    assert not pixels(*[zip(make_shapes(300, 32, seed=0)[0])]) & pixels(*[zip(make_shapes(300, 32, seed=1)[0])])
    assert len(pixels(zip(make_shapes(300, 32)[0])))==300

# --- folders of every layout

@pytest.fixture
def by_class(tmp_path):
    "Two classes of 20 images each"
    for i,c in enumerate(('cat', 'dog')): write_images(tmp_path/'photos'/c, 20, seed=i)
    return tmp_path/'photos'

@pytest.fixture
def by_split(tmp_path):
    for i,(s,c) in enumerate((s, c) for s in ('train', 'test') for c in ('cat', 'dog')): write_images(tmp_path/'split'/s/c, 12, seed=i)
    return tmp_path/'split'

@pytest.fixture
def unlabelled(tmp_path): write_images(tmp_path/'flat', 10); write_images(tmp_path/'flat'/'deep', 6, seed=9); return tmp_path/'flat'

@pytest.fixture
def pets(tmp_path, monkeypatch):
    "The layout of `untar_data(URLs.PETS)`: the class is in the file name"
    for i,c in enumerate(('Abyssinian', 'great_pyrenees')):
        (tmp_path/'images').mkdir(exist_ok=True)
        for f in write_images(tmp_path/c, 15, seed=i).iterdir(): f.rename(tmp_path/'images'/f"{c}_{int(f.stem.split('_')[1])}.png")
    monkeypatch.setattr(data, 'untar_data', lambda url: tmp_path)
    return 'pets'

@pytest.fixture
def cifar10():
    if not (fastai_path('data')/'cifar10').exists(): pytest.skip(f"CIFAR-10 is not in {fastai_path('data')}; nothing is downloaded for a test")
    return 'cifar10'

@pytest.fixture
def shapes(): return 'shapes'

@cache
def all_files(source): return load_source(source, 32, memory_gb=0) # none of them read yet

@pytest.mark.parametrize('source', ['shapes', 'by_class', 'by_split', 'pets', 'cifar10'])
def test_no_test_image_is_ever_pretrained_on(source, request):
    source = request.getfixturevalue(source)
    clean,labelled = byol_dls(source, bs=4, n=300, size=32), labelled_dls(source, n=300, size=32)
    train,test = pixels(clean.train.dataset, clean.valid.dataset), pixels(labelled.valid.dataset)
    assert train and test and not train & test
    assert pixels(labelled.train.dataset)==train, 'the bank of the probes holds what may be seen'
    if source=='shapes': return
    src = all_files(source)
    assert not set(map(str, src.train.files)) & set(map(str, src.test.files))
    assert set(src.train.labels)==set(src.test.labels)==set(range(len(src.classes)))

def test_asking_for_fewer_images_never_moves_one_across(by_class):
    test = pixels(labelled_dls(by_class, size=32).valid.dataset)
    for n in (4, 9, 20):
        assert not pixels(byol_dls(by_class, bs=2, n=n, size=32).train.dataset) & test
        assert pixels(labelled_dls(by_class, n=n, size=32).valid.dataset) <= test

def test_train_and_test_folders_are_taken_as_they_are(by_split):
    dls = labelled_dls(by_split, size=32)
    assert dls.classes==['cat', 'dog'] and [len(o.dataset) for o in dls]==[24, 24]
    assert labels(dls.valid).tolist()==labels(labelled_dls(by_split, size=32, bs=5).valid).tolist() and set(labels(dls.valid).tolist())=={0, 1}

def test_pets_labels_come_from_the_file_names(pets):
    assert labelled_dls(pets, size=32).classes==['Abyssinian', 'great_pyrenees']

def test_cifar10_is_whole(cifar10):
    src = all_files(cifar10)
    assert (len(src.train), len(src.test), src.size)==(50_000, 10_000, 32)
    assert src.classes=='airplane automobile bird cat deer dog frog horse ship truck'.split()
    assert np.bincount(src.train.labels).tolist()==[5000]*10 and np.bincount(src.test.labels).tolist()==[1000]*10

def test_labels_agree_with_the_folders(by_class):
    src = load_source(by_class, 32, memory_gb=0)
    assert all(src.classes[l]==f.parent.name for ds in (src.train, src.test) for f,l in zip(ds.files, ds.labels))

def test_a_folder_needs_no_labels_and_is_searched_at_any_depth(unlabelled):
    dls = byol_dls(unlabelled, bs=4, size=24)
    assert len(dls.train.dataset)+len(dls.valid.dataset)==16
    with pytest.raises(ValueError, match='have no labels'): labelled_dls(unlabelled, size=24)

def test_a_few_labelled_images_are_enough_to_say_how_many_there_are(tmp_path):
    "With so few files that chance keeps none of them apart, the images still have labels"
    for i,c in enumerate(('cat', 'dog')): write_images(tmp_path/c, 1, seed=i)
    try: dls = labelled_dls(tmp_path, size=24)
    except ValueError as e: assert 'no labels' not in str(e)
    else: assert len(dls.valid.dataset)>0

# --- batches

@pytest.mark.parametrize('source', ['shapes', 'by_class', 'unlabelled', 'cifar10'])
def test_batches_are_tensor_images_in_0_to_1_and_full(source, request):
    dls = byol_dls(request.getfixturevalue(source), bs=5, n=36, size=24)
    for x,y in dls.train:
        assert isinstance(x, TensorImage) and x.dtype==torch.float32 and x.shape==(5, 3, 24, 24) and 0<=x.min()<x.max()<=1
        assert y.dtype==torch.int64 and y.shape==(5,)
    assert len(list(dls.train))==len(dls.train)==len(dls.train.dataset)//5, 'drop_last: batch normalisation never sees a rest of one'
    assert len(labels(dls.valid))==len(dls.valid.dataset)

def test_the_seed_decides_split_and_order():
    def seen(seed): dls = byol_dls('shapes', bs=8, n=40, size=16, seed=seed); return [plain(dls.train), plain(dls.train), plain(dls.valid)]
    a,b,c = seen(1), seen(1), seen(2)
    assert all(map(torch.equal, a, b)) and not any(map(torch.equal, a, c)) and not torch.equal(a[0], a[1])

@pytest.mark.parametrize('source', ['shapes', 'by_class'])
def test_labelled_images_come_in_the_same_order_and_look_as_a_view_without_augmentation(source, request):
    source = request.getfixturevalue(source)
    dls,src = labelled_dls(source, bs=7, n=30, size=32), load_source(source, 32, 30)
    for dl,ds in zip(dls, (src.train, src.test)):
        assert torch.equal(plain(dl), plain(dl)) and torch.equal(labels(dl), labels(dl)) and labels(dl).tolist()==[int(o[1]) for o in ds]
        identity = BatchView(ViewPolicy(32, scale=(1., 1.), ratio=(1., 1.), flip_p=0., jitter_p=0., gray_p=0.))
        clean = torch.stack([o[0].as_subclass(torch.Tensor) for o in ds]).float()/255
        torch.testing.assert_close(plain(dl), identity(clean), rtol=0, atol=1e-5)

def test_larger_images_are_stored_with_a_margin_and_probed_in_the_middle(by_class):
    clean,labelled = byol_dls(by_class, bs=4, size=70), labelled_dls(by_class, bs=4, size=70)
    assert clean.one_batch()[0].shape[-1]==80 and labelled.one_batch()[0].shape[-1]==70 and clean.size==labelled.size==70
    m,s = (torch.tensor(o).view(3, 1, 1) for o in (data.MEAN, data.STD))
    middle = labelled.train.dataset[0][0].as_subclass(torch.Tensor)[:,5:75,5:75].float()/255
    torch.testing.assert_close(plain(labelled.train)[0], (middle-m)/s, rtol=0, atol=1e-5)

def test_files_read_one_by_one_are_those_read_at_once(by_class):
    files,memory = load_source(by_class, 24, memory_gb=0), load_source(by_class, 24)
    for a,b in (files.train, memory.train),(files.test, memory.test):
        assert len(a)==len(b) and all(torch.equal(p[0], q[0]) and p[1]==q[1] for p,q in zip(a, b))

def test_an_image_is_scaled_to_its_shorter_side_turned_upright_and_cut_from_the_middle(tmp_path):
    im = Image.new('RGB', (60, 30), 'red'); im.paste('blue', (15, 0, 45, 30))
    exif = im.getexif(); exif[0x112] = 6 # lies on its side
    im.save(tmp_path/'a.png'); im.save(tmp_path/'b.jpg', exif=exif, quality=95)
    a,b = (data.read_square(tmp_path/f, 20) for f in ('a.png', 'b.jpg'))
    assert a.shape==b.shape==(3, 20, 20) and a.dtype==torch.uint8
    assert (a[2]>200).all() and (a[0]<60).all() and (b[2,2:-2]>200).all()

# --- what may be wrong with them

def test_files_that_are_no_images_are_left_out_with_a_warning(by_class):
    (by_class/'cat'/'broken.jpg').write_text('not an image')
    good = (by_class/'cat'/'0_000.png').read_bytes()
    (by_class/'dog'/'half.png').write_bytes(good[:len(good)//2])
    with pytest.warns(UserWarning, match='could not be read and are left out'): dls = byol_dls(by_class, bs=4, size=24, valid_pct=0)
    with pytest.warns(UserWarning, match='could not be read and are left out'): test = labelled_dls(by_class, size=24).valid
    assert len(dls.train.dataset)+len(test.dataset)==40
    with pytest.warns(UserWarning, match='could not be read'): src = load_source(by_class, 24, memory_gb=0)
    dl = data.ImageDL(src.train, 4, num_workers=0, after_batch=data.ToUnit())
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        assert sum(len(x) for x,_ in dl)==len(dls.train.dataset), 'read one by one, they are left out all the same'

@pytest.mark.parametrize('kwargs, words', [(dict(bs=1), 'bs=1 is too small'), (dict(bs=300, n=100), 'bs=300 is larger than the 90 images'),
    (dict(n=0), 'at least one image'), (dict(size=3), 'size=3 is too small'), (dict(valid_pct=1.), 'valid_pct=1.0 is a share'),
    (dict(source='cifar1'), "did you mean 'cifar10'"), (dict(source='no/such/folder'), "neither a known name .* nor a folder that exists")])
def test_wrong_arguments_are_refused_in_a_sentence(kwargs, words):
    with pytest.raises(ValueError, match=words): byol_dls(**kwargs)

def test_a_folder_without_images_is_refused_in_a_sentence(tmp_path):
    with pytest.raises(ValueError, match='There is no image file in'): byol_dls(tmp_path)
    (tmp_path/'a.jpg').write_text('not an image')
    with pytest.raises(ValueError, match='None of the 1 image files could be read'): byol_dls(tmp_path)
