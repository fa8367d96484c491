"""A race on a laptop: our recipe and lightly's, the same 5,000 images of CIFAR-10, the same encoder, the same minutes on the same threads.

    python benchmarks/race.py --out runs/race
    python benchmarks/race.py --search --out runs/search

The two take turns of a minute, so that whatever else the computer does meets both, and a turn ends with the epoch in which its minute is over.
Only training counts, views included; after each turn the features are measured. How many epochs fit into the minutes is found out before,
for each of them with its own speed. Both lines go on where they were stopped, to the epoch. The second tries changes of our recipe, one at a time.

Lightly's recipe is the one behind its published figures for CIFAR-10 (`docs/source/getting_started/benchmarks/cifar10_benchmark.py` in
github.com/lightly-ai/lightly): its views for BYOL without blur, heads of 1024 and 256, SGD with lr 0.06 for 128 images, momentum 0.9 and
weight decay 5e-4, half a cosine over the epochs, tau 0.99 throughout. It is installed by `pip install -e ".[bench]"`.
"""
import argparse, json, statistics, time
from functools import partial
from pathlib import Path
import numpy as np, torch
from fastai.vision.all import Callback, CancelFitException, set_seed
from byol_fastai.all import (Checkpoint, ImageSource, accuracy_of, byol_dls, byol_learner, byol_policies, create_encoder, embed,
    knn_predict, labelled_dls, linear_probe, load_source)
from byol_fastai.precision import CPUMixedPrecision, cpu_has_bfloat16
from byol_fastai.pictures import COLOURS
from byol_fastai.probes import Rival
from byol_fastai.rivals import grey_pixels, raw_pixels
from byol_fastai.saving import write_atomically
from gpu import write_json
from ledger import file_of, record
from throughput import LightlyBYOL, Pairs
from timing import command, present, set_threads
from views import pil_images

OURS = dict(view=24, scale=.2, jitter=1., bs=64, opt='sgd', lr=.06, wd=5e-4, flat=.5, predictor_lr_mult=10., tau=.9, n_hidden=1024, n_proj=128, extra_views=0)
LIGHTLY = dict(bs=128, lr=.06, momentum=.9, wd=5e-4, tau=.99, n_hidden=1024, n_proj=256)
ENCODER = dict(arch='tiny', width=32, stages=3)
CHANGES = dict(scale=(.08, .35), jitter=(.5, 1.5), view=(16, 32), lr=(.03, .12), opt=('adamw',), wd=(1e-4,), flat=(.75,), predictor_lr_mult=(1., 20.),
    tau=(.5, .99), bs=(32, 128), n_hidden=(256, 2048), n_proj=(64, 256), extra_views=(1, 2)) # what `--search` tries, one at a time
OTHER = dict(adamw=dict(lr=2e-3, wd=1e-4, predictor_lr_mult=1.)) # an optimizer needs rates of its own
MEASURES = dict(knn='kNN', linear='linear')

# --- ours

def policies(r: dict) -> tuple:
    "BYOL's pair, with all strengths of the jitter times `jitter`"
    jitter = {k: min(v*r['jitter'], top) for k, v, top in (('brightness', .4, 1), ('contrast', .4, 1), ('saturation', .2, 1), ('hue', .1, .5))}
    return byol_policies(r['view'], scale=(r['scale'], 1.), **jitter)

class StopAfter(Callback):
    "End a fit after the epoch in which the `seconds` are over"
    order = Checkpoint.order+1
    def __init__(self, seconds: float): self.seconds, self.start, self.trained = seconds, time.perf_counter(), False
    def before_train(self): self.trained = True # those that a fit goes past to where it was do not count
    def after_epoch(self):
        if self.trained and time.perf_counter()-self.start >= self.seconds: raise CancelFitException()

class Ours:
    "The library's own learner, trained a turn at a time from its own checkpoint"
    def __init__(self, source: ImageSource, recipe: dict, encoder: dict, seed: int, folder: Path):
        r = self.recipe = recipe
        set_seed(seed)
        net, dls = create_encoder(**encoder), byol_dls(source, r['bs'], valid_pct=0, seed=seed)
        half = [CPUMixedPrecision()] if cpu_has_bfloat16() and not torch.cuda.is_available() else []
        options = {k: r[k] for k in ('n_hidden', 'n_proj', 'opt', 'lr', 'wd', 'predictor_lr_mult', 'tau', 'extra_views')}
        self.learn, self.path = byol_learner(dls, net, policies=policies(r), **options, metrics=[], guard=False, cbs=half), folder/'ours'
    @property
    def encoder(self): return self.learn.model.encoder
    def train(self, seconds: float, of: int) -> int:
        "Go on for `seconds` in a schedule of `of` epochs; the number of epochs that are done"
        saved = Checkpoint.read(self.path) if self.path.exists() else None
        done = saved['epoch'] if saved else 0
        with self.learn.no_bar(), self.learn.no_logging():
            if done < of: self.learn.fit_byol(of, self.recipe['lr'], flat=self.recipe['flat'], cbs=[Checkpoint(self.path, saved), StopAfter(seconds)], start_epoch=done)
        return Checkpoint.read(self.path)['epoch']
    def restore(self):
        if self.path.exists(): self.learn.model.load_state_dict(Checkpoint.read(self.path)['model'])

