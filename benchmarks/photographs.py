"""When is BYOL on your own photographs worth it? A folder of clothes, few labels or all of them, and everything else that one could do instead.

    python benchmarks/photographs.py path/to/clothing-dataset-small --seeds 3

Every encoder is judged on the same photographs with the same draws of the labels: by kNN and logistic regression on its frozen features, and fine-tuned.
The network pretrained on ImageNet comes from timm by its name; without a network connection `--pretrained` takes the path of an encoder of `save_encoder`.
May be killed at any time: runs that are done are in the ledger, and a training goes on after its last epoch, from the checkpoints in `--out`.
"""
import argparse
from functools import cached_property, partial
from pathlib import Path
from fastai.data.external import fastai_path
from fastai.vision.all import set_seed
from byol_fastai.all import (Checkpoint, byol_policies, create_encoder, embed, label_efficiency, labelled_dls, linear_probe, load_encoder, load_source, run_config,
    save_encoder)
from byol_fastai.probes import Rival, label_subset
from byol_fastai.rivals import colour_histogram, grey_pixels, raw_pixels, tuned_knn
from byol_fastai.runs import SayRows, given_encoder, run_learner, run_source
from byol_fastai.saving import read_checkpoint
from cifar10_small import Cost, cpu_minutes
from seeds import Table, names_of, run_all
from timing import set_threads

SHARES = .01, .1, 1. # of the labels
OTHERS = 'cifar10-small' # comes with the package: BYOL on 50,000 other photographs, without labels
IMAGENET = 'tf_efficientnet_lite0' # a million other photographs, with labels
SMALL = dict(size=32, bs=64, opt='sgd', flat=.5, wd=1e-4, predictor_lr_mult=20., n_hidden=256, n_proj=64)
RECIPES = {'BYOL': SMALL | dict(epochs=20, bs=32, lr=.05, tau=.5, extra_views=2), 'BYOL from CIFAR-10': SMALL | dict(epochs=20, lr=.02, tau=.9),
    'BYOL from ImageNet': SMALL | dict(size=64, epochs=3, lr=.01, tau=.99)} # fields of `RunConfig`; a network pretrained at 224 pixels sees next to nothing at 32
VIEWS = dict(scale=(.4, 1.), saturation=.4, hue=.3, gray_p=.3) # the kind of a garment is in its outline, and not in its colour
EPOCHS = {32: 5, 64: 2} # of fine-tuning on all labels, by size; see `label_efficiency` for fewer labels
SHALLOW = {'raw pixels': raw_pixels, 'grey pixels': grey_pixels, 'colour histogram': colour_histogram}

# --- what one could start from, and BYOL from there

def like_others(seed: int):
    "The small network with random weights"
    set_seed(seed)
    return create_encoder(**load_encoder(OTHERS).info['recipe'])

class Photographs:
    "A folder of photographs as each network sees it, and a folder for what is trained on them"
    def __init__(self, folder: Path, out: Path, imagenet: str = IMAGENET): self.folder, self.out, self.large = folder, out, imagenet
    @cached_property
    def imagenet(self): return given_encoder(self.config('BYOL from ImageNet', 0))
    @cached_property
    def source(self): return load_source(self.folder, SMALL['size'])
    @cached_property
    def large_source(self): return run_source(self.config('BYOL from ImageNet', 0), self.imagenet)
    @cached_property
    def seen_by_imagenet(self): return [embed(self.imagenet, o) for o in labelled_dls(self.large_source)] # the same for every seed

    def start(self, name: str, seed: int) -> str:
        "Where a run begins, as `run_config` wants it"
        if name != 'BYOL': return {'BYOL from CIFAR-10': OTHERS, 'BYOL from ImageNet': self.large}[name]
        path = self.out/f'random-{seed}'
        if not path.with_suffix('.json').exists(): save_encoder(path, like_others(seed), 'tiny', SMALL['size'])
        return str(path)

    def config(self, name: str, seed: int): return run_config(self.folder, start=self.start(name, seed), **RECIPES[name], seed=seed, guard=False, threads=1)

    def source_of(self, name: str): return self.large_source if name == 'BYOL from ImageNet' else self.source

    def trained(self, name: str, seed: int) -> tuple:
        "Encoder and history of a run of BYOL, which goes on where its checkpoint was left"
        config, source, path = self.config(name, seed), self.source_of(name), self.out/f'{name}-{seed}'
        learn, _ = run_learner(config, [Cost(), SayRows()], source, policies=byol_policies(source.size, mean=source.mean, std=source.std, **VIEWS))
        self.out.mkdir(parents=True, exist_ok=True)
        saved = read_checkpoint(path) if path.exists() else None
        done = saved['epoch'] if saved else 0
        if done < config.epochs:
            with learn.no_bar(): learn.fit_byol(config.epochs, config.lr, flat=config.flat, cbs=Checkpoint(path, saved), start_epoch=done)
            saved = read_checkpoint(path)
        learn.model.load_state_dict(saved['model'])
        return learn.model.encoder, saved['history']

