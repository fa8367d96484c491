"""The bootstrap ladder: a student learns to predict a random, frozen network, the next student learns to predict that student, and so on; each begins with fresh random weights.

    python benchmarks/ladder.py
"""
from copy import deepcopy
from functools import partial
from torch import nn
from seeds import SHORT, experiment, figures, fit, learner, probes

GENERATIONS = tuple(f'generation {i}' for i in range(1, 6))

def student(config, seed: int, teacher=None):
    "A learner with random weights, whose target is `teacher` and stays as it is; without one, its own network before it learns"
    learn = learner(config, seed, tau=1., schedule='constant')
    if teacher is not None: learn.model.target.load_state_dict(teacher.state_dict())
    return learn

def as_teacher(learn):
    "A copy of encoder and projector"
    return deepcopy(nn.Sequential(learn.model.encoder, learn.model.projector))

def climb(config, seed: int):
    "From a random network upwards: what each generation can do"
    teacher = as_teacher(student(config, 1000+seed))
    yield 'untrained', probes(teacher[0], config)
    for i, name in enumerate(GENERATIONS):
        learn = fit(student(config, seed+10_000*i, teacher), config)
        yield name, figures(learn, config)
        teacher = as_teacher(learn)

def moving(config, seed: int) -> dict:
    "BYOL as it is: a teacher that follows its student all the time"
    return figures(fit(learner(config, seed), config), config)

def jobs(config) -> dict: return {('untrained', *GENERATIONS): partial(climb, config), 'EMA': partial(moving, config)}

def main(argv=None):
    experiment('ladder', 'Probes on the embedded shapes of five generations, each trained to predict the frozen one before it, the first of them a random network', jobs, argv, __doc__, preset=SHORT)

if __name__ == '__main__': main()
