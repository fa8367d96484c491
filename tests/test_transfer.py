"Mosaics against a painter of single patches, places and masks against references, and a U-Net that learns"
import importlib, json
import numpy as np, pytest, torch
from fastai.vision.all import set_seed
from byol_fastai import course
from byol_fastai.all import TinyResNet, labelled_dls, make_shapes
from byol_fastai.shapes import SHAPES, _patches, _draws, paint_shapes
from byol_fastai.transfer import distance, make_mosaics, mean_iou, normalised, point_at, segmenter
from torchvision.transforms.functional import normalize
from conftest import same, state

@pytest.fixture(scope='module')
def mosaics(): return make_mosaics(60, seed=5)

def test_every_pixel_of_a_mosaic_is_that_of_a_quilt_of_its_class(mosaics):
    x,masks,_ = mosaics
    params = _draws(60, 5)[1]
    quilts = torch.stack([paint_shapes(np.full(60, k), params, 32) for k in range(len(SHAPES))])
    drawn = (quilts==x).all(2)
    assert drawn.any(0).all(), 'no pixel is of no quilt'
    inside = masks>0
    assert drawn.gather(0, (masks-1).clamp(min=0)[None])[0][inside].all(), 'the mask names the quilt'

def test_a_mask_is_the_ink_which_is_lighter_than_the_ground_of_its_patch(mosaics):
    x,masks,_ = mosaics
    light = (x.float()*torch.tensor([.299, .587, .114]).view(-1, 1, 1)).sum(1)
    row,col,*_ = _patches(_draws(60, 5)[1], 32)
    patch = torch.from_numpy(4*row+col)
    darker = 0
    for i in range(60):
        for k in patch[i].unique():
            here,ink = patch[i]==k,masks[i]>0
            if (here&ink).sum()<4 or (here&~ink).sum()<4: continue
            darker += light[i][here&ink].mean() <= light[i][here&~ink].mean()
            assert len(masks[i][here&ink].unique())==1, 'one class in a patch'
    assert darker==0

def test_one_disc_is_in_sight_and_its_place_is_its_middle(mosaics):
    _,masks,places = mosaics
    assert ((places>.1)&(places<.9)).all()
    for mask,place in zip(masks, places):
        rows,cols = (mask==1).nonzero(as_tuple=True)
        found = torch.stack([cols.float().mean(), rows.float().mean()])+.5
        assert (found-32*place).norm()<2.5, 'but for what is cut off at the border'
        assert mask[rows.float().mean().round().long(), cols.float().mean().round().long()]==1

def test_mosaics_depend_on_their_seed_and_number_alone(mosaics):
    for a,b in zip(make_mosaics(7, seed=5), mosaics): assert torch.equal(a, b[:7])
    assert not torch.equal(make_mosaics(7, seed=6)[0], mosaics[0][:7])
    assert make_mosaics(3, size=48)[1].shape==(3, 48, 48)
    with pytest.raises(ValueError, match='at least one image'): make_mosaics(0)

def test_images_are_normalised_as_torchvision_does():
    x = make_shapes(4)[0]
    torch.testing.assert_close(normalised(x), normalize(x/255, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))

def test_places_that_are_linear_in_the_maps_are_found_and_others_are_not():
    g = torch.Generator().manual_seed(0)
    maps,weights = torch.randn(300, 3, 2, 2, generator=g),torch.randn(12, 2, generator=g)
    places = maps.flatten(1)@weights
    found = point_at(maps[:200], places[:200], maps[200:])
    assert distance(found, places[200:]) < .02*places.std()
    shuffled = places[torch.randperm(300, generator=g)]
    mean = distance(shuffled[:200].mean(0), shuffled[200:])
    assert distance(point_at(maps[:200], shuffled[:200], maps[200:]), shuffled[200:]) == pytest.approx(mean, rel=.1)
    assert distance(torch.tensor([[0., 0.], [1., 1.]]), torch.tensor([[3., 4.], [1., 1.]]))==2.5

def iou_by_hand(pred, masks):
    "Mean over the classes that are there, from counts of pixels"
    classes = torch.cat([pred.unique(), masks.unique()]).unique()
    return float(np.mean([((pred==c)&(masks==c)).sum()/((pred==c)|(masks==c)).sum() for c in classes]))

def test_a_u_net_learns_its_masks_and_leaves_the_encoder_as_it_was(mosaics):
    set_seed(0)
    encoder = TinyResNet(width=8)
    before = state(encoder)
    learn = segmenter([o[:16] for o in mosaics[:2]], [o[16:32] for o in mosaics[:2]], encoder, bs=8)
    assert all(p.requires_grad for p in learn.model.parameters())
    first = next(learn.model[0].parameters())
    assert torch.equal(first, next(encoder.parameters())) and first is not next(encoder.parameters())
    with learn.no_bar(), learn.no_logging():
        loss = learn.validate()[0]
        learn.fit_one_cycle(6, 3e-3)
        assert learn.validate()[0] < .8*loss
        scores,masks = learn.get_preds()
        assert mean_iou(learn)==pytest.approx(iou_by_hand(scores.argmax(1), masks), abs=1e-6)
    assert same(state(encoder), before)

@pytest.fixture
def bench(tmp_path, monkeypatch):
    "`benchmarks/transfer.py` at a tiny size, and the figures of one of its tables"
    program = importlib.import_module('transfer')
    monkeypatch.setattr(course, 'RESULTS', tmp_path)
    for name,value in dict(LABELS=(16,), STEPS=1, TEST=8, SHARES=(1.,)).items(): monkeypatch.setattr(program, name, value)
    dls = labelled_dls('shapes', n=60, size=16)
    monkeypatch.setattr(program, 'pets', lambda: dls)
    def run(table, file):
        program.main([table, *'--seeds 1 --n 64 --epochs 1 --bs 16'.split()])
        return json.loads((tmp_path/f'{file}.json').read_text())['figures']
    return run

def test_the_benchmark_measures_masks_and_places_from_every_start(bench):
    runs = bench('dense', 'transfer')['runs']
    assert set(runs)=={'pixels 16', 'random 16', 'supervised 16', 'BYOL 16'} and all(set(o)=={'0'} for o in runs.values())
    for name,o in runs.items():
        assert 0<o['0']['maps']<32 and 0<o['0']['averages']<32
        assert 'pixels' in name or 0<o['0']['miou']<1

def test_the_benchmark_measures_the_shipped_encoder_beside_its_rivals(bench):
    runs = bench('photos', 'transfer_photos')['runs']
    assert {'BYOL, linear', 'raw pixels, kNN', 'random encoder, linear', 'BYOL, fine-tuned', 'from scratch'} <= set(runs)
    assert all(0<=o['0']['accuracy']['1.0']<=1 for o in runs.values())

def test_a_table_that_is_not_there_is_a_sentence():
    with pytest.raises(SystemExit, match="no table 'masks'"): importlib.import_module('transfer').main(['masks'])
