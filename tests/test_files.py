"What is found in a folder, what is not, and why: the same on every machine"
import importlib, json, os, subprocess, sys, warnings
import numpy as np, pytest
from hypothesis import given, strategies as st
from PIL import Image
from byol_fastai.errors import UserError
from byol_fastai.files import differences, find_images, fingerprint, is_held_out, scan_folder

def pics(folder, n, seed=0, names='{seed}_{i:03d}.png'):
    "`n` different small pictures in `folder`"
    folder.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (n, 8, 10, 3), dtype=np.uint8)
    for i,o in enumerate(pixels): Image.fromarray(o).save(folder/names.format(seed=seed, i=i), format=None if '.' in names else 'PNG')
    return folder

def said(images): return ' '.join(images.found)
def of(images, idxs): return {images.names[i] for i in idxs}

# --- what is an image

@pytest.mark.parametrize('suffix', ['webp', 'jp2', 'jfif', 'JPG', 'Png', 'tif', 'bmp', 'gif'])
def test_the_suffixes_are_pillows_whatever_the_system_knows(tmp_path, suffix, monkeypatch):
    monkeypatch.setattr('mimetypes.types_map', {})
    pics(tmp_path, 3, names='{i}.'+suffix)
    assert len(scan_folder(tmp_path).names)==3

def test_without_a_suffix_the_head_decides(tmp_path):
    pics(tmp_path, 2, names='{i}')
    (tmp_path/'LICENSE').write_text('not an image')
    assert scan_folder(tmp_path).names==['0', '1']

def test_what_is_left_out_is_counted_by_reason(tmp_path):
    for o in ('a.txt', 'b.txt', 'c.npy', 'd.svg'): (pics(tmp_path, 1)/o).write_text('x')
    pics(tmp_path/'.cache', 2); pics(tmp_path/'__MACOSX', 2); (tmp_path/'._x.jpg').write_text('x')
    skipped = find_images(tmp_path).found[-1]
    assert '2 not an image by its suffix (.txt)' in skipped and '3 hidden' in skipped and '(.svg)' in skipped

# --- folders that are not as they should be

def test_a_pipe_does_not_hang_and_links_do_not_lead_around(tmp_path):
    root = tmp_path/'in'/'photos'
    pics(root/'cat', 3); pics(tmp_path/'in'/'private', 4)
    os.mkfifo(root/'x.jpg')
    for target,name in ((root, 'self'), (tmp_path, 'up'), (root/'cat', 'cat2'), (root/'cat'/'0_000.png', 'twin.png'), (tmp_path/'nowhere', 'dead.png')): os.symlink(target, root/name)
    os.link(root/'cat'/'0_001.png', root/'hard.png')
    scan = scan_folder(root)
    assert len(scan.names)==3 and scan.skipped['no regular file']==1 and scan.skipped['link that leads nowhere']==1

def test_links_to_what_lies_elsewhere_are_followed(tmp_path):
    pics(tmp_path/'store', 3); pics(tmp_path/'photos'/'.annex', 1)
    os.symlink(tmp_path/'store', tmp_path/'photos'/'cat')
    os.symlink(tmp_path/'photos'/'.annex'/'0_000.png', tmp_path/'photos'/'kept.png')
    assert scan_folder(tmp_path/'photos').names==['cat/0_000.png', 'cat/0_001.png', 'cat/0_002.png', 'kept.png']

@pytest.mark.parametrize('beside', ['encoder.json', 'checkpoint', None])
def test_the_results_of_a_run_are_never_data(tmp_path, beside):
    pics(tmp_path/'a', 12); pics(tmp_path/'b', 12, seed=1)
    want = find_images(tmp_path)
    run = pics(tmp_path/'runs'/'x', 1, names='curves.png')
    (run/'config.json').write_text('{}' if beside else json.dumps(dict(arch='tiny', epochs=1, tau=None, seed=0)))
    if beside: (run/beside).write_text('')
    got = find_images(tmp_path)
    assert (got.names, got.classes, got.test)==(want.names, want.classes, want.test) and 'results of a run (runs/x)' in said(got)

def test_the_pictures_of_a_run_in_the_data_folder_itself_are_left_out(tmp_path):
    pics(tmp_path, 3); pics(tmp_path, 1, names='views.png')
    (tmp_path/'config.json').write_text('{}'); (tmp_path/'report.json').write_text('{}')
    assert len(find_images(tmp_path).names)==3

def test_names_of_any_bytes_can_be_said(tmp_path):
    pics(tmp_path, 1)
    os.rename(os.fsencode(tmp_path/'0_000.png'), os.fsencode(tmp_path)+b'/\xff.png')
    images = find_images(tmp_path)
    said(images).encode(); json.dumps(fingerprint(images))