# --- how good?

def frozen(bank: tuple, test: tuple, seed: int) -> dict:
    "Both probes with a share of the labels; kNN at its best for every kind of features alike"
    res = dict(knn={}, linear={}, images={})
    for share in SHARES:
        few = label_subset(bank[1], share, seed)
        known = bank[0][few], bank[1][few]
        figures = dict(knn=tuned_knn(known, test), linear=linear_probe(known, test), images=len(few))
        for k, v in figures.items(): res[k][str(share)] = v
    return res

def judged(encoder, source, seed: int) -> dict: return frozen(*[embed(encoder, o) for o in labelled_dls(source)], seed)

# --- the jobs, cheap ones first

def shallow(p: Photographs, seed: int):
    dls = labelled_dls(p.source)
    for name, feature in SHALLOW.items(): yield name, frozen(*[embed(Rival(feature, dls.train), o) for o in dls], seed)

def run(p: Photographs, name: str, seed: int) -> dict:
    "BYOL, how good its features are, and what they cost"
    encoder, rows = p.trained(name, seed)
    return judged(encoder, p.source_of(name), seed) | dict(cpu_minutes=cpu_minutes(rows), history=[{k: v for k, v in o.items() if k != 'time'} for o in rows])

def fine_tuned(p: Photographs, starts: dict, seed: int):
    "Accuracy after fine-tuning from each of two starts, by the name of the setting: the name of a run, or a function that gives a network"
    source = p.source_of(next(iter(starts.values())))
    networks = [p.trained(o, seed)[0] if isinstance(o, str) else o(seed) for o in starts.values()]
    table = label_efficiency(*networks, labelled_dls(source), SHARES, n_epoch=EPOCHS[source.size], seed=seed)
    for name, column in zip(starts, ('fine-tuned', 'from scratch')): yield name, dict(accuracy={str(k): v for k, v in table[column].items()})

def jobs(p: Photographs) -> dict:
    def others(seed): return load_encoder(OTHERS)
    pairs = [{'BYOL from CIFAR-10 fine-tuned': 'BYOL from CIFAR-10', 'from scratch': like_others}, {'BYOL fine-tuned': 'BYOL', 'CIFAR-10 fine-tuned': others},
        {'BYOL from ImageNet fine-tuned': 'BYOL from ImageNet', 'ImageNet fine-tuned': lambda seed: p.imagenet}]
    return {tuple(SHALLOW): partial(shallow, p), 'random network': lambda seed: judged(like_others(seed), p.source, seed),
        'CIFAR-10': lambda seed: judged(others(seed), p.source, seed), 'ImageNet': lambda seed: frozen(*p.seen_by_imagenet, seed),
        **{o: partial(run, p, o) for o in ('BYOL from CIFAR-10', 'BYOL', 'BYOL from ImageNet')}, **{tuple(o): partial(fine_tuned, p, o) for o in pairs}}

def recipe(source) -> dict:
    "What all runs have in common; where the folder lies is nobody's business"
    return dict(runs=RECIPES, images=source.fingerprint['hash'], views=VIEWS, shares=list(SHARES), fine_tuning_epochs={str(k): v for k, v in EPOCHS.items()})

def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('folder', type=Path, nargs='?', default=fastai_path('data')/'clothing-dataset-small', help='photographs, with a folder for each class')
    parser.add_argument('--seeds', type=int, default=3, help='run the seeds 0, 1, ... up to so many')
    parser.add_argument('--settings', help='these only, with commas between them')
    parser.add_argument('--pretrained', default=IMAGENET, help='name of an architecture with published weights, or the path of a saved encoder')
    parser.add_argument('--out', type=Path, default=Path.home()/'.byol_fastai'/'photographs', help='folder of the checkpoints')
    a = parser.parse_args(argv)
    set_threads(1)
    p = Photographs(a.folder, a.out, a.pretrained)
    todo = names_of(jobs(p))
    names = [o for k in todo for o in k]
    table = Table('photographs', f'Test accuracy on {len(p.source.test):,} photographs with a share of the labels of {len(p.source.train):,} others', names, recipe(p.source),
        'python benchmarks/photographs.py path/to/clothing-dataset-small', lambda runs: {})
    chosen = a.settings.split(',') if a.settings else names
    run_all(table, {k: job for k, job in todo.items() if {*k} & {*chosen}}, a.seeds)

if __name__ == '__main__': main()
