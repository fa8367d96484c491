"Learn and use BYOL: views, target network, collapse metrics, `Learner` and probes for fastai."
import warnings
from importlib.metadata import version

__version__ = version('byol_fastai')
# a library that we import still scripts a function as it is loaded; nobody who uses ours can do anything about it
warnings.filterwarnings('ignore', message='`torch.jit.script` is deprecated')
