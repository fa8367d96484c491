"""The encoder that is shipped as `load_encoder('cifar10-small')`: BYOL of a small network on all images of CIFAR-10, on one core of a CPU.

    python benchmarks/cifar10_small.py --out runs/cifar10-small
    python benchmarks/cifar10_small.py --out runs/cifar10-small --ship

The first line takes some two hours, supervised training included, and keeps everything in the folder `--out`, with a checkpoint after every epoch: given again after
an interruption, it goes on from there. The second line measures what came out, and writes the shipped files and the row of the ledger.
"""
import argparse, json, time
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path
import torch
from fastai.vision.all import Callback, DataLoaders, L, set_seed
from byol_fastai.all import (Checkpoint, ImageSource, KNNProbe, accuracy_of, byol_dls, byol_learner, byol_policies, create_encoder, embed,
    fine_tune_learner, knn_predict, labelled_dls, load_encoder, load_source, save_encoder)
from byol_fastai import saving
from byol_fastai.course import ledger
from byol_fastai.augment import to_gray
from byol_fastai.optimizers import SparingOptimizer
from byol_fastai.precision import CPUMixedPrecision, cpu_has_bfloat16
from byol_fastai.runs import SayRows
from byol_fastai.saving import write_atomically
from gpu import logistic_regression, write_json
from ledger import record
from timing import set_threads

NAME = 'cifar10-small'

@dataclass
class Recipe:
    "How the encoder is pretrained"
    data: str = 'cifar10'
    n: int | None = None # at most so many images of each split
    width: int = 32
    stages: int = 3
    stem_stride: int = 2
    n_hidden: int = 1024
    n_proj: int = 128
    bs: int = 128
    epochs: int = 60
    opt: str = 'sgd'
    lr: float = .06
    wd: float = 5e-4
    predictor_lr_mult: float = 10.
    flat: float = .5 # share of the schedule after which the learning rate falls
    tau: float = .99
    view: int = 24 # side of the views, pixels: smaller than the images, so they are made and seen in half the time
    scale: float = .2 # smallest share of the area that a crop covers
    probe_every: int = 5 # epochs between two looks of the kNN
    supervised_epochs: int = 20 # of the same network with labels, at the full size of the images
    seed: int = 0
    threads: int = 1

def encoder_of(r: Recipe):
    "The network, with random weights"
    set_seed(r.seed)
    return create_encoder('tiny', width=r.width, stages=r.stages, stem_stride=r.stem_stride)

def half() -> list: return [CPUMixedPrecision()] if cpu_has_bfloat16() and not torch.cuda.is_available() else []

class Cost(Callback):
    "Seconds of the CPU that each epoch takes, as a column: whatever else the computer did meanwhile does not count"
    order = KNNProbe.order+1
    def before_fit(self):
        names = self.recorder.metric_names
        at = len(names)-self.recorder.add_time
        self.recorder.metric_names = names[:at]+L('cpu')+names[at:]
    def before_train(self): self.start = time.process_time()
    def after_validate(self): self.recorder.log.append(time.process_time()-self.start)

# --- without labels

def probe_loaders(source: ImageSource, bs: int) -> DataLoaders:
    "10,000 labelled images, and every fifth of the test images, to look at while training"
    few = replace(source, train=source.train.subset([*range(len(source.train))][:10_000]), test=source.test.subset([*range(0, len(source.test), 5)]))
    return labelled_dls(few, bs)

def build(r: Recipe, source: ImageSource):
    "The learner of a recipe"
    encoder, dls, probes = encoder_of(r), byol_dls(source, r.bs, valid_pct=0, seed=r.seed), probe_loaders(source, r.bs)
    return byol_learner(dls, encoder, r.n_hidden, r.n_proj, byol_policies(r.view, scale=(r.scale, 1.)), opt=r.opt, lr=r.lr, wd=r.wd, tau=r.tau,
        predictor_lr_mult=r.predictor_lr_mult, metrics=[],
        cbs=[*half(), KNNProbe(probes.train, probes.valid, every=r.probe_every), Cost()])

def pretrain(r: Recipe, source: ImageSource, out: Path) -> tuple:
    "The encoder at the end of the schedule, and the history of all epochs; where `out` has a checkpoint it goes on from there"
    learn, path = build(r, source), out/'checkpoint'
    saved = Checkpoint.read(path) if path.exists() else None
    done = saved['epoch'] if saved else 0
    if done < r.epochs:
        with learn.no_bar(): learn.fit_byol(r.epochs, r.lr, flat=r.flat, cbs=[SayRows(), Checkpoint(path, saved)], start_epoch=done)
        saved = Checkpoint.read(path)
    learn.model.load_state_dict(saved['model'])
    return learn.model.encoder, saved['history']

# --- with labels, for comparison

class Saved(Callback):
    "What `Checkpoint` is for BYOL, in small: the network, the optimizer and the history, after every epoch"
    order = Checkpoint.order
    def __init__(self, path: Path):
        self.path, self.state = path, torch.load(path, weights_only=True) if path.exists() else dict(epoch=0, history=[])
    def before_fit(self):
        if self.state['epoch'] == 0: return
        self.learn.model.load_state_dict(self.state['model'])
        self.learn.opt.load_state_dict(self.state['opt'])
    def after_epoch(self):
        if self.epoch < self.state['epoch']: return
        row = {k: v for k, v in zip(self.recorder.metric_names, self.recorder.log) if k != 'time'}
        self.state = dict(epoch=self.epoch+1, model=self.learn.model.state_dict(), opt=saving.plain(self.learn.opt.state_dict()),
            history=[*self.state['history'], saving.plain(row)])
        write_atomically(self.path, partial(torch.save, self.state))

