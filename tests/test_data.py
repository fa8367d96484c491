"Pixels of every kind, the loaders, and the promise that no test image is ever pretrained on"
import pickle, subprocess, sys, warnings
from functools import cache
from pathlib import Path
import numpy as np, pytest, torch
from fastai.data.external import fastai_path
from fastai.vision.all import TensorImage
from hypothesis import given, strategies as st
from PIL import Image, ImageCms, ImageOps
from byol_fastai import data
from byol_fastai.all import BatchView, ViewPolicy, byol_dls, labelled_dls, make_shapes
from byol_fastai.data import ImageDL, ImageFiles, Middle, ToUnit, load_source, plain_dl, read_image, stack_images
from byol_fastai.errors import UserError
from conftest import write_images

def pixels(*datasets):
    "The images of data sets, as a set of bytes"
    return {o[0].numpy().tobytes() for ds in datasets for o in ds}
def plain(dl): return torch.cat([x.as_subclass(torch.Tensor) for x,_ in dl])
def labels(dl): return torch.cat([y for _,y in dl])

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
    assert all(src.classes[l]==Path(f).parent.name for ds in (src.train, src.test) for f,l in zip(ds.files, ds.labels))

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

# --- images without anything to see

def flat_files(folder, colours, size=(24, 20)):
    folder.mkdir(parents=True)
    for i,o in enumerate(colours): Image.new('RGB', size, o).save(folder/f'{i:02d}.jpg')
    return folder

@pytest.mark.parametrize('memory_gb', [1., 0.])
def test_images_of_one_colour_each_or_all_the_same_are_said_before_the_training(tmp_path, memory_gb):
    blank,still = flat_files(tmp_path/'blank', [(i, 2*i, 90) for i in range(40)]),tmp_path/'still'
    still.mkdir()
    one = make_shapes(1, 32)[0][0].permute(1, 2, 0).numpy()
    for i in range(12): Image.fromarray(one).save(still/f'{i}.jpg', quality=90+i%3)
    assert load_source(blank, 32, memory_gb=memory_gb).found[-1].startswith('All of 32 images that were looked at are of a single colour each')
    assert load_source(still, 32, memory_gb=memory_gb).found[-1].startswith('All 12 images are the same picture, or nearly so')

def test_one_image_that_differs_is_enough(tmp_path):
    folder = flat_files(tmp_path/'some', ['red']*11)
    write_images(folder, 1)
    assert not any('single' in o or 'same picture' in o for o in load_source(folder, 32).found)

# --- batches

@pytest.mark.parametrize('source', ['shapes', 'by_class', 'unlabelled', 'cifar10'])
def test_batches_are_tensor_images_in_0_to_1_and_full(source, request):
    dls = byol_dls(request.getfixturevalue(source), bs=5, n=36, size=24)
    for x,y in dls.train:
        assert isinstance(x, TensorImage) and x.dtype==torch.float32 and x.shape[:2]==(5, 3) and min(x.shape[2:])>=24 and 0<=x.min()<x.max()<=1
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
        clean = torch.stack([Middle(32)(ToUnit()(TensorImage(o[0][None])))[0].as_subclass(torch.Tensor) for o in ds])
        torch.testing.assert_close(plain(dl), identity(clean), rtol=0, atol=1e-5)

def test_large_images_are_probed_in_the_middle_as_torchvision_would(tmp_path):
    from torchvision.transforms.v2 import functional as tv
    im = Image.fromarray(make_shapes(1, 300)[0][0].permute(1, 2, 0).numpy()).crop((0, 0, 300, 220))
    im.save(tmp_path/'a.png'); im.transpose(Image.Transpose.ROTATE_90).save(tmp_path/'b.png')
    dl = plain_dl(load_source(tmp_path, 96, mean=0., std=1.).train, 96, mean=0., std=1.)
    got = plain(dl)
    assert got.shape==(2, 3, 96, 96) and dl.dataset[0][0].shape!=dl.dataset[1][0].shape
    want = tv.center_crop(tv.resize(tv.pil_to_tensor(im)[None].float()/255, 110, interpolation=3, antialias=True), 96)[0]
    best = min((o-want).abs().mean() for o in got)
    assert best < .02, 'but for being scaled in two steps'

