"""What is an encoder good for beside a probe: other photographs, masks and places, from a random, a supervised and a BYOL start.

    python benchmarks/transfer.py          # both tables
    python benchmarks/transfer.py dense    # masks and places of the embedded shapes: the file `transfer` of the ledger
    python benchmarks/transfer.py photos   # the breeds of Oxford Pets that are at hand, from the shipped encoder: `transfer_photos`
"""
import sys
from functools import cache, partial
from fastai.vision.all import set_seed
from byol_fastai.all import RIVALS, create_encoder, embed, fastai_body, knn_predict, labelled_dls, linear_probe, load_encoder
from byol_fastai.evaluate import accuracy_of, label_efficiency, suitable_k
from byol_fastai.probes import Rival, few_labels
from byol_fastai.transfer import distance, make_mosaics, mean_iou, normalised, point_at, segmenter
from seeds import experiment, fit, learner
from supervised import taught

# --- masks and places

LABELS = 50, 200, 1000 # mosaics with a mask
STEPS = 300 # of every segmenter, however few its masks
RATE = 1e-2 # highest, of `fit_one_cycle`
TEST = 300 # mosaics to be judged by
PRETRAINING = dict(epochs=10, extra_views=0) # half as much work as the main job

def starts(config, seed: int):
    "What to start from, one after the other"
    set_seed(seed)
    yield 'random', create_encoder(config.arch)
    yield 'supervised', taught(config, seed).model[0]
    yield 'BYOL', fit(learner(config, seed), config).model.encoder

def segmented(encoder, train, test, seed: int) -> float:
    "Mean IoU after the usual number of steps"
    set_seed(seed)
    learn = segmenter(train, test, encoder)
    learn.logger = lambda row: None
    with learn.no_bar():
        learn.fit_one_cycle(max(1, round(STEPS/max(1, len(learn.dls.train)))), RATE)
        return mean_iou(learn)

def pointed(maps, places, queries, truth) -> dict:
    "How far off the disc is, in pixels of 32: from the maps, and from their averages over the picture"
    ways = dict(maps=lambda o: o, averages=lambda o: o.mean((2, 3)))
    return {k: 32*distance(point_at(f(maps), places, f(queries)), truth) for k, f in ways.items()}

def maps_of(encoder, images): return embed(fastai_body(encoder), [(o,) for o in normalised(images).split(256)])[0]

def dense_rows(config, seed: int):
    "Every start with every number of labels; each seed has other weights and other mosaics with labels"
    train, test = make_mosaics(max(LABELS), seed=100+seed), make_mosaics(TEST, seed=99)
    pixels = [normalised(o[0]) for o in (train, test)]
    for n in LABELS: yield f'pixels {n}', pointed(pixels[0][:n], train[2][:n], pixels[1], test[2])
    for name, encoder in starts(config, seed):
        maps = [maps_of(encoder, o[0]) for o in (train, test)]
        for n in LABELS:
            some = [o[:n] for o in train]
            yield f'{name} {n}', dict(miou=segmented(encoder, some[:2], test[:2], seed), **pointed(maps[0][:n], some[2], maps[1], test[2]))

def dense_jobs(config) -> dict:
    return {tuple(f'{name} {n}' for name in ('pixels', 'random', 'supervised', 'BYOL') for n in LABELS): partial(dense_rows, config)}

def dense(argv):
    experiment('transfer', 'Mosaics of the embedded shapes: mean IoU of a U-Net, and distance of the disc in pixels, by where the body starts and how many mosaics have labels', dense_jobs, argv, __doc__,
        preset=PRETRAINING, command='python benchmarks/transfer.py dense', steps=STEPS, highest_lr=RATE, test=TEST)

# --- other photographs

SIZE = 48 # pixels: the encoder saw photographs of 32
SHARES = .01, .1, 1.
PROBED = *RIVALS, 'random encoder', 'BYOL'
PHOTOS = *(f'{o}, {probe}' for o in PROBED for probe in ('kNN', 'linear')), 'BYOL, fine-tuned', 'from scratch'

@cache
def pets(): return labelled_dls('pets', size=SIZE)

def random_like(encoder, seed: int):
    "The shipped network with other weights"
    set_seed(seed)
    return create_encoder(**encoder.info['recipe'])

def frozen(kind, dls, seed: int) -> dict:
    "Both probes of one kind of features, by share of the labels"
    res, test = dict(kNN={}, linear={}), embed(kind, dls.valid)
    for share in SHARES:
        bank = embed(kind, few_labels(dls, share, seed).train)
        res['kNN'][share] = accuracy_of(knn_predict(*bank, test[0], suitable_k(bank[1]), n_classes=len(dls.classes)), test[1])
        res['linear'][share] = linear_probe(bank, test)
    return res

def photo_rows(config, seed: int):
    "The shipped encoder, what becomes of it with few labels, and its rivals; each seed draws other labels and other random weights"
    dls, encoder = pets(), load_encoder('cifar10-small')
    untrained = random_like(encoder, seed)
    for name, kind in ({k: Rival(f, dls.train) for k, f in RIVALS.items()} | {'random encoder': untrained, 'BYOL': encoder}).items():
        for probe, v in frozen(kind, dls, seed).items(): yield f'{name}, {probe}', dict(accuracy=v)
    table = label_efficiency(encoder, untrained, dls, SHARES, seed=seed)
    for way, name in {'fine-tuned': 'BYOL, fine-tuned', 'from scratch': 'from scratch'}.items(): yield name, dict(accuracy=dict(table[way]))

def photo_jobs(config) -> dict: return {PHOTOS: partial(photo_rows, config)}

def photos(argv):
    dls = pets()
    experiment('transfer_photos', 'Test accuracy on the breeds of Oxford Pets that are at hand, from the encoder that was trained by BYOL on CIFAR-10, beside its rivals, by share of the labels', photo_jobs, argv, __doc__,
        command='python benchmarks/transfer.py photos', breeds=[*dls.classes], photographs=len(dls.train.dataset), test=len(dls.valid.dataset), photo_size=SIZE, shares=list(SHARES))

# --- all

TABLES = dict(dense=dense, photos=photos)

def main(argv=None):
    argv = [*(sys.argv[1:] if argv is None else argv)]
    chosen = [argv.pop(0)] if argv and not argv[0].startswith('-') else [*TABLES]
    if unknown := [o for o in chosen if o not in TABLES]: sys.exit(f"There is no table {unknown[0]!r}: give one of {', '.join(TABLES)}, or none of them for both.")
    for o in chosen: TABLES[o](argv)

if __name__ == '__main__': main()
