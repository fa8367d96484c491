from fastai.vision.all import *

class CollapseError(RuntimeError):
    "Raised by `CollapseGuard(strict=True)` when training has collapsed"

def _embeddings(z):
    if z.ndim!=2 or len(z)<2:
        raise ValueError(f"Expected embeddings of shape [N, d] with at least 2 rows, got {list(z.shape)}: spread is measured between images.")
    z = z.detach().as_subclass(Tensor)
    return z if z.dtype==torch.float64 else z.float()

def feature_variance(
    z:Tensor, # Embeddings [N, d], N at least 2
)->Tensor: # Scalar, in the squared units of `z`
    "Mean over the dimensions of the unbiased variance over the images"
    return _embeddings(z).var(0).mean()

def feature_std(
    z:Tensor, # Embeddings [N, d], N at least 2
)->Tensor: # Scalar: 0 collapsed, about 1 spread over the whole sphere
    "Mean over the dimensions of the standard deviation of l2-normalised rows, times sqrt(d) (SimSiam, section 4.1)"
    z = F.normalize(_embeddings(z), dim=1)
    return z.std(0).mean()*z.shape[1]**.5

def eigenspectrum(
    z:Tensor, # Embeddings [N, d], N at least 2
)->Tensor: # Eigenvalues [d], descending
    "Eigenvalues of the covariance of `z`"
    return torch.linalg.eigvalsh(torch.cov(_embeddings(z).T).atleast_2d()).flip(0).clamp(min=0)

def condition_number(
    z:Tensor, # Embeddings [N, d]
)->float: # Largest over smallest eigenvalue of the covariance; infinite where N <= d
    "Ratio of the largest to the smallest eigenvalue of the covariance"
    n,d = z.shape
    if n<=d:
        warnings.warn(f"condition_number: {n} embeddings of {d} dimensions span at most {n-1} of them, so the smallest eigenvalue is 0 whatever the network does. Use more than {d} images.")
        return math.inf
    e = eigenspectrum(z)
    return (e[0]/e[-1]).item() if e[-1]>0 else math.inf

def effective_rank(
    z:Tensor, # Embeddings [N, d], N at least 2
)->Tensor: # Scalar between 1 and min(N, d)
    "Exponential of the entropy of the singular values of `z` (not centred), normalised to sum 1 (RankMe, arXiv 2210.02885)"
    s = torch.linalg.svdvals(_embeddings(z))
    return torch.special.entr(s/s.sum()).sum().exp() if s.sum()>0 else s.new_tensor(1.)

class EmbeddingMetric(Metric):
    "A function of all the online projections of a validation pass, as a column of the progress table"
    def __init__(self, func:Callable, max_rows:int=4096): store_attr()
    def reset(self): self.rows,self.n = [],0
    def accumulate(self, learn):
        z = learn.model.projections[0]
        if self.n<self.max_rows: self.rows.append(z); self.n += len(z)
    @property
    def value(self): return self.func(torch.cat(self.rows)[:self.max_rows]).item() if self.n>1 else None
    @property
    def name(self): return self.func.__name__

class FeatureVariance(EmbeddingMetric):
    "`feature_variance` of the online projections"
    def __init__(self, max_rows:int=4096): super().__init__(feature_variance, max_rows)
class FeatureStd(EmbeddingMetric):
    "`feature_std` of the online projections: about 1 healthy, 0 collapsed"
    def __init__(self, max_rows:int=4096): super().__init__(feature_std, max_rows)
class EffectiveRank(EmbeddingMetric):
    "`effective_rank` of the online projections"
    def __init__(self, max_rows:int=4096): super().__init__(effective_rank, max_rows)

class CollapseGuard(Callback):
    "Stop a fit whose embeddings have collapsed, and say what was seen and why it may have happened"
    order = 65 # after the progress bar, so that it is closed before an error is raised
    def __init__(self,
        min_std:float=.1, # A `feature_std` below this counts as collapsed
        patience:int=3, # Collapsed looks in a row before the fit is stopped
        every:int=10, # Training steps between two looks; a look waits for the device
        grace:int=20, # Steps before the first look: a fresh network is not spread out yet
        strict:bool=False, # Raise `CollapseError` instead of only stopping the fit
    ): store_attr()

    def before_fit(self): self.seen,self.stds,self.low = None,[],0

    def after_batch(self):
        step = self.train_iter
        if not self.training or step<self.grace or step%self.every: return
        std,loss = feature_std(self.model.projections[0]).item(),self.loss.item()
        self.stds.append((step, std))
        self.low = self.low+1 if std<self.min_std else 0
        if not math.isfinite(loss): self.seen = f"the loss is {loss}"
        elif self.low>=self.patience: self.seen = f"feature_std is {std:.3f} (healthy: near 1), so all images have nearly the same embedding, while the loss of {loss:.3f} looks fine"
        if self.seen is None: return
        self.message = f"Collapse at step {step}: {self.seen}. Likely cause: {self.cause()}."
        print(self.message)
        raise CancelFitException()

    def cause(self)->str: # A sentence without its full stop
        "The likeliest reason for what was seen, from how the learner is put together"
        model,ema = self.model,getattr(self.learn, 'ema_target', None)
        if not math.isfinite(self.loss.item()): return "the learning rate is too high, or an input is not a finite number; lower `lr` or lengthen the warm-up"
        if any(z.requires_grad for z in self.yb): return "gradients flow into the targets; take the targets under `torch.no_grad()`"
        if not any(True for _ in model.predictor.parameters()): return "there is no predictor; put an `MLPHead` between projection and loss"
        if ema is not None and ema.taus and ema.taus[-1]==0: return "tau is 0, so the target is the online network itself; raise `tau` (0.97 for a short fit), or set `predictor_lr_mult=10`"
        return "the learning rate is too high for this batch size, or the target follows too fast; halve `lr` or raise `tau`"

    def after_fit(self):
        if self.strict and self.seen is not None: raise CollapseError(self.message)
