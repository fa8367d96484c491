"""The target network's decay on the embedded shapes: kNN after the same short fit for every constant tau.

    python benchmarks/taus.py
"""
from fastai.vision.all import set_seed
from byol_fastai.all import *
from ledger import record

TAUS = 0, .5, .9, .97, .99, 1

def knn(tau: float, seed: int = 0) -> float:
    "kNN accuracy after a fit whose tau never changes"
    config = run_config('shapes')
    set_seed(seed)
    dls, labelled = byol_dls('shapes', config.bs, seed=seed), labelled_dls('shapes')
    learn = byol_learner(dls, config.arch, n_hidden=config.n_hidden, n_proj=config.n_proj, opt=config.opt, tau=tau, schedule='constant', guard=False)
    with learn.no_bar(), learn.no_logging(): learn.fit_byol(config.epochs, config.lr)
    bank, queries = (embed(learn.model.encoder, o) for o in labelled)
    return round(accuracy_of(knn_predict(*bank, queries[0]), queries[1]), 4)

if __name__ == '__main__':
    figures = {}
    for tau in TAUS:
        figures[f'{tau:g}'] = knn(tau)
        print(tau, figures[f'{tau:g}'], flush=True)
        record('taus', 'kNN accuracy on the embedded shapes after the same fit with a constant tau', figures, 'python benchmarks/taus.py', seed=0)
