"Real photographs: few labels against a direct computation, the experiment at a tiny size, and what its ledger says"
import importlib, json
import numpy as np, pytest, torch
from fastai.data.external import fastai_path
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler
from byol_fastai import course
from byol_fastai.all import TinyResNet, create_encoder, embed, knn_predict, label_efficiency, labelled_dls, load_source, save_encoder
from byol_fastai.course import figure, higher, ledger, seed_values
from byol_fastai.probes import Rival, few_labels
from byol_fastai.rivals import grey_pixels
from conftest import write_images

CLOTHES = fastai_path('data')/'clothing-dataset-small'
photographs = importlib.import_module('photographs')

def direct(x, y, queries, truth):
    "Accuracy of a logistic regression on standardised features, by scikit-learn alone"
    scaler = StandardScaler().fit(x)
    return (LogisticRegression(max_iter=2000).fit(scaler.transform(x), y).predict(scaler.transform(queries))==truth).mean()

def middle(path, size=32):
    "Grey values of the middle square of a photograph, by Pillow alone"
    im = Image.open(path).convert('L')
    s = min(im.size)
    left,top = (o-s for o in im.size)
    return np.asarray(im.resize((size, size), Image.Resampling.BICUBIC, box=(left/2, top/2, left/2+s, top/2+s))).ravel()/255

# --- few labels

def test_label_efficiency_is_what_scikit_learn_says():
    dls,encoder = labelled_dls('shapes', n=400, size=16),TinyResNet(8)
    table = label_efficiency(encoder, TinyResNet(8), dls, shares=(.1, .5), n_epoch=1, seed=3)
    test = [o.numpy() for o in embed(encoder, dls.valid)]
    for share,row in table.iterrows():
        few = few_labels(dls, share, seed=3).train
        known = [o.numpy() for o in embed(encoder, few)]
        assert row.images==len(known[1])==pytest.approx(share*len(dls.train.dataset), abs=10)
        assert row.linear==pytest.approx(direct(*known, *test), abs=.011), 'a solver that stops elsewhere may turn one image in a hundred'

def test_both_probes_of_the_experiment_are_what_scikit_learn_says():
    rng = np.random.default_rng(0)
    y,truth = rng.integers(0, 4, 400),rng.integers(0, 4, 200)
    x,queries = (np.eye(4)[o].repeat(2, 1)+rng.normal(0, .9, (len(o), 8)) for o in (y, truth))
    bank,test = ((torch.tensor(a).float(), torch.tensor(b)) for a,b in ((x, y), (queries, truth)))
    found = photographs.frozen(bank, test, seed=0)
    assert found['images']=={'0.01': 4, '0.1': 40, '1.0': 400}
    assert found['linear']['1.0']==pytest.approx(direct(x, y, queries, truth), abs=.011)
    def cosine_vote(scale, k): # as `knn_predict` weighs, in the words of scikit-learn
        near = KNeighborsClassifier(k, metric='cosine', weights=lambda d: np.exp((d.min(1, keepdims=True)-d)/.1))
        return near.fit((x-x.mean(0))/scale, y).score((queries-x.mean(0))/scale, truth)
    assert found['knn']['1.0']==pytest.approx(max(cosine_vote(s, k) for s in (1, x.std(0)) for k in (20, 100)), abs=1e-6)

@pytest.mark.skipif(not CLOTHES.is_dir(), reason=f'the clothing photographs are not in {CLOTHES}')
def test_real_photographs_are_what_pillow_and_scikit_learn_say():
    "From the files by another way: grey pixels, and the label of the nearest photograph"
    dls = labelled_dls(load_source(CLOTHES, 32))
    (x,y),(queries,truth) = (embed(Rival(grey_pixels, dls.train), o) for o in dls)
    ours = (knn_predict(x, y, queries, k=1)==truth).float().mean().item()
    def read(*parts):
        files = sorted(o for part in parts for o in (CLOTHES/part).rglob('*.jpg'))
        return np.stack([middle(o) for o in files]),[o.parent.name for o in files]
    bank,test = read('train', 'validation'),read('test')
    assert (len(bank[0]), len(test[0]), len(dls.classes))==(3409, 372, 10)==(len(x), len(queries), len({*bank[1]}))
    theirs = KNeighborsClassifier(1, metric='cosine').fit(*bank).score(*test)
    assert ours==pytest.approx(theirs, abs=.04) and ours>.3

# --- the experiment

