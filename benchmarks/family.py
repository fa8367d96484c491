"""BYOL and its relatives: the same fit on the embedded shapes with the same encoder, views, batch and optimizer, each method with its own loss and the best of a short list of learning rates.

    python benchmarks/family.py
"""
import json
from dataclasses import replace
from functools import partial
import torch
from byol_fastai import course
from byol_fastai.all import KNNProbe, accuracy_of, embed, knn_predict
from byol_fastai.evaluate import suitable_k
from byol_fastai.family import FAMILY, MoCoQueue, become, family_learner, info_nce_queue
from seeds import changes, experiment, figures, fit, labelled_of, learner, recipe

PRESET = dict(epochs=8, tau=.95, n=6000, extra_views=0)
RATES = .0015, .005, .015, .05, .15 # the list, for all methods that are trained with SGD
ADAM_RATES = .0005, .0015, .005 # for the transformer, which is trained with AdamW
TRIAL_SEED = 100 # of the fits that choose a rate; no row of the table has it
CHOSEN = dict(rates=[*RATES], adam_rates=[*ADAM_RATES], trial_seed=TRIAL_SEED, trial='half of the epochs, kNN within the training images')

# --- the learners: that of a run of BYOL, with one thing changed

LONG = 4096 # keys of a queue that is older than the target's memory

class OldKeys(MoCoQueue):
    "Only the last keys of the queue are negatives, the oldest"
    def __init__(self, n_proj: int, size: int, last: int): super().__init__(n_proj, size); self.last = last
    def forward(self, preds, z1, z2):
        losses = [info_nce_queue(p, k, self.queue[-self.last:], self.temperature) for p, k in zip(preds, (z2, z1))]
        if self.training: self.push(torch.cat([z1, z2]))
        return sum(losses)/2

QUEUES = {'moco, queue of 4096': partial(MoCoQueue, size=LONG), 'moco, oldest 512': partial(OldKeys, size=LONG, last=512)}

def masked(config, seed: int):
    "The learner of masked latents, whose encoder is a transformer, on the loaders of a run of BYOL and with its probe"
    byol = learner(config, seed)
    learn = family_learner('masked latents', byol.dls, opt='adamw', tau=config.tau, cbs=[o for o in byol.cbs if isinstance(o, KNNProbe)])
    learn.logger = byol.logger
    return learn

def relative(config, name: str, seed: int):
    "The learner of a method, or of MoCo with another queue"
    if name == 'masked latents': return masked(config, seed)
    if name in QUEUES: return become(learner(config, seed), 'moco', QUEUES[name](config.n_proj))
    return become(learner(config, seed), name)

# --- the rates

def trial(config, name: str, lr: float) -> float:
    "How good a rate is: kNN among the images that were trained on, each without itself, after a fit of half the length; 0 where the fit fails"
    short = replace(config, epochs=max(1, config.epochs//2))
    learn = fit(relative(short, name, TRIAL_SEED), short, lr=lr)
    bank, labels = embed(learn.model.encoder, labelled_of(short).train)
    return accuracy_of(knn_predict(bank, labels, bank, suitable_k(labels)), labels) if bank.isfinite().all() else 0.

def chosen_before(config, name: str) -> dict | None:
    "The choice in the ledger, where it was made for the same experiment"
    entry = course.ledger('family')
    if not entry or changes(entry['config'], json.loads(json.dumps(recipe(config) | CHOSEN))): return None
    return next((o['trials'] for o in entry['figures']['runs'].get(name, {}).values()), None)

def trials(config, name: str) -> dict:
    "The accuracy of every rate on the list"
    rates = ADAM_RATES if name == 'masked latents' else RATES
    return chosen_before(config, name) or {f'{o:g}': trial(config, name, o) for o in rates}

def run(config, name: str, seed: int) -> dict:
    "A fit with the rate that was best in the trials, which are kept with it"
    tried = trials(config, name)
    lr = float(max(tried, key=tried.get))
    return figures(fit(relative(config, name, seed), config, lr=lr), config, lr=lr, trials=tried)

def jobs(config) -> dict: return {o: partial(run, config, o) for o in [*FAMILY, *QUEUES]}

def main(argv=None):
    experiment('family', 'Probes on the embedded shapes after the same fit by BYOL and by its relatives', jobs, argv, __doc__, preset=PRESET, **CHOSEN)

if __name__ == '__main__': main()
