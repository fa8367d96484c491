"""Must the predictor be learned? The same fit with a computed one, a learned matrix, two layers, or none.

    python benchmarks/dynamics.py
"""
from functools import partial
import torch
from torch import nn
from byol_fastai.all import feature_std
from byol_fastai.dynamics import DirectPred, linear_predictor
from seeds import experiment, figures, fit, learner

def direct(learn, relative: bool = False, eps: float = .1):
    "A matrix that is set from the correlation of the projections after each step"
    linear_predictor(learn).add_cb(DirectPred(eps=eps, relative=relative))

def without(learn): learn.model.predictor = nn.Identity()

def usual(learn): "Two layers, with BatchNorm between them"

SMALL = .01 # epsilon: a tenth of the paper's
SLOW = .95 # the tau that a fit begins with in place of the preset's, so that the target follows slowly from the start
PREDICTORS = {'DirectPred': direct, 'DirectPred relative': partial(direct, relative=True), 'DirectPred small epsilon': partial(direct, relative=True, eps=SMALL),
    'linear': linear_predictor, 'MLP': usual, 'none': without}
SLOWLY = {'DirectPred slow': partial(direct, relative=True, eps=SMALL), 'DirectPred slow large epsilon': partial(direct, relative=True), 'linear slow': linear_predictor, 'MLP slow': usual}

def one(config, change, seed: int, **kwargs) -> dict:
    "A run with another predictor, and the spread of its projections in the end"
    learn = learner(config, seed, **kwargs)
    change(learn)
    fit(learn, config)
    return figures(learn, config, std=feature_std(torch.cat(learn.model.projections)).item())

def jobs(config) -> dict:
    return {k: partial(one, config, o) for k, o in PREDICTORS.items()} | {k: partial(one, config, o, tau=SLOW) for k, o in SLOWLY.items()}

def main(argv=None):
    what = 'Probes on the embedded shapes after the same fit with another predictor'
    experiment('dynamics', what, jobs, argv, __doc__)

if __name__ == '__main__': main()
