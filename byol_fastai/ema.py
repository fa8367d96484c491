from fastai.vision.all import *
from fastai.callback.training import GradientAccumulation

def tau_constant(
    k:int, # Optimizer step; not looked at
    tau:float, # The decay to keep
)->float: # `tau`
    "The same `tau` at every step"
    return tau

def tau_linear(
    k:int, # Optimizer step, from 0
    n:int, # Step at which `end` is reached
    start:float, # Decay at step 0
    end:float, # Decay from step `n` on
)->float: # Decay at step `k`
    "From `start` to `end` in `n` equal steps"
    return start + (end-start)*min(k/n, 1.) if n>0 else end

def tau_cosine(
    k:int, # Optimizer step, from 0
    K:int, # Optimizer steps in the whole fit
    base:float, # Decay at step 0
)->float: # Decay at step `k`, 1 at step `K`
    "Half a cosine from `base` to 1 (BYOL, section 3.3)"
    return 1 - (1-base)*(math.cos(math.pi*k/K)+1)/2

def base_tau(
    n_epoch:int, # Epochs of the whole fit
)->float: # Decay for the first step
    "The authors' presets: the shorter the fit, the faster the target must follow (0.97 for 40 epochs, 0.99 for 300, 0.996 for 1000)"
    return .97 if n_epoch<=40 else .99 if n_epoch<=300 else .996

def optimizer_steps(
    learn:Learner, # Learner inside a `fit`
)->int: # Optimizer steps of the whole fit, all epochs together
    "How often this fit will step the optimizer: once a batch, or once per accumulated batch"
    n_batches = learn.n_epoch*len(learn.dls.train)
    acc = learn._grab_cbs(GradientAccumulation)
    return max(n_batches//math.ceil(acc[0].n_acc/learn.dls.train.bs) if acc else n_batches, 1)

class EMATarget(Callback):
    "Make the targets of every batch with the target network, and move that network towards the online one after every optimizer step"
    order = MixedPrecision.order+2 # inside the autocast that `MixedPrecision` opens
    _schedules = dict(cosine=lambda k,K,tau: tau_cosine(k, K, tau), linear=lambda k,K,tau: tau_linear(k, K, tau, 1.), constant=lambda k,K,tau: tau_constant(k, tau))

    def __init__(self,
        tau:float=.996, # Decay of the first step, in [0, 1]
        schedule:str|Callable='cosine', # `'cosine'`, `'linear'` (both end at 1), `'constant'`, or a function `(k, K) -> tau`
    ):
        if not 0<=tau<=1: raise ValueError(f"tau={tau} must lie in [0, 1]: 0 copies the online network at every step, 1 never moves the target.")
        if not callable(schedule) and schedule not in self._schedules:
            raise ValueError(f"schedule={schedule!r} is not known: give one of {', '.join(self._schedules)}, or a function of the step k and the number of steps K.")
        store_attr()

    def tau_at(self,
        k:int, # Optimizer step, from 0
        K:int, # Optimizer steps in the whole fit
    )->float: # Decay of that step
        "The decay of step `k` of `K`"
        return self.schedule(k, K) if callable(self.schedule) else self._schedules[self.schedule](k, K, self.tau)

    def before_fit(self): self.k,self.K,self.taus = 0,optimizer_steps(self.learn),[]
    def before_batch(self): self.learn.yb = self.model.targets(*self.xb)
    def before_step(self): self.stepped = True
    def after_cancel_step(self): self.stepped = False # a skipped fp16 step: fastai calls `after_step` all the same
    def after_step(self):
        if not self.stepped: return
        self.taus.append(self.tau_at(self.k, self.K))
        self.model.update_target(self.taus[-1])
        self.k += 1