def test_files_read_one_by_one_are_those_read_at_once(by_class):
    files,memory = load_source(by_class, 24, memory_gb=0), load_source(by_class, 24)
    for a,b in (files.train, memory.train),(files.test, memory.test):
        assert len(a)==len(b) and all(torch.equal(p[0], q[0]) and p[1]==q[1] for p,q in zip(a, b))

# --- pixels

def save(path, a, **kwargs): Image.fromarray(a).save(path, **kwargs); return path

def test_the_whole_of_an_image_is_kept_upright(tmp_path):
    im = Image.new('RGB', (60, 30), 'red'); im.paste('blue', (0, 0, 30, 30))
    for k in range(1, 9):
        exif = im.getexif(); exif[0x112] = k
        for suffix in ('jpg', 'png', 'tif', 'webp'):
            im.save(tmp_path/f'{k}.{suffix}', exif=exif, quality=95)
            got = read_image(tmp_path/f'{k}.{suffix}').permute(1, 2, 0)
            with Image.open(tmp_path/f'{k}.{suffix}') as o: want = np.array(ImageOps.exif_transpose(o).convert('RGB'))
            assert got.shape==want.shape and np.abs(got.numpy().astype(int)-want).mean()<2, (k, suffix)

@pytest.mark.parametrize('w, h', [(500, 375), (375, 500), (64, 400), (3000, 40), (30, 20)])
@pytest.mark.parametrize('suffix', ['jpg', 'png'])
def test_what_is_stored_is_large_enough_bounded_and_never_enlarged(tmp_path, w, h, suffix):
    path = save(tmp_path/f'a.{suffix}', np.random.default_rng(0).integers(0, 255, (h, w, 3), dtype=np.uint8))
    _,a,b = read_image(path, 48).shape
    assert a<=h and b<=w and a*b<=2.65*48**2 and max(a, b)<=4*min(a, b)+4
    assert a*b>=.95*min(2.6*48**2, min(w, 4*h)*min(h, 4*w))

def test_two_strips_that_differ_at_their_ends_stay_different(tmp_path):
    a = np.zeros((64, 250, 3), np.uint8); b = a.copy(); b[:,-20:] = 255
    assert not torch.equal(*[read_image(save(tmp_path/f'{i}.png', o), 32) for i,o in enumerate((a, b))])

@pytest.mark.parametrize('dtype, low, high', [('<u2', 0, 65535), ('>u2', 0, 65535), ('<u2', 0, 4095), ('<i4', 0, 60000), ('<i4', -500, 900), ('<f4', 0, 1), ('<f4', -500, 500)])
def test_deep_images_are_scaled_by_their_own_range(tmp_path, dtype, low, high):
    ramp = np.linspace(low, high, 1600).reshape(40, 40).astype(dtype)
    got = read_image(save(tmp_path/'a.tif', ramp), 32)
    assert got.shape==(3, 40, 40) and (got[0].numpy().astype(int).flatten()[[0, -1]]==[0, 255]).all() and abs(got.float().mean()-127.5)<1

def test_tiffs_of_microscopes(tmp_path):
    tifffile = pytest.importorskip('tifffile')
    ramp = np.linspace(0, 1, 1600).reshape(40, 40)
    for i,(a,kw) in enumerate((((60000*ramp).astype('u2'), dict(byteorder='>')), (np.stack([ramp, ramp*0]).astype('f4'), {}), (np.where(ramp>.5, ramp, np.nan).astype('f4'), {}))):
        tifffile.imwrite(tmp_path/f'{i}.tif', a, photometric='minisblack', **kw)
        assert read_image(tmp_path/f'{i}.tif').float().mean()>60
    src = load_source(tmp_path, 40)
    assert any('3 images have more than 8 bits' in o for o in src.found) and any('1 image has more than one page' in o for o in src.found)
    (tmp_path/'many').mkdir()
    for i in range(3): tifffile.imwrite(tmp_path/'many'/f'{i}.tif', np.zeros((40, 40, 13), 'u1'), photometric='minisblack', planarconfig='contig')
    with pytest.raises(ValueError, match='Pillow reads at most four channels'): load_source(tmp_path/'many', 40)