def test_an_empty_folder_is_reported_at_once_and_without_torch(tmp_path):
    code = f"import sys; from byol_fastai.files import find_images\ntry: find_images({str(tmp_path)!r})\nexcept ValueError as e: print(e)\nassert not {{'torch', 'fastai', 'pandas', 'matplotlib'}} & set(sys.modules)"
    assert 'There is no image file in' in subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout

# --- classes and sides

def test_one_stray_picture_costs_its_own_label_only_and_is_named(tmp_path):
    for i in range(10): pics(tmp_path/f'class {i}', 6, seed=i)
    pics(tmp_path, 1, names='cover.png')
    images = find_images(tmp_path)
    assert len(images.classes)==10 and images.labels.count(-1)==1 and 'cover.png' in said(images) and len(images.names)==61

def test_hundreds_of_small_folders_are_no_classes_unless_asked_for(tmp_path):
    for i in range(120): pics(tmp_path/f'v{i:03d}', 3, seed=i)
    images = find_images(tmp_path)
    assert images.classes==[''] and len(images.train)==360 and not images.test and "labels='folders'" in said(images)
    assert len(find_images(tmp_path, 'folders').classes)==120

def test_labels_can_be_refused(tmp_path):
    for i in range(3): pics(tmp_path/str(2019+i), 8, seed=i)
    assert len(find_images(tmp_path).classes)==3
    images = find_images(tmp_path, 'none')
    assert images.classes==[''] and len(images.train)==24 and not images.test
    with pytest.raises(ValueError, match="labels='all' is not known") as e: find_images(tmp_path, 'all')
    assert isinstance(e.value, UserError)

@pytest.mark.parametrize('extra', ['unlabeled', 'unsup', 'extra', 'Unlabelled_images', 'val', 'more/of/it'])
def test_everything_outside_the_test_images_is_trained_on(tmp_path, extra):
    for i,o in enumerate(('train/a', 'train/b', 'test/a', 'test/b', extra)): pics(tmp_path/o, 6, seed=i)
    pics(tmp_path, 1, names='loose.png')
    images = find_images(tmp_path)
    assert images.classes==['a', 'b'] and len(images.train)==19 and len(images.test)==12
    assert all(o.startswith('test/') for o in of(images, images.test)) and not any(o.startswith('test/') for o in of(images, images.train))
    assert [images.labels[i] for i in images.train if images.names[i].startswith(extra)]==[-1]*6

def test_val_is_held_out_without_test_and_keeps_its_labels_beside_it(tmp_path):
    for i,o in enumerate(('train/a', 'train/b', 'val/a', 'val/b')): pics(tmp_path/o, 6, seed=i)
    assert len(find_images(tmp_path).test)==12
    pics(tmp_path/'test'/'a', 5, seed=9)
    images = find_images(tmp_path)
    assert of(images, images.test)=={f'test/a/9_00{i}.png' for i in range(5)} and images.labels.count(-1)==0 and len(images.train)==24

@pytest.mark.parametrize('place', ['{c}/{s}', '{s}/{c}', 'archive/{s}/{c}', '{s}2017/{c}', 'images_{s}/{c}'])
def test_splits_in_many_spellings(tmp_path, place):
    for i,(s,c) in enumerate((s, c) for s in ('train', 'test') for c in ('cat', 'dog')): pics(tmp_path/place.format(s=s, c=c), 5, seed=i)
    images = find_images(tmp_path)
    assert images.classes==['cat', 'dog'] and len(images.test)==10 and all('test' in o for o in of(images, images.test))

def test_test_images_without_labels_are_left_alone(tmp_path):
    for i,o in enumerate(('train/a', 'train/b', 'test')): pics(tmp_path/o, 20, seed=i)
    images = find_images(tmp_path)
    assert len(images.train)+len(images.test)==40 and images.test and '20 images in the folder for testing have no label' in said(images)

def test_a_held_out_image_stays_held_out_when_the_folder_grows(tmp_path):
    for i,c in enumerate(('cat', 'dog')): pics(tmp_path/'in'/c, 20, seed=i)
    before = find_images(tmp_path)
    pics(tmp_path/'in'/'eel', 20, seed=3); pics(tmp_path, 1, names='cover.png'); pics(tmp_path/'in'/'cat', 5, seed=7)
    after = find_images(tmp_path)
    assert of(before, before.test) <= of(after, after.test) and of(before, before.train) <= of(after, after.train)

@given(st.text(min_size=1, max_size=20))
def test_a_name_decides_for_good(name): assert is_held_out(name)==is_held_out(name) and isinstance(is_held_out(name), bool)

# --- masks

@pytest.mark.parametrize('photos, masks', [('images', 'masks'), ('train/images', 'train/masks'), ('a', 'Ground_Truth'), ('images/x', 'annotations/x'), ('img', 'SegmentationClass'), ('full', 'thumbs')])
def test_masks_beside_photographs_are_left_out_with_a_warning(tmp_path, photos, masks):
    pics(tmp_path/photos, 12); pics(tmp_path/masks, 12)
    with pytest.warns(UserWarning, match='are left out, because folder and file names say'): images = find_images(tmp_path)
    assert len(images.names)==12 and all(o.startswith(photos+'/') for o in images.names) and images.classes==['']

