"""All that wants a GPU, in one call: is it right there, how fast is it, and how good does CIFAR-10 with a ResNet-18 get in a given time.

    python benchmarks/gpu.py --data cifar10.npz --minutes 10 --out runs/gpu
    python benchmarks/gpu.py --out runs/gpu --resume

The second line goes on after an interruption. `cifar10.npz` holds `x_train` uint8 [50000,32,32,3], `y_train` [50000], `x_test` and `y_test`.
The entries `gpu.json` and `cifar10_gpu.json` in the folder `--out` are written anew after every stage; copied to `byol_fastai/results` they are part of the ledger.

The machine may be bare (Python, torch and torchvision, nothing else) and closed to the network. On another one, with the same system and Python:

    pip wheel . -w wheels && rm -f wheels/{torch,torchvision,triton,nvidia,cuda}[-_]*.whl
    tar cf - wheels cifar10.npz | split -b 50M - part.

Carry the parts and this repository over, and there:

    cat part.* | tar xf - && pip install --no-index --no-deps wheels/*.whl
"""
import argparse, json, sys, time
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
import numpy as np, torch
import torch.nn.functional as F
from fastai.vision.all import DataLoaders, Module, ShortEpochCallback, set_seed
from byol_fastai import course
from byol_fastai.all import (BYOL, BatchView, BYOLLoss, Checkpoint, CollapseGuard, TwoViews, accuracy_of, byol_learner, byol_loss, byol_policies,
    create_encoder, embed, knn_predict, plain_dl, save_encoder)
from byol_fastai.augment import (adjust_brightness, adjust_contrast, adjust_hue, adjust_saturation, crop_resize, draw_boxes, draw_parameters,
    gaussian_blur, make_views, solarize, to_gray)
from byol_fastai.data import ImageArray, ImageDL, ToUnit
from byol_fastai.runs import write_atomically
from ledger import record
import step_profile, switches, throughput, views
from timing import command, present, seconds

# --- the recipe

@dataclass
class Recipe:
    "How CIFAR-10 is pretrained"
    data: str = 'cifar10.npz'
    n: int | None = None # at most so many images of each split
    minutes: float = 10. # of training
    epochs: int | None = None # by default as many as fit into the minutes
    arch: str = 'resnet18'
    n_hidden: int = 2048
    n_proj: int = 256
    bs: int = 512
    opt: str | None = None # by default that of byol_learner
    lr: float | None = None # likewise
    wd: float | None = None # likewise
    tau: float | None = None # likewise
    scale: float = .2 # smallest share of the area that a crop covers
    views: int = 2 # of each image; with more, a view's target is the mean of all the others'
    device: str = 'cuda'
    seed: int = 0

@dataclass
class Images:
    "The two splits, uint8 [N,3,32,32] and int64 [N], on the device"
    train: ImageArray
    test: ImageArray

def load(r: Recipe) -> Images:
    with np.load(r.data) as z:
        x = {k: torch.from_numpy(z[f'x_{k}'][:r.n]).permute(0, 3, 1, 2).contiguous() for k in ('train', 'test')}
        y = {k: torch.from_numpy(z[f'y_{k}'][:r.n]).long() for k in ('train', 'test')}
    return Images(*[ImageArray(x[k], y[k]).to(r.device) for k in ('train', 'test')])

# --- is it right?

def error(ours: torch.Tensor, truth: torch.Tensor) -> float:
    "Largest difference, as a share of the largest value"
    return float(f'{((ours.detach().cpu().double()-truth).abs().max()/truth.abs().max()).item():.2e}')

def both(func, *args, device) -> float:
    "The error of `func` on the device in float32, with the result in float64 on the CPU for the truth"
    exact = [o.double() if o.is_floating_point() else o for o in args]
    return error(func(*[o.to(device) for o in args]), func(*exact))

def check_loss(device) -> dict:
    p, z = torch.randn(256, 64), torch.randn(256, 64)
    def gradient(p, z):
        p = p.clone().requires_grad_()
        return torch.autograd.grad(byol_loss(p, z), p)[0]
    return dict(loss=both(byol_loss, p, z, device=device), loss_gradient=both(gradient, p, z, device=device))