def test_what_is_transparent_is_white(tmp_path):
    sign = Image.new('RGBA', (40, 40), (0, 0, 0, 0)); sign.paste((200, 0, 0, 255), (10, 10, 30, 30))
    for i,im in enumerate((sign, sign.convert('LA'), sign.quantize())):
        im.save(tmp_path/f'{i}.png')
        got = read_image(tmp_path/f'{i}.png')
        assert (got[:,0,0]>250).all() and got[1,20,20]<80
    assert any('3 images have transparency' in o for o in load_source(tmp_path, 40).found)

def test_a_limit_names_its_cure_and_nothing_global_is_changed(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 1000)
    noise = np.random.default_rng(0).integers(0, 255, (400, 400, 3), dtype=np.uint8)
    png,jpg = save(tmp_path/'a.png', noise), save(tmp_path/'b.jpg', noise)
    with pytest.raises(ValueError, match='give a larger max_pixels') as e: read_image(png, 32, max_pixels=100_000)
    assert isinstance(e.value, UserError) and Image.MAX_IMAGE_PIXELS==1000
    with warnings.catch_warnings(): warnings.simplefilter('error'); assert read_image(jpg, 32, max_pixels=100_000).shape==read_image(png, 32).shape
    with pytest.warns(UserWarning, match='max_pixels'): assert len(load_source(tmp_path, 32, max_pixels=100_000).train)==1
    assert Image.MAX_IMAGE_PIXELS==1000

# --- batches of many shapes

@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=6))
def test_a_padded_batch_holds_its_images(shapes):
    images = [torch.randint(1, 255, (3, *o), dtype=torch.uint8) for o in shapes]
    x = stack_images(images)
    sizes = getattr(x, 'sizes', torch.tensor(shapes))
    assert sizes.tolist()==[list(o) for o in shapes] and (len(set(shapes))==1)==(not hasattr(x, 'sizes'))
    assert all(torch.equal(o[:,:h,:w].as_subclass(torch.Tensor), im) for o,im,(h,w) in zip(x, images, shapes)) and int((x>0).sum())==sum(o.numel() for o in images)

@pytest.fixture
def mixed(tmp_path):
    for i,size in enumerate(((60, 40), (40, 60), (50, 50))):
        for j in range(6): (tmp_path/'mixed').mkdir(exist_ok=True); save(tmp_path/'mixed'/f'{i}{j}.png', np.full((*size, 3), 10*i+j+1, np.uint8))
    return tmp_path/'mixed'

@pytest.mark.parametrize('memory_gb, workers', [(2, 0), (0, 0), (0, 2)])
def test_sizes_come_through_memory_disk_and_workers(mixed, memory_gb, workers):
    dls = byol_dls(mixed, bs=8, size=32, valid_pct=0, memory_gb=memory_gb, workers=workers)
    for x,_ in dls.train:
        assert x.dtype==torch.float32 and x.sizes.shape==(8, 2)
        assert all((o[:,:h,:w]>0).all() and (o[:,h:]==0).all() and (o[:,:,w:]==0).all() for o,(h,w) in zip(x.as_subclass(torch.Tensor), x.sizes.tolist()))