# --- theirs

class Networks:
    "What `throughput.LightlyBYOL` asks for: an encoder and the widths of the heads"
    def __init__(self, recipe: dict, encoder: dict): self.n_hidden, self.n_proj, self.encoder = recipe['n_hidden'], recipe['n_proj'], partial(create_encoder, **encoder)

class Lightly:
    "The networks, views, loss, optimizer and schedule of lightly's benchmark, in a plain PyTorch loop"
    def __init__(self, source: ImageSource, recipe: dict, encoder: dict, seed: int, folder: Path, workers: int = 0):
        from lightly.loss import NegativeCosineSimilarity
        from lightly.transforms.byol_transform import BYOLView1Transform, BYOLView2Transform
        r = self.recipe = recipe
        set_seed(seed)
        self.model, self.criterion, self.path = LightlyBYOL(Networks(r, encoder)), NegativeCosineSimilarity(), folder/'lightly'
        self.opt = torch.optim.SGD([p for p in self.model.parameters() if p.requires_grad], r['lr']*r['bs']/128, r['momentum'], weight_decay=r['wd'])
        views = BYOLView1Transform(source.size, gaussian_blur=0.), BYOLView2Transform(source.size, gaussian_blur=0.)
        self.loader = torch.utils.data.DataLoader(Pairs(pil_images(source.train.x), *views), r['bs'], shuffle=True, drop_last=True, num_workers=workers,
            persistent_workers=workers > 0)
    @property
    def encoder(self): return self.model.backbone
    def step(self, x0, x1):
        from lightly.models.utils import update_momentum
        m, tau = self.model, self.recipe['tau']
        m.train()
        update_momentum(m.backbone, m.backbone_momentum, m=tau)
        update_momentum(m.projection_head, m.projection_head_momentum, m=tau)
        p0, z0, p1, z1 = m(x0), m.forward_momentum(x0), m(x1), m.forward_momentum(x1)
        loss = .5*(self.criterion(p0, z1)+self.criterion(p1, z0))
        self.opt.zero_grad()
        loss.backward()
        self.opt.step()
    def train(self, seconds: float, of: int) -> int:
        "Go on for `seconds` in a schedule of `of` epochs; the number of epochs that are done"
        start, done = time.perf_counter(), self.restore()
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(self.opt, of)
        if done: schedule.load_state_dict(self.schedule)
        while done < of:
            for x0, x1 in self.loader: self.step(x0, x1)
            schedule.step()
            done += 1
            self.keep(done, schedule.state_dict())
            if time.perf_counter()-start >= seconds: break
        return done
    def keep(self, done: int, schedule: dict):
        state = dict(epoch=done, model=self.model.state_dict(), opt=self.opt.state_dict(), schedule=schedule, random=torch.get_rng_state())
        write_atomically(self.path, partial(torch.save, state))
    def restore(self) -> int:
        "Put everything back to where the last epoch ended; the number of epochs done"
        if not self.path.exists(): return 0
        o = torch.load(self.path, weights_only=True)
        self.model.load_state_dict(o['model'])
        self.opt.load_state_dict(o['opt'])
        torch.set_rng_state(o['random'])
        self.schedule = o['schedule']
        return o['epoch']

# --- measuring

def measure(encoder, dls) -> dict:
    "kNN(200, 0.1) and logistic regression on frozen features of images that were not augmented; all random numbers are left as they were"
    train, test = (embed(encoder, o) for o in dls)
    return dict(knn=round(accuracy_of(knn_predict(*train, test[0]), test[1]), 4), linear=round(linear_probe(train, test), 4))

def epochs_for(contestant, minutes: float, trial: float) -> int:
    "As many as fit into the minutes, from a trial that lasts `trial` seconds; the first epoch warms up"
    contestant.train(0, 10**6)
    start, before = time.perf_counter(), 1
    done = contestant.train(trial, 10**6)
    return max(2, round(60*minutes/((time.perf_counter()-start)/max(done-before, 1))))

