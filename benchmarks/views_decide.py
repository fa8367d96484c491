"""What the views share is what is learned: the same network, images and steps, and three pairs of views. How well can the class be read from each encoder, and how well everything else?

    python benchmarks/views_decide.py
"""
from dataclasses import replace
from functools import cache, partial
import numpy as np, torch
from fastai.vision.all import Callback
from byol_fastai.all import ViewPolicy, embed, linear_probe, make_shapes
from byol_fastai.views import SHAPES_VIEWS
from seeds import SHORT, experiment, figures, fit, labelled_of, learner, probes

NO_CROP, NO_COLOUR, NO_FLIP = dict(scale=(.999, 1.), ratio=(1., 1.)), dict(jitter_p=0., gray_p=0.), dict(flip_p=0.)
PAIRS = {k: (SHAPES_VIEWS | o,)*2 for k, o in {'own pair': {}, 'crops alone': NO_COLOUR, 'colours alone': NO_CROP | NO_FLIP}.items()} # fields of the two `ViewPolicy`

FEW = 2000 # images to read from after every epoch
TURNS = dict(hue=1., left=1., top=1., stripe_turn=np.pi, phase=2*np.pi) # parameters that go round in a circle, and how far round is

def columns(name: str, values) -> np.ndarray:
    """A parameter as numbers [n,k] that can be read by a straight line: a place on a circle as sine and cosine, and one value for each patch [n,a,b] as their mean;
    patches that nobody sees are `nan`, and left out"""
    values = np.asarray(values, dtype=np.float64)
    turn = next((o for k, o in TURNS.items() if k in name), None)
    parts = [values] if turn is None else [f(2*np.pi*values/turn) for f in (np.sin, np.cos)]
    return np.concatenate([np.nanmean(o, (1, 2)).reshape(len(o), -1) if o.ndim > 2 else o.reshape(len(o), -1) for o in parts], 1)

def read_out(train, test, name: str, known: tuple) -> float:
    "R^2 on test images of ridge regression from features [n,d] to a parameter: 1 is read exactly, 0 no better than the mean"
    from sklearn.linear_model import RidgeCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    y, yt = (columns(name, o) for o in known)
    varies = y.std(0) > 1e-9
    if not varies.any(): return 0.
    model = make_pipeline(StandardScaler(), RidgeCV(np.logspace(-1, 5, 7))).fit(train, y[:, varies])
    wrong = ((yt[:, varies]-model.predict(test).reshape(len(yt), -1))**2).sum(0)
    return max(0., float((1-wrong/((yt[:, varies]-yt[:, varies].mean(0))**2).sum(0)).mean()))

@cache
def drawn_from(n: int, size: int, seed: int):
    "The classes of the shapes, and what they were drawn from"
    return make_shapes(n, size, seed=seed, return_params=True)[1:]

def decoded(encoder, config) -> dict:
    "How well each parameter of the shapes can be read from what `encoder` makes of them"
    loaders = labelled_of(config)
    return read_from([embed(encoder, o) for o in loaders], loaders.size)

def read_from(sets: list, size: int) -> dict:
    "The same, from features and labels of the training and of the test images"
    drawn = [drawn_from(len(y), size, seed) for seed, (_, y) in enumerate(sets)]
    for (_, y), (same, _) in zip(sets, drawn): assert torch.equal(y, same), 'the parameters are those of other images'
    return {k: read_out(*(o[0].numpy() for o in sets), k, [params[k] for _, params in drawn]) for k in drawn[0][1]}

class Reading(Callback):
    "Reads class and parameters out of the encoder before the fit and after every epoch of it"
    def __init__(self, config): self.config, self.rows = replace(config, n=min(config.n or FEW, FEW)), []
    def before_fit(self): self.rows = [self.look()]
    def after_epoch(self): self.rows.append(self.look())
    def look(self):
        loaders = labelled_of(self.config)
        sets = [embed(self.model.encoder, o) for o in loaders]
        return dict(shape=linear_probe(*sets)) | read_from(sets, loaders.size)

def one(config, pair: tuple, seed: int) -> dict:
    "BYOL with this pair of views"
    size = labelled_of(config).size
    learn = learner(config, seed, policies=tuple(ViewPolicy(size, **o) for o in pair), cbs=Reading(config))
    made = figures(fit(learn, config), config, decoded=decoded(learn.model.encoder, config))
    table = {-1: {}} | {o['epoch']: o for o in made['history']} # the first row was read before the first epoch
    return made | dict(history=[row | dict(epoch=i) | read for (i, row), read in zip(table.items(), learn.reading.rows)])

def untrained(config, seed: int) -> dict:
    encoder = learner(config, seed).model.encoder
    return probes(encoder, config) | dict(decoded=decoded(encoder, config))

def jobs(config) -> dict: return {k: partial(one, config, o) for k, o in PAIRS.items()} | {'untrained': partial(untrained, config)}

def main(argv=None):
    experiment('views_decide', 'What can be read from encoders that were trained on the embedded shapes with different pairs of views: the class, and each parameter (R^2)', jobs,
        argv, __doc__, preset=SHORT, pairs={k: [dict(p) for p in o] for k, o in PAIRS.items()}, turns=TURNS)

if __name__ == '__main__': main()