def check_views(device) -> dict:
    "Every operation, and whole views from the same drawn parameters"
    x, factor, shift, sigma = torch.rand(64, 3, 32, 32), .6+.8*torch.rand(64), .2*torch.rand(64)-.1, .1+1.9*torch.rand(64)
    policy = byol_policies(32, blur_p=.5)[1]
    boxes, flip = draw_boxes(policy, 64, 32, 32), torch.rand(64) < .5
    ops = dict(gray=(to_gray, x), brightness=(adjust_brightness, x, factor), contrast=(adjust_contrast, x, factor), saturation=(adjust_saturation, x, factor),
        hue=(adjust_hue, x, shift), solarize=(solarize, x), crop=(lambda x, b, f: crop_resize(x, *b, 32, f), x, boxes, flip),
        blur=(lambda x, s: gaussian_blur(x, s, policy.blur_taps), x, sigma))
    drawn = draw_parameters(policy, 64, 32, 32)
    whole = lambda x, *d: make_views(policy, x, dict(zip(drawn, d)), 1)
    return {k: both(*o, device=device) for k, o in ops.items()} | dict(view=both(whole, x, *drawn.values(), device=device))

def check_step(device) -> dict:
    "Loss and gradients of a whole step, and the moved target"
    set_seed(0)
    model, v1, v2 = BYOL(create_encoder('tiny'), 64, 32), torch.randn(64, 3, 32, 32), torch.randn(64, 3, 32, 32)
    state = {k: o.clone() for k, o in model.state_dict().items()}
    def run(device, dtype):
        model.load_state_dict(state)
        m, v = model.to(device, dtype), [o.to(device, dtype) for o in (v1, v2)]
        m.zero_grad()
        loss = BYOLLoss()(m(*v), *m.targets(*v))
        loss.backward()
        grads = torch.cat([p.grad.flatten() for p in m.parameters() if p.grad is not None])
        with torch.no_grad(): [p.add_(.1) for p in m.encoder.parameters()]
        m.update_target(.9)
        return [o.detach().cpu().double() for o in (loss, grads, torch.cat([p.flatten() for p in m.target.parameters()]))]
    return dict(zip(('step_loss', 'step_gradient', 'ema'), map(error, run(device, torch.float32), run('cpu', torch.float64))))

def checks(device) -> dict:
    "Errors against the CPU in float64, without TF32"
    set_seed(0)
    allowed, torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.allow_tf32, False
    try: return check_loss(device) | check_views(device) | check_step(device)
    finally: torch.backends.cudnn.allow_tf32 = allowed

TOLERANCE = dict(step_gradient=2e-2) # float32 puts some numbers on the other side of a ReLU's kink
OTHERS = 1e-4

def wrong(errors: dict) -> dict: return {k: o for k, o in errors.items() if not o < TOLERANCE.get(k, OTHERS)}

# --- more than two views

class ManyViews(BYOL):
    "BYOL for any number of views: the target of each is the mean of what the target network says of the others, as in FastSiam"
    def forward(self, *views):
        z = [self.projector(self.encoder(v)) for v in views]
        self.projections = tuple(o.detach() for o in z)
        return tuple(map(self.predictor, z))
    @torch.no_grad()
    def targets(self, *views):
        z = [F.normalize(self.target(v).float(), dim=1) for v in views]
        return tuple((sum(z)-o)/(len(z)-1) for o in z)

class ManyViewsLoss(Module):
    "With two views it is `BYOLLoss`"
    def forward(self, preds, *z): return sum(map(byol_loss, preds, z))*2/len(z)

class DrawViews(TwoViews):
    "Half of the views by the first policy, half by the second"
    def __init__(self, n: int, view1, view2):
        super().__init__(view1, view2)
        self.n = n
    def before_batch(self):
        x = self.xb[0]
        self.learn.xb = tuple((self.view1, self.view2)[i % 2](x) for i in range(self.n))

# --- training

class Sometimes(Checkpoint):
    "A `Checkpoint` every 30 seconds, and one at the end; each tells how far the training is"
    every, written = 30, 0.
    def __init__(self, path, resume, tell):
        super().__init__(path, resume)
        self.tell = tell
    def after_epoch(self):
        now = time.perf_counter()
        if now-self.written < self.every and self.epoch+1 < self.n_epoch: return
        super().after_epoch()
        self.written, done, row = now, self.epoch+1, self.history[-1]
        self.tell(dict(epochs=done, of=self.n_epoch, seconds=round(now-self.began, 1), seconds_per_epoch=round((now-self.began)/done, 3), loss=row['train_loss']))