class Turns:
    "What has been measured so far, in a file of the folder; a turn that was interrupted is taken again"
    def __init__(self, path: Path): self.path, self.all = path, json.loads(path.read_text()) if path.exists() else {}
    def __getitem__(self, key): return self.all.get(key)
    def __setitem__(self, key, value): self.all[key] = value; write_json(self.path, self.all)

def turn(contestant, turns: Turns, key: str, a: argparse.Namespace, dls) -> bool:
    "A turn of one contestant; is there another one to come?"
    o = turns[key]
    if o['history'] and o['history'][-1]['epoch'] >= o['of']: return False
    start = time.perf_counter()
    epoch = contestant.train(60*a.turn, o['of'])
    took = (time.perf_counter()-start)/60+(o['history'][-1]['minutes'] if o['history'] else 0)
    row = dict(minutes=round(took, 3), epoch=epoch, **measure(contestant.encoder, dls))
    turns[key] = o | dict(history=[*o['history'], row])
    print(key, row, flush=True)
    return epoch < o['of']

def contest(seed: int, a: argparse.Namespace, source: ImageSource, turns: Turns):
    "All turns of one seed"
    dls, folder = labelled_dls(source, 256), a.out/str(seed)
    folder.mkdir(parents=True, exist_ok=True)
    make = dict(ours=partial(Ours, source, OURS | a.ours, a.encoder), lightly=partial(Lightly, source, LIGHTLY, a.encoder, workers=a.workers))
    for name, f in make.items():
        if turns[f'{seed}/{name}']: continue
        trial = folder/'trial'
        trial.mkdir(exist_ok=True)
        (trial/name).unlink(missing_ok=True)
        turns[f'{seed}/{name}'] = dict(of=epochs_for(f(seed=seed, folder=trial), a.minutes, a.trial), history=[])
    racing = {name: f(seed=seed, folder=folder) for name, f in make.items()}
    while racing: racing = {name: o for name, o in racing.items() if turn(o, turns, f'{seed}/{name}', a, dls)}

# --- who is ahead?

def at(run: dict, minutes: np.ndarray, what: str) -> np.ndarray:
    "Accuracy at some minutes of training, on straight lines between those that were measured"
    return np.interp(minutes, [o['minutes'] for o in run['history']], [o[what] for o in run['history']])

def result(runs: dict, minutes: float) -> dict:
    "Of `{name: {seed: run}}`: means at the end, by how much ours is ahead at every full minute, and after which minute it always is"
    grid, seeds = np.arange(1, max(2, int(minutes)+1)), [*runs['ours']]
    ends = {name: {what: round(statistics.mean(o[what] for o in runs[name].values()), 4) for what in MEASURES} for name in runs}
    lead = {what: np.mean([at(runs['ours'][s], grid, what)-at(runs['lightly'][s], grid, what) for s in seeds], 0) for what in MEASURES}
    behind = [int(m) for m, o in zip(grid, lead['knn']) if o <= 0]
    return ends | dict(lead={what: [round(float(v), 4) for v in o] for what, o in lead.items()},
        lead_at_the_end={what: round(ends['ours'][what]-ends['lightly'][what], 4) for what in MEASURES}, always_ahead_after_minute=max(behind, default=0))

def runs_of(turns: Turns) -> dict:
    "The runs of the seeds that both have finished, `{name: {seed: run}}`"
    whole = {k: dict(**{what: o['history'][-1][what] for what in MEASURES}, epochs=o['of'], history=o['history'])
        for k, o in turns.all.items() if o['history'] and o['history'][-1]['epoch'] >= o['of']}
    seeds = [s for s in dict.fromkeys(k.split('/')[0] for k in whole) if {f'{s}/ours', f'{s}/lightly'} <= {*whole}]
    return {name: {s: whole[f'{s}/{name}'] for s in seeds} for name in ('ours', 'lightly')}

def draw(figures: dict, what: str = 'knn', ax=None):
    "The race as a picture: accuracy against minutes of training, every seed a thin line, ours in blue"
    import matplotlib.pyplot as plt
    if ax is None: ax = plt.subplots(figsize=(7, 4))[1]
    for name, colour, word in ('ours', COLOURS['blue'], 'byol_fastai'), ('lightly', COLOURS['red'], 'lightly'):
        for i, o in enumerate(figures['runs'][name].values()):
            ax.plot([r['minutes'] for r in o['history']], [100*r[what] for r in o['history']], color=colour, lw=1, alpha=.8, label=None if i else word)
    ax.set(xlabel='minutes of training', ylabel=f"{MEASURES[what]}, %")
    ax.legend()
    return ax

