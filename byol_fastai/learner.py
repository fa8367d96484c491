from fastai.vision.all import *
from timm.optim import Lars
from byol_fastai.data import *
from byol_fastai.augment import *
from byol_fastai.model import *
from byol_fastai.loss import *
from byol_fastai.ema import *
from byol_fastai.collapse import *

def byol_splitter(
    model:BYOL,
)->list: # Four lists of parameters
    "The trainable parameters in four groups: encoder and projector, then predictor; weights first, then biases and BatchNorm"
    def weights_and_rest(*modules):
        ps = [p for m in modules for p in m.parameters() if p.requires_grad]
        return [[p for p in ps if p.ndim>1], [p for p in ps if p.ndim<=1]]
    return weights_and_rest(model.encoder, model.projector) + weights_and_rest(model.predictor)

OPTIMIZERS = dict(
    adamw=(torch.optim.AdamW, dict(weight_decay=1e-4)),
    sgd=(torch.optim.SGD, dict(weight_decay=5e-4, momentum=.9)),
    lars=(Lars, dict(weight_decay=1.5e-6, momentum=.9)))

def byol_optimizer(
    groups:list, # Four lists of parameters, as from `byol_splitter`
    lr:float=1e-3, # Learning rate
    name:str='sgd', # One of `OPTIMIZERS`
    wd:float|None=None, # Weight decay of the weights; by default that of `OPTIMIZERS`
)->OptimWrapper:
    "A torch or timm optimizer in fastai's clothes; biases and BatchNorm get no weight decay, and so no LARS adaptation either"
    opt,kwargs = OPTIMIZERS[name]
    wd = kwargs['weight_decay'] if wd is None else wd
    groups = [dict(params=list(ps), weight_decay=0. if i%2 else wd) for i,ps in enumerate(groups)]
    return OptimWrapper(groups, partial(opt, lr=lr, **kwargs), convert_groups=False)

def default_optimizer(bs): 
    "LARS for the large batches it was made for, SGD below"
    return 'lars' if bs>=1024 else 'sgd'

def default_lr(
    name:str, # One of `OPTIMIZERS`
    bs:int, # Images in a batch
)->float:
    "A learning rate that suits the optimizer, in proportion to the batch"
    return dict(adamw=1.5e-3, sgd=.06, lars=.2)[name] * bs/dict(adamw=128, sgd=128, lars=256)[name]

def mixed_precision(
    device:torch.device, # Where training runs
)->list: # Callbacks
    "Autocast in the right type for the card: bfloat16 from compute capability 8.0 on, float16 with loss scaling below, nothing on a CPU"
    if device.type!='cuda': return []
    # `torch.cuda.is_bf16_supported()` also says yes where bfloat16 is only emulated, on a T4 for one
    return [MixedPrecision(amp_mode=AMPMode.BF16 if torch.cuda.get_device_capability(device)[0]>=8 else AMPMode.FP16)]

def byol_learner(
    dls:DataLoaders, # Clean batches, as from `byol_dls`
    arch:str|nn.Module='resnet18', # Name for `create_encoder`, or a module [B,3,H,W] -> [B,n_features] with `.n_features`
    n_hidden:int=1024, # Width of the hidden layer of projector and predictor (paper: 4096)
    n_proj:int=256, # Length of a projection
    policies:tuple|None=None, # The two `ViewPolicy`; by default those of the source of `dls`
    tau:float|None=None, # Decay of the target at the first step; by default chosen by `fit_byol` from the number of epochs
    schedule:str|Callable='cosine', # Of tau, see `EMATarget`
    opt:str|None=None, # `'adamw'`, `'sgd'` or `'lars'`; by default LARS from 1024 images a batch, SGD below
    wd:float|None=None, # Weight decay, never applied to biases and BatchNorm
    predictor_lr_mult:float=1., # Learning rate of the predictor over that of the rest
    small:bool|None=None, # 3x3 stem, see `create_encoder`; by default for ResNets at up to 64 pixels
    metrics:list|None=None, # By default `FeatureStd` and `EffectiveRank`
    cbs:list|Callback|None=None, # More callbacks
    guard:bool=True, # Stop a collapsed fit with a `CollapseGuard`
    amp:bool=True, # Mixed precision on a GPU
    **kwargs
)->Learner:
    "A `Learner` in which the views make the inputs, the target network makes the labels, and the rest is plain fastai"
    size = getattr(dls, 'size', None) or dls.one_batch()[0].shape[-1]
    bs,device = dls.train.bs,torch.device(dls.device or default_device())
    opt = opt or default_optimizer(bs)
    if opt not in OPTIMIZERS: raise ValueError(f"opt={opt!r} is not known: give one of {', '.join(OPTIMIZERS)}.")
    if isinstance(arch, str): arch = create_encoder(arch, small=size<=64 and arch.startswith('resnet') if small is None else small)
    model = BYOL(check_encoder(arch, size), n_hidden, n_proj)
    view1,view2 = map(BatchView, policies or source_policies(getattr(dls, 'source', ''), size))
    cbs = [TwoViews(view1, view2), EMATarget(.996 if tau is None else tau, schedule), *mixed_precision(device), *([CollapseGuard()] if guard else []), *L(cbs)]
    learn = Learner(dls, model, BYOLLoss(), opt_func=partial(byol_optimizer, name=opt, wd=wd), lr=default_lr(opt, bs), splitter=byol_splitter,
        metrics=[FeatureStd(), EffectiveRank()] if metrics is None else metrics, cbs=cbs, **kwargs)
    learn.predictor_lr_mult,learn.auto_tau = predictor_lr_mult,tau is None
    return learn

@patch
def fit_byol(self:Learner,
    n_epoch:int, # Epochs of the whole schedule
    lr:float|None=None, # Highest learning rate; by default that of the learner
    warmup:float|None=None, # Epochs of linear warm-up; by default a tenth of the schedule, at most 10
    cbs:list|Callback|None=None, # Callbacks for this fit only
    start_epoch:int=0, # Continue an interrupted fit from this epoch
):
    "Fit with a linear warm-up and then half a cosine down to 0, without restarts (BYOL, section 3.3)"
    if n_epoch<1: raise ValueError(f"n_epoch={n_epoch}: train for at least one epoch.")
    warmup = min(10, n_epoch/10) if warmup is None else warmup
    if not 0<=warmup<=n_epoch: raise ValueError(f"warmup={warmup} must lie between 0 and the {n_epoch} epochs of the fit.")
    lr = self.lr if lr is None else lr
    if not lr>0: raise ValueError(f"lr={lr} must be positive.")
    if getattr(self, 'auto_tau', False): self.ema_target.tau = base_tau(n_epoch)
    mult = getattr(self, 'predictor_lr_mult', 1.)
    lrs = lr*np.array([1, 1, mult, mult])
    pct = warmup/n_epoch
    sched = combine_scheds([pct, 1-pct], [SchedLin(0*lrs, lrs), SchedCos(lrs, 0*lrs)])
    self.fit(n_epoch, lr=lr, cbs=[ParamScheduler({'lr': sched}), *L(cbs)], start_epoch=start_epoch)
