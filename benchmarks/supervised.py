"""The ceiling: the network of the main job, trained with the labels for as many steps, and judged by the same probes.

    python benchmarks/supervised.py
"""
from functools import partial
from fastai.vision.all import set_seed
from byol_fastai.all import byol_dls, create_encoder, fine_tune_learner
from byol_fastai.probes import network_name
from seeds import experiment, images_of, labelled_of, probes

LR = 4e-3 # highest, of `fit_one_cycle`

def steps_of(config, seed: int) -> int:
    "Steps that BYOL takes with this recipe"
    return config.epochs*len(byol_dls(images_of(config.data, config.size, config.n), config.bs, n=config.n, seed=seed).train)

def taught(config, seed: int):
    "The learner of one run, trained; the encoder is `model[0]`"
    set_seed(seed)
    learn = fine_tune_learner(labelled_of(config), create_encoder(config.arch), config.bs)
    learn.logger = lambda row: None
    with learn.no_bar(): learn.fit_one_cycle(max(1, round(steps_of(config, seed)/len(learn.dls.train))), LR)
    return learn

def judged(config, seed: int) -> dict:
    "One run; which images and which network, so that the figures are only shown beside these"
    learn = taught(config, seed)
    encoder = learn.model[0]
    return probes(encoder, config) | dict(accuracy=learn.final_record[-1], images=labelled_of(config).source.fingerprint['hash'], network=network_name(encoder))

def jobs(config) -> dict: return {'supervised': partial(judged, config)}

def main(argv=None):
    experiment('supervised', 'The network of the main job, trained with labels for as many steps: the ceiling for kNN and linear probe on the embedded shapes', jobs, argv, __doc__, highest_lr=LR)

if __name__ == '__main__': main()