def test_loaders_and_their_data_can_be_sent_to_a_process_that_is_started_anew(mixed):
    code = f"""
import torch, torch.multiprocessing as mp
from byol_fastai.data import byol_dls
if __name__=='__main__':
    mp.set_start_method('spawn')
    print(sum(len(x) for x,_ in byol_dls({str(mixed)!r}, bs=4, size=32, valid_pct=0, memory_gb=0, workers=1).train))"""
    (mixed.parent/'go.py').write_text(code)
    done = subprocess.run([sys.executable, str(mixed.parent/'go.py')], capture_output=True, text=True)
    assert done.stdout.strip()=='16', done.stderr

def test_a_dead_worker_is_a_sentence(mixed, monkeypatch):
    dl = byol_dls(mixed, bs=4, size=32, memory_gb=0, workers=0).train
    def dead(self, samps): raise RuntimeError('DataLoader worker (pid 7) is killed by signal: Bus error.')
    monkeypatch.setattr(ImageDL, 'create_batches', dead)
    with pytest.raises(RuntimeError, match='--workers 0') as e: list(dl)
    assert isinstance(e.value, UserError)

# --- one source, carried through

def test_a_source_is_loaded_once_and_carried(by_class):
    src = load_source(by_class, 24, mean=.5, std=(.2, .3, .4))
    dls,probes = byol_dls(src, bs=4), labelled_dls(src, max_rows=5)
    assert dls.source is src and probes.source is src and load_source(src) is src and dls.mean==(.5,)*3 and dls.std==(.2, .3, .4) and dls.size==24
    assert [len(o.dataset) for o in probes]==[5, 5] and probes.train.dataset.x.shape[0]==5
    x = Middle(24)(ToUnit()(TensorImage(probes.train.dataset[0][0][None])))
    torch.testing.assert_close(plain(probes.train)[:1], (x.as_subclass(torch.Tensor)-.5)/torch.tensor([.2, .3, .4]).view(3, 1, 1))
    with pytest.raises(ValueError, match='mean has 2 numbers'): load_source(by_class, 24, mean=(.1, .2))

def test_unlabelled_images_are_trained_on_and_not_measured(by_split):
    write_images(by_split/'unlabeled', 9, seed=50)
    src = load_source(by_split, 24)
    assert (len(src.train), len(src.labelled), len(src.test))==(33, 24, 24) and int((src.train.y<0).sum())==9
    byol_dls(src, bs=8).show_batch(max_n=4)

def test_new_empty_is_small(by_class):
    for memory_gb in (0, 2):
        dls = byol_dls(by_class, bs=4, size=24, memory_gb=memory_gb, workers=0)
        assert len(pickle.dumps(dls.new_empty().train.dataset))<3000

# --- what may be wrong with them

