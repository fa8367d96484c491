"""What does the loss compare? Vectors of length one, normalised otherwise, or as they are; and what a mean of the two terms, or views that are not crossed, cost.

    python benchmarks/normalisation.py

In every setting the gradient is stopped at the target and the predictor is there, so that nothing but the loss differs.
Crossing is judged without extra views: those of the recipe are averaged into both targets, and would cross what the loss does not.
"""
from dataclasses import replace
from functools import partial
import torch.nn.functional as F
from byol_fastai.all import byol_loss
from seeds import SHORT, experiment, figures, fit, learner

def none(p, z): return (p-z.detach()).pow(2).sum(-1).mean()
def layer_norm(p, z): return none(*(F.layer_norm(o, o.shape[-1:]) for o in (p, z)))/p.shape[-1]
def batch_norm(p, z): return none(*((o-o.mean(0))/(o.std(0)+1e-5) for o in (p, z)))/p.shape[-1]

def crossed(distance, preds, z1, z2, **kwargs): return distance(preds[0], z2)+distance(preds[1], z1)
def averaged(distance, preds, z1, z2, **kwargs): return crossed(distance, preds, z1, z2)/2
def straight(distance, preds, z1, z2, **kwargs): return distance(preds[0], z1)+distance(preds[1], z2)

BYOLS = partial(crossed, byol_loss)
DISTANCES = {'layer norm': layer_norm, 'batch norm': batch_norm, 'none': none}
MEAN = partial(averaged, byol_loss)
TWO_VIEWS = {'two views': BYOLS, 'two views not crossed': partial(straight, byol_loss)}
LRS = dict(adamw=4e-3, lars=None) # of the optimizers that are not the preset's; `None` for the library's own

LOSSES = {('sgd', 'l2'): BYOLS} | {('sgd', k): partial(crossed, o) for k, o in DISTANCES.items()} | {('sgd', k): o for k, o in TWO_VIEWS.items()}
SLOWER = {'none slower': 1/20} # without a bound the loss grows without one at the preset's rate
LOSSES |= {('sgd', k): partial(crossed, none) for k in SLOWER}
LOSSES |= {(opt, k): o for opt in ('sgd', *LRS) for k, o in {'l2': BYOLS, 'mean': MEAN}.items()}

def one(config, opt: str, loss, seed: int, share: float = 1.) -> dict:
    "BYOL with another loss or optimizer; what the preset says of rates and weight decay holds for its own optimizer"
    preset = opt == config.opt
    own = {} if preset else dict(wd=None, predictor_lr_mult=1.)
    learn = learner(config, seed, opt=opt, loss_func=loss, **own)
    return figures(fit(learn, config, lr=share*config.lr if preset else LRS[opt]), config)

def jobs(config) -> dict:
    plain = replace(config, extra_views=0)
    return {f'{opt} {k}': partial(one, plain if k in TWO_VIEWS else config, opt, loss, share=SLOWER.get(k, 1.)) for (opt, k), loss in LOSSES.items()}

def main(argv=None):
    experiment('normalisation', 'Probes on the embedded shapes after training with different losses and optimizers', jobs, argv, __doc__, preset=SHORT, lrs=LRS)

if __name__ == '__main__': main()
