"""What does it cost that each device normalises by its own part of the batch? The same batch of 64, on one device and as on several.

    python benchmarks/devices.py

One process does it all: `part_norms` gives every part of the batch the statistics that it would have on a device of its own. One device is what `sync_bn` makes of many.
"""
from functools import partial
from byol_fastai.scale import part_norms
from seeds import SHORT, experiment, figures, fit, learner

DEVICES = 1, 8, 32 # with 64, 8 and 2 images in each

def shared(config, devices: int, seed: int) -> dict:
    learn = learner(config, seed)
    if devices > 1: part_norms(learn.model, devices)
    return figures(fit(learn, config), config)

def jobs(config) -> dict: return {str(o): partial(shared, config, o) for o in DEVICES}

def main(argv=None):
    experiment('devices', 'kNN and linear accuracy on the embedded shapes with BatchNorm statistics of a whole batch, and of the parts of it that lie on so many devices', jobs, argv, __doc__, preset=SHORT | dict(extra_views=0))

if __name__ == '__main__': main()
