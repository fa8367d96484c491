"The pictures of a run: what they show, of what images, and how much they hold"
import math
import matplotlib.pyplot as plt, numpy as np, pytest, torch
from matplotlib.colors import to_hex
from fastai.vision.all import DataLoaders, TensorImage, nn
from sklearn.metrics.pairwise import cosine_similarity
from byol_fastai import pictures
from byol_fastai.data import ImageArray, byol_dls, load_source, labelled_dls, plain_dl
from byol_fastai.errors import UserValueError
from byol_fastai.evaluate import embed
from byol_fastai.model import create_encoder
from byol_fastai.pictures import COLOURS, draw_byol, nearest, plot_history, plot_neighbours, plot_views
from conftest import tiny_learner, write_images

@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close('all')

def test_neighbours_are_those_of_sklearn():
    bank,queries = torch.randn(50, 8),torch.randn(9, 8)
    assert nearest(bank, queries, 5).tolist()==np.argsort(-cosine_similarity(queries, bank), 1)[:, :5].tolist()

def test_nothing_is_its_own_neighbour_and_a_small_bank_gives_what_it_has():
    bank = torch.eye(4)
    assert all(i not in row for i,row in enumerate(nearest(bank, bank, 3).tolist()))
    assert nearest(bank, bank, 9).shape==(4, 3) and nearest(bank, bank.clone(), 9).shape==(4, 4)

def test_a_curve_joins_the_epochs_in_which_somebody_looked():
    rows = [dict(epoch=i, train_loss=1., valid_loss=1., feature_std=1., effective_rank=2., knn=math.nan if i%3 else .5) for i in range(7)]
    ax = plot_history(rows).axes[3]
    assert ax.lines[0].get_xdata().tolist()==[0, 3, 6]

@pytest.mark.parametrize('history', [[], [dict(epoch=0, train_loss=1., valid_loss=None)], [dict(epoch=0, train_loss=1., valid_loss=1., feature_std=None, knn=math.nan)]])
def test_curves_survive_what_was_not_measured(history):
    assert sum('not measured' in [t.get_text() for t in ax.texts] for ax in plot_history(history).axes)==3

def test_views_are_shown_below_their_images():
    fig = plot_views(tiny_learner(), n=3)
    assert len(fig.axes)==9 and [fig.axes[i].get_ylabel() for i in (0, 3, 6)]==['image', 'view 1', 'view 2']

def test_an_image_is_shown_without_what_pads_it():
    x = TensorImage(torch.rand(2, 3, 10, 12))
    x.sizes = torch.tensor([[10, 7], [5, 12]])
    assert [list(o.shape) for o in pictures._unpadded(x, 2)]==[[3, 10, 7], [3, 5, 12]]

@pytest.mark.parametrize('channels', [1, 2, 3, 5])
def test_images_of_any_number_of_channels_can_be_drawn(channels):
    _,ax = plt.subplots()
    pictures._picture(ax, torch.rand(channels, 6, 6))
    assert ax.images[0].get_array().shape==(6, 6, 3)
    assert pictures._thumbnail((255*torch.rand(channels, 9, 6)).byte(), 4).shape==(3, 4, 4)

class Recording(nn.Module):
    "Colour means as features; remembers the sizes of its batches"
    def __init__(self):
        super().__init__()
        self.p,self.n_features,self.seen = nn.Parameter(torch.zeros(1)),3,[]
    def forward(self, x):
        self.seen.append(len(x))
        return x.mean((2, 3))+self.p

def test_neighbours_hold_a_bounded_bank_in_batches_no_larger_than_those_of_training():
    encoder,dls = Recording(),byol_dls('shapes', bs=16, n=200, size=16)
    plot_neighbours(encoder, dls, n=5, k=2, max_bank=40)
    assert max(encoder.seen)<=16 and sum(encoder.seen)==45

def test_the_query_stands_first_and_what_is_found_is_the_nearest():
    x = (torch.tensor([[250, 5, 5], [5, 250, 5], [5, 5, 250]]).byte()[:, :, None, None]).expand(3, 3, 8, 8).contiguous()
    dl = lambda o: plain_dl(ImageArray(o, torch.zeros(len(o)).long()), 8, 4, 'cpu')
    dls = DataLoaders(dl(x), dl(x[[2, 0]]))
    dls.size = 8
    picture = plot_neighbours(Recording(), dls, n=2, k=1).axes[0].images[0].get_array()
    cell = lambda r,c: torch.as_tensor(np.asarray(picture))[r*10+5, c*10+5].tolist()
    assert cell(0, 0)==cell(0, 1)==[5, 5, 250] and cell(1, 0)==cell(1, 1)==[250, 5, 5]

def test_features_that_are_there_give_the_same_picture_without_the_encoder():
    dls = byol_dls('shapes', bs=16, n=60, size=16)
    features = [embed(Recording(), plain_dl(dl.dataset, 16, 16, 'cpu'))[0] for dl in dls.loaders]
    shown = [plot_neighbours(o, dls, n=4, k=3, features=f).axes[0].images[0].get_array() for o,f in ((Recording(), None), (None, features))]
    assert np.array_equal(*shown)
    with pytest.raises(UserValueError, match='53 features of 54 images'): plot_neighbours(None, dls, features=(features[0][1:], features[1]))

def test_the_frame_of_a_query_has_the_colour_of_no_network():
    frames = plot_neighbours(Recording(), byol_dls('shapes', bs=16, n=40, size=16), n=3, k=2).axes[0].patches
    assert len(frames)==3 and not {to_hex(o.get_edgecolor()).upper() for o in frames} & {o.upper() for o in COLOURS.values()}

def test_neighbours_of_photographs_of_many_shapes(tmp_path):
    write_images(tmp_path/'d'/'a', 12, size=40); write_images(tmp_path/'d'/'b', 12, size=70, seed=1)
    src = load_source(tmp_path/'d', size=24)
    for dls in byol_dls(src, bs=4),labelled_dls(src, bs=4): plot_neighbours(Recording(), dls, n=3, k=2)

def test_the_drawing_of_byol_names_both_networks_in_their_colours():
    texts = {t.get_text(): t.get_color() for t in draw_byol().axes[0].texts}
    assert texts['online network']==COLOURS['blue'] and texts['target network']==COLOURS['orange']

def test_the_first_picture_of_the_home_page_shows_queries_and_what_each_encoder_finds():
    import neighbours
    dls = labelled_dls('shapes', n=60, size=16)
    found = neighbours.found(create_encoder('tiny'), dls)
    assert found.shape==(neighbours.QUERIES, neighbours.NEIGHBOURS) and found.max()<len(dls.train.dataset)
    fig = neighbours.draw({'before': found, 'after': found.flip(1)}, dls)
    assert [o.get_title() for o in fig.axes]==['query', 'before', 'after']
    sizes = [o.images[0].get_size() for o in fig.axes]
    side = dls.valid.dataset[0][0].shape[-1]
    assert sizes==[(6*side, side), (6*side, 5*side), (6*side, 5*side)]
