"""Take BYOL apart, one piece at a time: fits on the embedded shapes that differ from the main job in one thing each, and what becomes of them.

    python benchmarks/ablations.py            # every table
    python benchmarks/ablations.py parts --seeds 5

A table is a file of the ledger, `ablations_parts` for one, and its runs keep the whole progress table: loss, feature std, effective rank and kNN of every epoch.
"""
import sys
from copy import deepcopy
from functools import partial
from torch import nn
from torch.nn.utils import parametrize
from byol_fastai.all import ViewPolicy
from byol_fastai.clinic import no_predictor, no_stop_gradient
from byol_fastai.family import become
from byol_fastai.views import SHAPES_VIEWS
from seeds import SHORT, experiment, figures, fit, labelled_of, learner

def trained(config, seed: int, change=None, lr: float | None = None, **kwargs) -> dict:
    "A fit with other settings (`kwargs`, for `byol_learner`), and with the learner changed by `change` before it starts"
    learn = learner(config, seed, **kwargs)
    if change: change(learn)
    return figures(fit(learn, config, **({} if lr is None else dict(lr=lr))), config)

# --- parts

def neither(learn): no_predictor(learn); no_stop_gradient(learn)

ASYMMETRIC = {}, dict(jitter_p=.2, gray_p=0.) # what the second view is spared

def asymmetric(config, seed):
    size = labelled_of(config).size
    return trained(config, seed, policies=tuple(ViewPolicy(size, **SHAPES_VIEWS | o) for o in ASYMMETRIC))

def parts(config) -> dict:
    changes = {'BYOL': {}, 'no predictor': dict(change=no_predictor), 'no stop-gradient': dict(change=no_stop_gradient, extra_views=0), 'neither': dict(change=neither, extra_views=0),
        'fixed random target': dict(tau=1., schedule='constant'), 'no extra views': dict(extra_views=0), 'no weight decay': dict(wd=0.)}
    return {k: partial(trained, config, **o) for k, o in changes.items()} | {'asymmetric views': partial(asymmetric, config)}

# --- predictor

def predictor(config) -> dict:
    "The learning rate of the predictor in multiples of the others', with the slow target and with a copy of the online network"
    targets = {'EMA': {}, 'tau 0': dict(tau=0., schedule='constant')}
    return {f'{name} x{k}': partial(trained, config, predictor_lr_mult=k, **o) for name, o in targets.items() for k in (.1, 1, 2, 10, 20)}

# --- normalisation layers

class Standardised(nn.Module):
    "A weight whose rows have mean 0 and sum of squares 1 (Qiao and others 2019)"
    def forward(self, weight):
        w = weight.flatten(1)
        w = w-w.mean(1, keepdim=True)
        return (w/(w.norm(dim=1, keepdim=True)+1e-5)).view_as(weight)

def replace_norms(module, make):
    "Every BatchNorm in `module` by what `make` gives for its number of channels and whether it sees images"
    for name, o in module.named_children():
        if isinstance(o, (nn.BatchNorm1d, nn.BatchNorm2d)): setattr(module, name, make(o.num_features, isinstance(o, nn.BatchNorm2d)))
        else: replace_norms(o, make)

def nothing(n, images): return nn.Identity()
def layers(n, images): return nn.GroupNorm(1, n) if images else nn.LayerNorm(n)
def groups(n, images): return nn.GroupNorm(8, n)

def other_norms(make, heads_only: bool, standardised: bool, learn):
    "The online network with other normalisation layers, and a target that begins as its copy"
    m = learn.model
    for part in (m.projector, m.predictor) if heads_only else (m.encoder, m.projector, m.predictor): replace_norms(part, make)
    if standardised:
        for o in m.modules():
            if isinstance(o, (nn.Conv2d, nn.Linear)): parametrize.register_parametrization(o, 'weight', Standardised())
    m.target = deepcopy(nn.Sequential(m.encoder, m.projector)).requires_grad_(False)

def norms(config) -> dict:
    kinds = {'none in the heads': (nothing, True, False), 'none anywhere': (nothing, False, False), 'layer norm': (layers, False, False), 'group norm with standardised weights': (groups, False, True)}
    slower = config.lr/5 # without BatchNorm some of them diverge at the rate of the preset
    jobs = {'batch norm': partial(trained, config), 'batch norm slower': partial(trained, config, lr=slower)}
    for name, o in kinds.items(): jobs |= {name: partial(trained, config, change=partial(other_norms, *o)), f'{name} slower': partial(trained, config, change=partial(other_norms, *o), lr=slower)}
    return jobs

# --- views

NO_COLOUR, NO_FLIP, NO_CROP = dict(jitter_p=0., gray_p=0.), dict(flip_p=0.), dict(scale=(.999, 1.), ratio=(1., 1.))
WITHOUT = {'all': {}, 'no grey': dict(gray_p=0.), 'no colour': NO_COLOUR, 'no flip': NO_FLIP, 'crop alone': NO_COLOUR | NO_FLIP, 'no crop': NO_CROP}

def seen(config, method: str, without: dict, seed: int) -> dict:
    "One of the methods, with views that lack something"
    size = labelled_of(config).size
    policies = (ViewPolicy(size, **SHAPES_VIEWS | without),)*2
    if method == 'BYOL': return trained(config, seed, policies=policies)
    return trained(config, seed, change=lambda learn: become(learn, 'simclr'), policies=policies, extra_views=0)

def views(config) -> dict: return {f'{method}: {k}': partial(seen, config, method, o) for k, o in WITHOUT.items() for method in ('BYOL', 'SimCLR')}

# --- heads and batch

def heads(config) -> dict:
    shapes = [(256, 64), (32, 64), (1024, 64), (256, 8), (256, 256)]
    return {f'hidden {h} to {p}': partial(trained, config, n_hidden=h, n_proj=p) for h, p in shapes}

TABLES = dict(parts='without one of its parts', predictor='with other learning rates of the predictor', norms='with other normalisation layers',
    views='and SimCLR, with views that lack something', heads='with other heads')

def main(argv=None):
    argv = [*(sys.argv[1:] if argv is None else argv)]
    chosen = [argv.pop(0)] if argv and not argv[0].startswith('-') else [*TABLES]
    if unknown := [o for o in chosen if o not in TABLES]: sys.exit(f"There is no table {unknown[0]!r}: give one of {', '.join(TABLES)}, or none of them for all.")
    for o in chosen:
        experiment(f'ablations_{o}', f'BYOL on the embedded shapes {TABLES[o]}', globals()[o], argv, __doc__, preset=SHORT, command=f'python benchmarks/ablations.py {o}')

if __name__ == '__main__': main()