def build(r: Recipe, images: Images):
    "The learner of a recipe"
    set_seed(r.seed)
    dl = lambda data, **kwargs: ImageDL(data, min(r.bs, len(data) or r.bs), device=r.device, after_batch=ToUnit(), **kwargs)
    dls = DataLoaders(dl(images.train, shuffle=True, drop_last=True), dl(images.train.subset([])), device=torch.device(r.device))
    dls.size = images.train.x.shape[-1]
    dls.train.rng.seed(r.seed)
    policies = byol_policies(dls.size, scale=(r.scale, 1.))
    learn = byol_learner(dls, r.arch, r.n_hidden, r.n_proj, policies, tau=r.tau, opt=r.opt, wd=r.wd, metrics=[], guard=False, cbs=CollapseGuard(every=50))
    if r.views > 2:
        learn.model, learn.loss_func = ManyViews(learn.model.encoder, r.n_hidden, r.n_proj).to(r.device), ManyViewsLoss()
        learn.remove_cb(TwoViews)
        learn.add_cb(DrawViews(r.views, *map(BatchView, policies)))
    return learn

def seconds_per_epoch(learn, r: Recipe, batches: int = 40) -> float:
    "From a few batches, after a few that warm up; afterwards the learner is as it was"
    state = {k: o.clone() for k, o in learn.model.state_dict().items()}
    def some(): learn.fit_byol(1, r.lr, cbs=ShortEpochCallback(min(1, batches/len(learn.dls.train))))
    some()
    took = seconds(some, r.device)/max(learn.train_iter, 1)*len(learn.dls.train)
    learn.model.load_state_dict(state)
    learn.opt = None
    learn.dls.train.rng.seed(r.seed)
    set_seed(r.seed)
    return took

def train(r: Recipe, images: Images, out: Path, tell):
    "The learner at the end of its schedule; where `out` has a checkpoint it goes on from there"
    start, learn, path = time.perf_counter(), build(r, images), out/'checkpoint'
    with learn.no_bar(), learn.no_logging():
        if r.epochs is None:
            took = seconds_per_epoch(learn, r)
            r.epochs = max(1, int((60*r.minutes-(time.perf_counter()-start))/took))
            print(f'{took:.2f} seconds an epoch: {r.epochs} epochs', flush=True)
        write_json(out/'recipe.json', asdict(r))
        saved = Checkpoint.read(path) if path.exists() else None
        learn.fit_byol(r.epochs, r.lr, cbs=Sometimes(path, saved, tell), start_epoch=saved['epoch'] if saved else 0)
    return learn

# --- how good?

def logistic_regression(train: tuple, test: tuple, steps: int = 1000) -> float:
    "As `linear_probe`, on the device where the features lie"
    (x, y), (xt, yt) = train, test
    mean, std = x.mean(0), x.std(0).clamp(min=1e-6)
    x, xt = (x-mean)/std, (xt-mean)/std
    w, b = (torch.zeros(*o, device=x.device, requires_grad=True) for o in ((x.shape[1], int(y.max())+1), (int(y.max())+1,)))
    opt = torch.optim.LBFGS([w, b], max_iter=steps, history_size=10, line_search_fn='strong_wolfe', tolerance_change=1e-8, tolerance_grad=1e-5)
    def closure():
        opt.zero_grad()
        loss = F.cross_entropy(x@w+b, y)+w.square().sum()/(2*len(x))
        loss.backward()
        return loss
    opt.step(closure)
    return accuracy_of((xt@w+b).argmax(1), yt)

def probes(encoder, images: Images, device) -> dict:
    "kNN(200, 0.1) and a linear classifier on frozen features of images that were not augmented"
    train, test = ([o.to(device) for o in embed(encoder.to(device), plain_dl(data, data.x.shape[-1], 512, device))] for data in (images.train, images.test))
    return dict(knn=round(accuracy_of(knn_predict(*train, test[0]), test[1]), 4), linear=round(logistic_regression(train, test), 4))

# --- how fast?

def timings(r: Recipe, images: Images, repeats: int, workers: list) -> dict:
    "The other benchmarks, on the device"
    task = throughput.Task(images.train.x, r.bs, r.arch, r.n_hidden, r.n_proj, r.device)
    few = throughput.Task(images.train.x[:max(8*r.bs, 512)], r.bs, r.arch, r.n_hidden, r.n_proj, r.device)
    speeds, chosen = throughput.speeds(few, repeats, workers, present(throughput.PEERS))
    return dict(views=views.measure(byol_policies(32)[0], images.train.x[:512], repeats, present(dict(kornia='kornia'))),
        throughput=speeds | dict(workers=chosen, learner_overhead=throughput.overhead(task, repeats)), step_profile=step_profile.measure(task, 2),
        switches=switches.measure(few, repeats, compiled=torch.device(r.device).type == 'cuda'))

