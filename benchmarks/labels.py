"""How many labels does BYOL save? A linear probe, fine-tuning and training from scratch, with 1 %, 10 % and all labels of the embedded shapes.

    python benchmarks/labels.py
"""
from copy import deepcopy
from functools import partial
from byol_fastai.all import label_efficiency
from seeds import experiment, fit, labelled_of, learner

WAYS = 'linear', 'fine-tuned', 'from scratch'
SHARES = .01, .1, 1.

def ways(config, seed: int):
    "One encoder, and what becomes of it with few labels; each seed draws other labels"
    learn = learner(config, seed)
    untrained = deepcopy(learn.model.encoder)
    fit(learn, config)
    table = label_efficiency(learn.model.encoder, untrained, labelled_of(config), SHARES, seed=seed)
    for way in WAYS: yield way, dict(accuracy={str(k): v for k, v in table[way].items()}, images={str(k): v for k, v in table['images'].items()})

def jobs(config) -> dict: return {WAYS: partial(ways, config)}

def main(argv=None):
    experiment('labels', 'Test accuracy on the embedded shapes with a share of the labels: frozen BYOL features, BYOL fine-tuned, and the same network from scratch', jobs, argv, __doc__, shares=list(SHARES))

if __name__ == '__main__': main()