def test_files_that_are_no_images_are_left_out_with_a_warning(by_class):
    (by_class/'cat'/'broken.jpg').write_text('not an image')
    good = (by_class/'cat'/'0_000.png').read_bytes()
    (by_class/'dog'/'half.png').write_bytes(good[:len(good)//2])
    with pytest.warns(UserWarning, match='could not be read and are left out'): dls = byol_dls(by_class, bs=4, size=24, valid_pct=0)
    with pytest.warns(UserWarning, match='could not be read and are left out'): test = labelled_dls(by_class, size=24).valid
    assert len(dls.train.dataset)+len(test.dataset)==40
    assert any('could not be read' in o for o in dls.source.found)

@pytest.mark.parametrize('place', [0, 3, 15])
@pytest.mark.parametrize('workers', [0, 2])
def test_a_truncated_file_costs_itself_alone_wherever_it_stands(by_class, place, workers):
    files = sorted(map(str, (by_class/'cat').iterdir()))[:16]
    whole = Path(files[place]).read_bytes()
    Path(files[place]).write_bytes(whole[:len(whole)//2])
    dl = ImageDL(ImageFiles(files, [0]*16, 24), 4, num_workers=workers, device='cpu', drop_last=True, shuffle=True, after_batch=ToUnit())
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter('always')
        assert dl.n_inp==1 and [[len(x) for x,_ in dl] for _ in range(2)]==[[4]*4]*2
    assert len([o for o in told if 'could not be read' in str(o.message)])<=1 and int(dl.dataset.bad.sum())==1
    for f in files: Path(f).write_text('gone')
    with pytest.raises(ValueError, match='None of the 16 image files can be read any more'), warnings.catch_warnings(): warnings.simplefilter('ignore'); list(dl)

@pytest.mark.parametrize('kwargs, words', [(dict(bs=1), 'bs=1 is too small'), (dict(bs=300, n=100), 'bs=300 is larger than the 90 images'),
    (dict(n=0), 'at least one image'), (dict(size=3), 'size=3 is too small'), (dict(valid_pct=1.), 'valid_pct=1.0 is a share'),
    (dict(source='cifar1'), "did you mean 'cifar10'"), (dict(source='no/such/folder'), "neither a known name .* nor a folder that exists")])
def test_wrong_arguments_are_refused_in_a_sentence(kwargs, words):
    with pytest.raises(ValueError, match=words): byol_dls(**kwargs)

def test_a_folder_without_images_is_refused_in_a_sentence(tmp_path):
    with pytest.raises(ValueError, match='There is no image file in'): byol_dls(tmp_path)
    (tmp_path/'a.jpg').write_text('not an image')
    with pytest.raises(ValueError, match='None of the 1 image files could be read'): byol_dls(tmp_path)

# --- TIFF of many kinds

COLOURS_OF_HALVES = [200, 30, 60],[20, 120, 220] # above and below

def halves():
    rgb = np.zeros((8, 8, 3), np.uint8)
    rgb[:4],rgb[4:] = COLOURS_OF_HALVES
    return Image.fromarray(rgb)

def as_lab(im): return ImageCms.profileToProfile(im, ImageCms.createProfile('sRGB'), ImageCms.createProfile('LAB'), outputMode='LAB')

@pytest.mark.parametrize('mode, change', [('LAB', as_lab), ('CMYK', lambda im: im.convert('CMYK')), ('P', lambda im: im.convert('P', palette=Image.Palette.ADAPTIVE, colors=4)), ('YCbCr', lambda im: im.convert('YCbCr'))])
@pytest.mark.parametrize('compression', [None, 'tiff_lzw'])
def test_tiffs_of_other_colours_get_the_right_pixels(mode, change, compression, tmp_path):
    change(halves()).save(tmp_path/'a.tif', compression=compression)
    with Image.open(tmp_path/'a.tif') as im: assert im.mode in (mode, 'RGB') # libtiff turns YCbCr itself
    got = read_image(tmp_path/'a.tif')
    for y,colour in zip((1, 6), COLOURS_OF_HALVES): assert np.abs(got[:,y,3].numpy().astype(int)-colour).max()<=8

def test_the_colours_of_print_are_named_and_so_is_what_pillow_cannot_read(tmp_path):
    write_images(tmp_path, 4)
    halves().convert('CMYK').save(tmp_path/'print.tif')
    as_lab(halves()).save(tmp_path/'lab.tif')
    b = (tmp_path/'lab.tif').read_bytes()
    tag = b'\x06\x01\x03\x00\x01\x00\x00\x00' # PhotometricInterpretation: 8 is CIELab, and 9 is ICCLab, which few can read
    assert b.count(tag+b'\x08')==1
    (tmp_path/'icclab.tif').write_bytes(b.replace(tag+b'\x08', tag+b'\x09'))
    with pytest.warns(UserWarning, match='1 of 7 images could not be read and are left out: .*icclab.tif'): found = ' '.join(load_source(tmp_path, 16).found)
    assert '1 image has the four colours of print (CMYK)' in found and '1 image could not be read' in found

# --- classes

def test_the_classes_are_whole_as_they_stand_in_their_module():
    assert '@patch' not in Path(data.__file__).read_text()
    for c in (ImageDL, ImageFiles): assert {f.__module__ for o in c.__mro__ if o.__module__==data.__name__ for f in vars(o).values() if callable(f)}=={data.__name__}
