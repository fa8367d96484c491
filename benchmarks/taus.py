"""How slow should the target be? The same fit on the embedded shapes with constant taus from 0 to 1, the cosine schedule, and copies of the online network every so often.

    python benchmarks/taus.py
"""
from functools import partial
from seeds import SHORT, experiment, figures, fit, learner

TAUS = 0, .5, .9, .97, .99, .999, 1
COPIES = {'copy every epoch': 1, 'copy every 2 epochs': 2} # epochs between two copies

def constant(config, tau: float, seed: int) -> dict:
    "A tau that never changes"
    return figures(fit(learner(config, seed, tau=tau, schedule='constant'), config), config)

def cosine(config, seed: int) -> dict:
    "The schedule of the paper, with the tau that suits the length of the fit"
    return figures(fit(learner(config, seed, schedule='cosine'), config), config)

def copied(config, epochs: int, seed: int) -> dict:
    "A target that stands still, and becomes the online network all at once after so many epochs"
    def tau(k, K): return 0. if (k+1) % (epochs*(K//config.epochs)) == 0 else 1.
    return figures(fit(learner(config, seed, schedule=tau), config), config)

def jobs(config) -> dict:
    return {f'{o:g}': partial(constant, config, o) for o in TAUS} | {'cosine': partial(cosine, config)} | {k: partial(copied, config, o) for k, o in COPIES.items()}

def main(argv=None):
    experiment('taus', 'Probes on the embedded shapes after the same fit with different decays of the target network', jobs, argv, __doc__, preset=SHORT)

if __name__ == '__main__': main()