def test_masks_in_the_same_folder(tmp_path):
    pics(tmp_path, 8); pics(tmp_path, 8, names='{seed}_{i:03d}_mask.png')
    with pytest.warns(UserWarning, match='left out'): assert len(find_images(tmp_path).names)==8

@pytest.mark.parametrize('photo, mask', [('{i}', '{i}_mask'), ('{i}', '{i}_seg'), ('{i}', '{i}_mask_2'), ('img_{i}', 'mask_{i}'), ('{i}_image', '{i}_label'), ('image{i}', 'mask{i}'), ('ulm_{i}_leftImg8bit', 'ulm_{i}_gtFine_labelIds')])
def test_masks_may_have_names_of_their_own(tmp_path, photo, mask):
    with pytest.warns(UserWarning, match='12 images are left out, because folder and file names say'):
        for o in ('split', 'train', 'flat'): # in a folder called so, in one of another name but in the middle of the path, and beside the images
            a,b = dict(split=('photographs', 'my_masks'), train=('train/x', 'train/gtFine'), flat=('', ''))[o]
            pics(tmp_path/o/a, 12, names=photo+'.jpg'); pics(tmp_path/o/b, 12, names=mask+'.png')
            images = find_images(tmp_path/o)
            assert len(images.names)==12 and all(o.endswith('.jpg') for o in images.names) and '12 masks' in said(images)

def test_a_folder_of_masks_beside_one_of_images_is_left_out_whatever_its_files_are_called(tmp_path):
    for i in range(7): pics(tmp_path/f'cell{i}'/'images', 1, seed=i); pics(tmp_path/f'cell{i}'/'masks', 3, seed=100+i, names='{seed}{i}x{seed}.png')
    with pytest.warns(UserWarning, match='21 images are left out'): images = find_images(tmp_path)
    assert len(images.names)==7 and said(images).count('masks, annotations')==1, 'one sentence for many folders'
    pics(tmp_path/'labels', 9); pics(tmp_path/'cats', 9, seed=1)
    with pytest.warns(UserWarning, match='21 images'): assert len(find_images(tmp_path).names)==7+18

def test_words_for_images_and_masks_in_the_names_of_photographs_cost_none(tmp_path):
    pics(tmp_path, 5, names='img_{i}.png'); pics(tmp_path, 5, seed=1, names='holiday photo {i}.png'); pics(tmp_path, 5, seed=2, names='thumb_{i}9.png')
    with warnings.catch_warnings(): warnings.simplefilter('error'); assert len(find_images(tmp_path).names)==15

def test_folders_of_equal_names_that_do_not_tell_are_warned_of(tmp_path):
    pics(tmp_path/'photos', 12); pics(tmp_path/'overlay', 12)
    with pytest.warns(UserWarning, match='files of the same names'): find_images(tmp_path)

def test_numbered_classes_are_no_masks(tmp_path):
    for c in ('cat', 'dog'): pics(tmp_path/c, 12, names='{i}.png')
    with warnings.catch_warnings(): warnings.simplefilter('error'); assert len(find_images(tmp_path).classes)==2

# --- fingerprint

def test_a_fingerprint_does_not_mind_moving_and_says_what_changed(tmp_path):
    for i,c in enumerate(('cat', 'dog')): pics(tmp_path/'d'/c, 6, seed=i)
    old = json.loads(json.dumps(fingerprint(find_images(tmp_path/'d'))))
    os.rename(tmp_path/'d', tmp_path/'e')
    assert differences(old, fingerprint(find_images(tmp_path/'e'))) is None
    pics(tmp_path/'e'/'dog', 2, seed=8)
    assert 'dog: 6 before, 8 now' in differences(old, fingerprint(find_images(tmp_path/'e')))
    os.rename(tmp_path/'e'/'dog'/'8_000.png', tmp_path/'e'/'dog'/'x.png'); (tmp_path/'e'/'dog'/'8_001.png').unlink(); (tmp_path/'e'/'dog'/'x.png').unlink()
    (tmp_path/'e'/'dog'/'1_000.png').rename(tmp_path/'e'/'dog'/'y.png')
    assert 'other names or sizes' in differences(old, fingerprint(find_images(tmp_path/'e')))

def test_listing_is_measured_with_files_that_are_gone_afterwards(tmp_path):
    figures = importlib.import_module('listing').measure(40, 7, tmp_path)
    assert set(figures)=={'seconds', 'cpu_seconds', 'cpu_microseconds_per_file', 'extra_mb', 'bytes_per_file', 'fingerprint_seconds', 'making_seconds'} and not list(tmp_path.iterdir())
