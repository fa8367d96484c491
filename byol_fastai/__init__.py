"Learn and use BYOL: views, target network, collapse metrics, `Learner` and probes for fastai."
from importlib.metadata import version

__version__ = version('byol_fastai')