def supervise(r: Recipe, source: ImageSource, out: Path) -> tuple:
    "The same network, trained with the labels, and its history"
    dls, saved = labelled_dls(source, r.bs), Saved(out/'supervised')
    learn = fine_tune_learner(dls, encoder_of(r), r.bs, opt_func=partial(SparingOptimizer, opt=partial(torch.optim.AdamW, weight_decay=1e-2)),
        cbs=[*half(), Cost(), saved])
    if saved.state['epoch'] < r.supervised_epochs:
        with learn.no_bar(): learn.fit_one_cycle(r.supervised_epochs, 4e-3, cbs=SayRows(), start_epoch=saved.state['epoch'])
    learn.model.load_state_dict(saved.state['model'])
    return learn.model[0], saved.state['history']

# --- how good?

class Pixels(torch.nn.Module):
    "The pixels themselves as features, in colour or grey"
    def __init__(self, gray: bool): super().__init__(); self.gray = gray
    def forward(self, x): return (to_gray(x) if self.gray else x).flatten(1)

def probes(encoder, dls: DataLoaders) -> dict:
    "kNN(200, 0.1) and a linear classifier, on frozen features of all images, not augmented"
    train, test = (embed(encoder, o) for o in dls)
    return dict(knn=round(accuracy_of(knn_predict(*train, test[0]), test[1]), 4), linear=round(logistic_regression(train, test), 4))

def of_pixels(name: str, r: Recipe, dls: DataLoaders) -> dict:
    "The probes of the pixels: from the ledger where they were measured on the same images, since nothing else counts and they take minutes"
    entry = ledger('cifar10_small')
    same = entry and all(entry['config']['recipe'][k] == getattr(r, k) for k in ('data', 'n'))
    return entry['figures'][name] if same else probes(Pixels(name == 'gray_pixels'), dls)

def picture(size: int = 32) -> torch.Tensor:
    "A small picture that is the same everywhere, [1,3,size,size]: what an encoder makes of it stands on its card, so that a change is noticed"
    t = torch.arange(size)/size
    return torch.stack([torch.outer(t, 1-t), (6*t).sin().outer((9*t).cos()), (t[:, None]-t).abs()])[None]

def cpu_minutes(history: list) -> float: return round(sum(o['cpu'] for o in history)/60, 1)

def ship(r: Recipe, source: ImageSource, out: Path, command: str):
    "Write the encoder and its card into the package, measure what was written beside its rivals, and put that into the ledger"
    (encoder, history), (supervised, with_labels) = pretrain(r, source, out), supervise(r, source, out)
    dls, path = labelled_dls(source, r.bs), saving.WEIGHTS/NAME
    about = dict(what=f'BYOL of a small residual network on {len(source.train):,} images of CIFAR-10 of 32 pixels, without labels',
        trained=asdict(r), epochs=len(history), images=len(source.train), cpu_minutes=cpu_minutes(history), command=command, ledger='cifar10_small')
    def write(**more): save_encoder(path, encoder, 'tiny', source.size, source.mean, source.std, half=True, **about, **more)
    write()
    shipped = load_encoder(path)
    figures = dict(**{o: of_pixels(o, r, dls) for o in ('pixels', 'gray_pixels')}, random=probes(encoder_of(r), dls), byol=probes(shipped, dls),
        supervised=probes(supervised, dls) | dict(accuracy=round(with_labels[-1]['accuracy'], 4)))
    with torch.no_grad(): features = shipped(picture(source.size))[0].tolist()
    write(figures=figures['byol'], test_features=[round(o, 5) for o in features])
    print(record('cifar10_small', f'The shipped encoder {NAME}: kNN(200, 0.1) and a linear classifier on the test images of CIFAR-10, after the last epoch',
        figures | dict(epochs=len(history), cpu_minutes=cpu_minutes(history), supervised_epochs=len(with_labels), supervised_cpu_minutes=cpu_minutes(with_labels),
        megabytes=round(path.with_suffix('.safetensors').stat().st_size/2**20, 2)), command, recipe=asdict(r), seed=r.seed,
        history=history, supervised_history=with_labels))

def recipe_of(a: argparse.Namespace) -> Recipe:
    "That of the folder where there is one, else as told; the folder keeps it"
    path = a.out/'recipe.json'
    if path.exists(): return Recipe(**json.loads(path.read_text()))
    r = Recipe(**{o.name: getattr(a, o.name) for o in fields(Recipe)})
    a.out.mkdir(parents=True, exist_ok=True)
    write_json(path, asdict(r))
    return r

def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--out', type=Path, default=Path.home()/'.byol_fastai'/NAME, help='folder of the checkpoints; a recipe that lies there goes before the options')
    parser.add_argument('--ship', action='store_true', help='measure, and write the shipped files and the row of the ledger')
    for o in fields(Recipe): parser.add_argument('--'+o.name.replace('_', '-'), type=int if o.name == 'n' else type(o.default), default=o.default)
    a = parser.parse_args(argv)
    r = recipe_of(a)
    set_threads(r.threads)
    source = load_source(r.data, 32, r.n)
    pretrain(r, source, a.out)
    supervise(r, source, a.out)
    options = ''.join(f" --{o.name.replace('_', '-')} {v}" for o in fields(Recipe) if (v := getattr(r, o.name)) != o.default)
    if a.ship: ship(r, source, a.out, f'python benchmarks/cifar10_small.py{options} && python benchmarks/cifar10_small.py --ship')

if __name__ == '__main__': main()