def gpu_memory_gb(device) -> float: return round(torch.cuda.max_memory_allocated()/2**30, 2) if torch.device(device).type == 'cuda' else 0.

# --- the report

def write_json(path: Path, content): write_atomically(path, lambda f: f.write_text(json.dumps(content, indent=2)+'\n'))

class Report:
    "The entries of the ledger, in a folder, written anew after every stage"
    def __init__(self, out: Path, commit: str | None, recipe: Recipe):
        self.out, self.commit, self.recipe = out, commit, recipe
        self.figures = json.loads((out/'gpu.json').read_text())['figures'] if (out/'gpu.json').exists() else {}

    def write(self, name: str, what: str, figures: dict):
        "The entry that `record` makes, but into the folder, and never half of one"
        ledger, course.RESULTS = course.RESULTS, self.out/'aside'
        try: path = record(name, what, figures, command(), **asdict(self.recipe))
        finally: course.RESULTS = ledger
        entry = json.loads(path.read_text())
        write_json(self.out/f'{name}.json', entry | dict(commit=entry['commit'] or self.commit))

    def keep(self, stage: str, figures):
        self.figures[stage] = figures
        self.write('gpu', 'On a GPU: errors against float64 on the CPU, the other benchmarks, and pretraining on CIFAR-10', self.figures)
        print(stage, json.dumps(figures), flush=True)

def parsed(argv) -> tuple:
    "The recipe, and the other options"
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for f in fields(Recipe): parser.add_argument(f"--{f.name.replace('_', '-')}", type=f.type if isinstance(f.type, type) else f.type.__args__[0])
    parser.add_argument('--out', type=Path, required=True, help='folder for everything that is written')
    parser.add_argument('--resume', action='store_true', help='go on with the recipe in --out; what is done is not done again')
    parser.add_argument('--train-only', action='store_true', help='no checks and no timings')
    parser.add_argument('--repeats', type=int, default=5, help='of each timing')
    parser.add_argument('--workers', type=int, nargs='+', default=[0, 8], help="of the others' data loaders, in the timings")
    parser.add_argument('--commit', help='where the code comes from, on a machine without its git repository')
    a = parser.parse_args(argv)
    if not a.resume and (a.out/'gpu.json').exists(): parser.error(f'{a.out} already holds results: go on with --resume, or give another folder.')
    if a.resume and (a.out/'recipe.json').exists(): return Recipe(**json.loads((a.out/'recipe.json').read_text())), a
    return Recipe(**{f.name: getattr(a, f.name) for f in fields(Recipe) if getattr(a, f.name) is not None}), a

def main(argv=None):
    recipe, a = parsed(argv)
    a.out.mkdir(parents=True, exist_ok=True)
    write_json(a.out/'recipe.json', asdict(recipe))
    report, device = Report(a.out, a.commit, recipe), recipe.device
    if not a.train_only and 'checks' not in report.figures:
        report.keep('checks', checks(device))
        bad = wrong(report.figures['checks'])
        if bad: sys.exit(f'On {device} these results differ too much from those of the CPU in float64: {bad}. No figure from this machine can be trusted.')
    images = load(recipe)
    if not a.train_only and 'timings' not in report.figures: report.keep('timings', timings(recipe, images, a.repeats, a.workers))
    if torch.device(device).type == 'cuda': torch.cuda.reset_peak_memory_stats()
    learn = train(recipe, images, a.out, partial(report.keep, 'training'))
    report.keep('training', report.figures['training'] | dict(peak_memory_gb=gpu_memory_gb(device)))
    save_encoder(a.out/'encoder', learn.model.encoder, recipe.arch, images.train.x.shape[-1], trained=asdict(recipe))
    figures = dict(random=probes(build(recipe, images).model.encoder, images, device), byol=probes(learn.model.encoder, images, device))
    report.keep('probes', figures)
    report.write('cifar10_gpu', 'CIFAR-10 pretrained on a GPU: kNN(200, 0.1) and a linear classifier on the test images, after the last epoch',
        figures | report.figures['training'])

if __name__ == '__main__': main()
