"""The patients of the clinic: a healthy learner and seven with a fault, and what one sees of each.

    python benchmarks/clinic.py
"""
from functools import partial
from fastai.vision.all import set_seed
from byol_fastai.all import KNNProbe, byol_dls, eigenspectrum, embed
from byol_fastai.clinic import FAULTS, HEALTHY, sick_learner
from torch import nn
from torch.nn import functional as F
from seeds import SHORT, experiment, figures, fit, images_of, labelled_of

QUERIES, NEAR = 4, 5 # test images, each of another class, and how many neighbours of each

def spectrum(model, labelled) -> list:
    "Eigenvalues of the projections of test images, each of length one"
    return eigenspectrum(F.normalize(embed(nn.Sequential(model.encoder, model.projector), labelled.valid)[0], dim=-1)).tolist()

def neighbours(encoder, labelled) -> list:
    "The first test image of each of some classes, and its nearest training images, as `(query, [near])`"
    (bank, _), (feats, y) = (embed(encoder, o) for o in labelled)
    bank, feats = (F.normalize(o, dim=-1) for o in (bank, feats))
    first = [int((y == c).nonzero()[0]) for c in y.unique().tolist()[:QUERIES]]
    return [[i, (bank@feats[i]).topk(NEAR).indices.tolist()] for i in first]

def one(config, fault: str, seed: int) -> dict:
    set_seed(seed)
    labelled = labelled_of(config)
    dls = byol_dls(images_of(config.data, config.size, config.n), config.bs, n=config.n, seed=seed)
    learn = sick_learner(fault, dls, cbs=KNNProbe(labelled.train, labelled.valid, k=None))
    learn.logger = lambda row: None
    fit(learn, config, lr=learn.lr)
    return figures(learn, config, spectrum=spectrum(learn.model, labelled), neighbours=neighbours(learn.model.encoder, labelled))

def jobs(config) -> dict: return {o: partial(one, config, o) for o in FAULTS}

def main(argv=None): experiment('clinic', 'Learners with one fault each, after six epochs of the embedded shapes', jobs, argv, __doc__, preset=SHORT, healthy=HEALTHY)

if __name__ == '__main__': main()