@pytest.fixture
def small(tmp_path, monkeypatch):
    "A folder of two classes, a network that stands for the pretrained one, and a ledger of its own"
    monkeypatch.setattr(course, 'RESULTS', tmp_path/'ledger')
    tiny = dict(size=16, epochs=1, bs=8, n_hidden=16, n_proj=8)
    monkeypatch.setattr(photographs, 'SMALL', photographs.SMALL | tiny)
    monkeypatch.setattr(photographs, 'RECIPES', {k: o | tiny for k,o in photographs.RECIPES.items()})
    monkeypatch.setattr(photographs, 'EPOCHS', {16: 1})
    for part,n in dict(train=24, test=8).items():
        for i,name in enumerate(('hat', 'shoe')): write_images(tmp_path/'photos'/part/name, n, seed=2*n+i)
    save_encoder(tmp_path/'imagenet', create_encoder('tiny'), 'tiny', 16, (.5,)*3, (.5,)*3)
    options = [str(tmp_path/'photos'), '--pretrained', str(tmp_path/'imagenet'), '--out', str(tmp_path/'out'), '--seeds', '1']
    return lambda *more: photographs.main([*options, *more])

FROZEN = [*photographs.SHALLOW, 'random network', 'CIFAR-10', 'ImageNet', *photographs.RECIPES]
TUNED = ['from scratch', *(f'{o} fine-tuned' for o in ('CIFAR-10', 'ImageNet', *photographs.RECIPES))]

def test_the_experiment_runs_and_goes_on(small, tmp_path):
    small('--settings', 'grey pixels,BYOL from CIFAR-10')
    runs = figure('photographs/runs')
    assert {k for k,v in runs.items() if v}=={*photographs.SHALLOW, 'BYOL from CIFAR-10'} and len(runs['BYOL from CIFAR-10']['0']['history'])==1
    began = (tmp_path/'out'/'BYOL from CIFAR-10-0').stat().st_mtime_ns
    small()
    assert (tmp_path/'out'/'BYOL from CIFAR-10-0').stat().st_mtime_ns==began, 'what is trained is not trained again'
    after = figure('photographs/runs')
    assert after['BYOL from CIFAR-10']==runs['BYOL from CIFAR-10'] and {*after}=={*FROZEN, *TUNED} and all('0' in o for o in after.values())
    assert str(tmp_path) not in json.dumps(ledger('photographs'))

# --- what the ledger says

runs = figure('photographs/runs') or {}
def measured(*settings): return pytest.mark.skipif(not all(len(runs.get(o, {}))>1 for o in settings), reason='not yet run with two seeds: python benchmarks/photographs.py')

@pytest.mark.skipif(not runs, reason='not yet run: python benchmarks/photographs.py')
def test_the_ledger_is_well_formed():
    assert {*runs}=={*FROZEN, *TUNED}
    for name,seeds in runs.items():
        for run in seeds.values():
            for measure in ('knn', 'linear') if name in FROZEN else ('accuracy',):
                assert [*run[measure]]==['0.01', '0.1', '1.0'] and all(0<o<1 for o in run[measure].values())
            if name in FROZEN: assert [*run['images'].values()]==[33, 341, 3409]
    assert {*ledger('photographs')['config']['runs']}=={*photographs.RECIPES}

@measured('ImageNet', 'CIFAR-10', 'raw pixels')
def test_on_everyday_photographs_the_pretrained_network_is_ahead():
    for share in ('0.1', '1.0'):
        for other in ('raw pixels', 'grey pixels', 'colour histogram', 'random network', 'CIFAR-10'):
            assert higher('photographs', 'ImageNet', other, measure=f'linear/{share}') and higher('photographs', 'ImageNet', other, measure=f'knn/{share}')

@measured('CIFAR-10', 'random network', 'raw pixels')
def test_features_without_labels_are_ahead_of_what_needs_no_training():
    for other in ('raw pixels', 'grey pixels', 'colour histogram', 'random network'): assert higher('photographs', 'CIFAR-10', other, measure='linear/1.0')

@measured('BYOL from CIFAR-10', 'CIFAR-10')
def test_going_on_with_ones_own_photographs_helps(): assert higher('photographs', 'BYOL from CIFAR-10', 'CIFAR-10', measure='linear/1.0')

@measured('BYOL', 'random network')
def test_byol_from_nothing_has_learned_something(): assert higher('photographs', 'BYOL', 'random network', measure='linear/1.0')

@measured('ImageNet', 'CIFAR-10', 'raw pixels')
def test_more_labels_help():
    for setting in ('ImageNet', 'CIFAR-10', 'raw pixels'):
        few,many = ([*seed_values('photographs', setting, f'linear/{o}').values()] for o in ('0.01', '1.0'))
        assert all(a<b for a,b in zip(few, many)), setting
