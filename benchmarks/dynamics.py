"""Must the predictor be learned? The same fit with a computed one, a learned matrix, two layers, or none.

    python benchmarks/dynamics.py
"""
from functools import partial
import torch
from torch import nn
from byol_fastai.all import feature_std
from byol_fastai.dynamics import DirectPred, linear_predictor
from seeds import experiment, figures, fit, learner

def direct(learn, relative: bool = False):
    "A matrix that is set from the correlation of the projections after each step"
    linear_predictor(learn).add_cb(DirectPred(relative=relative))

def without(learn): learn.model.predictor = nn.Identity()

PREDICTORS = {'DirectPred': direct, 'DirectPred relative': partial(direct, relative=True),
    'linear': linear_predictor, 'MLP': lambda learn: None, 'none': without}

def one(config, change, seed: int) -> dict:
    "A run with another predictor, and the spread of its projections in the end"
    learn = learner(config, seed)
    change(learn)
    fit(learn, config)
    return figures(learn, config, std=feature_std(torch.cat(learn.model.projections)).item())

def jobs(config) -> dict: return {k: partial(one, config, change) for k, change in PREDICTORS.items()}

def main(argv=None):
    what = 'Probes on the embedded shapes after the same fit with another predictor'
    experiment('dynamics', what, jobs, argv, __doc__)

if __name__ == '__main__': main()