# --- a recipe that wins

def attempts() -> dict:
    "Name to recipe: ours, and ours with one change"
    res = {'as it is': OURS}
    for k, values in CHANGES.items():
        for v in values: res[f'{k}={v}'] = OURS | {k: v} | OTHER.get(v, {})
    return res

def search(a: argparse.Namespace, source: ImageSource):
    "Each change of our recipe for the same minutes, with one seed; what is in the file already is not tried again"
    dls, tried = labelled_dls(source, 256), Turns(a.out/"search.json")
    for name, recipe in attempts().items():
        if a.only and name not in a.only: continue
        for seed in range(a.seeds):
            if tried[key := f'{name}/{seed}']: continue
            folder = a.out/'now'
            folder.mkdir(parents=True, exist_ok=True)
            (folder/'ours').unlink(missing_ok=True)
            o = partial(Ours, source, recipe, a.encoder, seed, folder)
            epochs = epochs_for(o(), a.minutes, a.trial)
            (folder/'ours').unlink(missing_ok=True)
            contestant = o()
            contestant.train(float('inf'), epochs)
            tried[key] = dict(epochs=epochs, **measure(contestant.encoder, dls))
            print(key, tried[key], flush=True)
            figures = {n: {k.rsplit('/', 1)[1]: r for k, r in tried.all.items() if k.rsplit('/', 1)[0] == n} for n in attempts()}
            record('race_search', f'What changes of our recipe do in {a.minutes:g} minutes on {a.n:,} images of {a.data}', dict(runs={n: r for n, r in figures.items() if r}),
                'python benchmarks/race.py --search', recipe=OURS, encoder=a.encoder, minutes=a.minutes, threads=a.threads)

def rivals(a: argparse.Namespace, source: ImageSource) -> dict:
    "What needs no training, judged in the same way"
    dls = labelled_dls(source, 256)
    set_seed(0)
    found = {'raw pixels': Rival(raw_pixels, dls.train), 'grey pixels': Rival(grey_pixels, dls.train), 'untrained': create_encoder(**a.encoder)}
    return {name: measure(o, dls) for name, o in found.items()}

def race(a: argparse.Namespace, source: ImageSource):
    "All seeds, one after the other; the ledger has each as soon as it is finished"
    turns, others = Turns(a.out/'turns.json'), rivals(a, source)
    for seed in range(a.seeds):
        contest(seed, a, source, turns)
        runs = runs_of(turns)
        record('race', f'{a.n:,} images of {a.data}, {a.minutes:g} minutes each on {a.threads} threads: kNN(200, 0.1) and linear accuracy on {len(source.test):,} test images',
            result(runs, a.minutes) | dict(rivals=others, runs=runs), command(), ours=OURS | a.ours, lightly=LIGHTLY, encoder=a.encoder, minutes=a.minutes, turn=a.turn,
            threads=a.threads, workers=a.workers, peers=a.peers, seeds=[*runs['ours']])
    draw(json.loads(file_of('race').read_text())['figures']).figure.savefig(a.out/'race.png', dpi=100)

def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--out', type=Path, default=Path.home()/'.byol_fastai'/'race', help='folder of the checkpoints')
    parser.add_argument('--data', default='cifar10')
    parser.add_argument('--n', type=int, default=5000, help='images, of each split')
    parser.add_argument('--minutes', type=float, default=15, help='of training, for each, for each seed')
    parser.add_argument('--turn', type=float, default=1, help='minutes of a turn')
    parser.add_argument('--trial', type=float, default=20, help='seconds that the speed is measured for')
    parser.add_argument('--seeds', type=int, default=3)
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--workers', type=int, default=0, help="processes that make lightly's views; try what suits it best")
    parser.add_argument('--ours', type=json.loads, default={}, help='changes of our recipe, as JSON')
    parser.add_argument('--encoder', type=json.loads, default=ENCODER, help='of both, as JSON for create_encoder')
    parser.add_argument('--search', action='store_true', help='try changes of our recipe instead')
    parser.add_argument('--only', nargs='+', help='of the search, these changes only')
    a = parser.parse_args(argv)
    set_threads(a.threads)
    a.out.mkdir(parents=True, exist_ok=True)
    a.peers = {} if a.search else present(dict(lightly='lightly'))
    if not a.search and not a.peers: return print('Nobody to race against, so nothing was measured.')
    (search if a.search else race)(a, load_source(a.data, 32, a.n))

if __name__ == '__main__': main()
