"""Does the projector shield the encoder? What can be read from the encoder's output, from the projection, and from the prediction of the same network.

    python benchmarks/shield.py
"""
from functools import partial
from torch import nn
from seeds import SHORT, experiment, figures, fit, learner, probes
from views_decide import decoded

STAGES = 'encoder', 'projection', 'prediction'

def stages(config, seed: int):
    "One run, looked at in three places"
    learn = fit(learner(config, seed), config)
    m = learn.model
    for i, name in enumerate(STAGES):
        network = nn.Sequential(m.encoder, m.projector, m.predictor)[:i+1]
        yield name, (probes(network, config) if i else figures(learn, config)) | dict(decoded=decoded(network, config))

def jobs(config) -> dict: return {STAGES: partial(stages, config)}

def main(argv=None):
    experiment('shield', 'What can be read from encoder, projection and prediction of BYOL on the embedded shapes: the class, and each parameter (R^2)', jobs, argv,
        __doc__, preset=SHORT)

if __name__ == '__main__': main()
