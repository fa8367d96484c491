"""With which tau should a short fit begin? The main job, whole, with cosines that begin at different taus and end at 1.

    python benchmarks/first_tau.py
"""
from functools import partial
from seeds import experiment, figures, fit, learner

TAUS = .5, .95, .8, .99

def beginning(config, tau: float, seed: int) -> dict: return figures(fit(learner(config, seed, tau=tau), config), config)

def jobs(config) -> dict: return {f'{o:g}': partial(beginning, config, o) for o in TAUS}

def main(argv=None):
    experiment('first_tau', 'Probes on the embedded shapes after the main job, whose tau follows a cosine from different first values to 1', jobs, argv, __doc__, preset=dict(probe_every=1))

if __name__ == '__main__': main()
