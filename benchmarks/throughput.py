"""Training images per second, end to end: data, two views, step. The same images, encoder, heads, batch and optimizer for everybody.

    python benchmarks/throughput.py

The ceiling is a bare PyTorch loop without views. `learner_overhead` is what a `Learner` adds to a bare loop that does the same work, views included.
On a GPU everybody computes in 16 bits, on a CPU in 32. Where the CPU has instructions for bfloat16, with a matrix unit (AMX) or without, `bfloat16` holds the same others against `byol_fastai` with `CPUMixedPrecision`.
"""
import argparse, statistics
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
import torch
from fastai.vision.all import AMPMode, DataLoaders, set_seed
from torch.utils.data import DataLoader
from torchvision import transforms as T
from byol_fastai.all import (BYOL, AlbumentationsView, BatchView, BYOLLoss, CPUMixedPrecision, TinyResNet, byol_learner, byol_optimizer,
    byol_policies, byol_splitter, create_encoder, load_source, run_config)
from byol_fastai.data import ImageArray, ImageDL, ToUnit
from byol_fastai.precision import cpu_has_bfloat16, mixed_precision
from ledger import record
from timing import command, interleaved, present, ratio, set_threads
from views import arrays, pil_images, torchvision_view

PEERS = dict(lightly='lightly', byol_pytorch='byol-pytorch')
SHAPES = run_config('shapes') # the recipe of the embedded shapes, as far as everybody can follow it
TAU, LR, MOMENTUM, DECAY, PREDICTOR = .97, SHAPES.lr, .9, SHAPES.wd, SHAPES.predictor_lr_mult

def can_bfloat16() -> bool:
    "Has this CPU instructions for bfloat16, with a matrix unit or without?"
    return cpu_has_bfloat16() or bool(getattr(torch.cpu, 'get_capabilities', dict)().get('avx512_bf16'))

@dataclass
class Task:
    "What everybody trains"
    x: torch.Tensor # uint8 [N,3,size,size]
    bs: int = 128
    arch: str = 'tiny'
    n_hidden: int = 256
    n_proj: int = 64
    device: str = 'cpu'
    width: int = 16 # of the small encoder

    @property
    def policies(self) -> tuple: return byol_policies(self.x.shape[-1])
    def encoder(self): # the same weights for everybody
        set_seed(0)
        return (TinyResNet(self.width) if self.arch == 'tiny' else create_encoder(self.arch, small=self.arch.startswith('resnet'))).to(self.device)
    def networks(self) -> BYOL: return BYOL(self.encoder(), self.n_hidden, self.n_proj).to(self.device)
    def sgd(self, module): return torch.optim.SGD([p for p in module.parameters() if p.requires_grad], LR, MOMENTUM, weight_decay=DECAY)
    def autocast(self):
        "16 bits where `byol_learner` takes them, on a GPU"
        amp = mixed_precision(torch.device(self.device))
        return torch.autocast(torch.device(self.device).type, torch.bfloat16 if amp and amp[0].amp_mode == AMPMode.BF16 else torch.float16, enabled=bool(amp))
    def clean(self):
        "One epoch's batches in [0,1], shuffled, the rest dropped"
        for i in torch.randperm(len(self.x))[:len(self.x)//self.bs*self.bs].split(self.bs): yield self.x.index_select(0, i.to(self.x.device)).float()/255

# --- ours, and bare loops

def learner(task: Task, **kwargs):
    "The `Learner` of the library, on images in memory"
    data = ImageArray(task.x, torch.zeros(len(task.x), dtype=torch.long, device=task.x.device))
    dl = partial(ImageDL, bs=task.bs, device=task.device, after_batch=ToUnit())
    dls = DataLoaders(dl(data, shuffle=True, drop_last=True), dl(data.subset([])), device=torch.device(task.device))
    dls.size = task.x.shape[-1]
    return byol_learner(dls, task.encoder(), task.n_hidden, task.n_proj, policies=task.policies, tau=TAU, opt='sgd', wd=DECAY, predictor_lr_mult=PREDICTOR, **kwargs)

def fastai_epoch(task: Task, **kwargs):
    learn = learner(task, **kwargs)
    def epoch():
        with learn.no_bar(), learn.no_logging(): learn.fit_byol(1, LR)
    return epoch

def step(task: Task, model: BYOL, opt, v1, v2):
    "One step of BYOL"
    opt.zero_grad()
    with task.autocast(): loss = BYOLLoss()(model(v1, v2), *model.targets(v1, v2))
    loss.backward()
    opt.step()
    model.update_target(TAU)

def ceiling_epoch(task: Task):
    "No views: the clean batch goes through the networks twice"
    model = task.networks()
    opt = task.sgd(model)
    def epoch():
        for x in task.clean(): step(task, model, opt, x, x)
    return epoch

def optimizer(model: BYOL):
    "That of the `Learner`: the predictor learns faster than the rest"
    opt = byol_optimizer(byol_splitter(model), LR, wd=DECAY).opt
    for group in opt.param_groups[-2:]: group['lr'] = LR*PREDICTOR
    return opt

def bare_epoch(task: Task):
    "What the `Learner` does, without a `Learner`"
    model, views = task.networks(), [BatchView(o) for o in task.policies]
    opt = optimizer(model)
    def epoch():
        for x in task.clean(): step(task, model, opt, *[o(x) for o in views])
    return epoch

# --- the others

class Pairs(torch.utils.data.Dataset):
    "Two views of each image, made one image at a time"
    def __init__(self, images: list, view1, view2): self.images, self.views = images, (view1, view2)
    def __len__(self): return len(self.images)
    def __getitem__(self, i): return [o(self.images[i]) for o in self.views]

def pair_loader(task: Task, dataset: Pairs, workers: int) -> DataLoader:
    return DataLoader(dataset, task.bs, shuffle=True, drop_last=True, num_workers=workers, persistent_workers=workers > 0)

def pairs_epoch(task: Task, images: list, view, workers: int):
    "Plain PyTorch: a data set that makes views, a `DataLoader`, and the same step"
    model = task.networks()
    opt, loader = task.sgd(model), pair_loader(task, Pairs(images, *map(view, task.policies)), workers)
    def epoch():
        for v1, v2 in loader: step(task, model, opt, v1.to(task.device), v2.to(task.device))
    return epoch

class LightlyBYOL(torch.nn.Module):
    "The networks as in lightly's documentation"
    def __init__(self, task: Task):
        from lightly.models.modules.heads import BYOLPredictionHead, BYOLProjectionHead
        from lightly.models.utils import deactivate_requires_grad
        super().__init__()
        self.backbone = task.encoder()
        self.projection_head = BYOLProjectionHead(self.backbone.n_features, task.n_hidden, task.n_proj)
        self.prediction_head = BYOLPredictionHead(task.n_proj, task.n_hidden, task.n_proj)
        self.backbone_momentum, self.projection_head_momentum = deepcopy(self.backbone), deepcopy(self.projection_head)
        deactivate_requires_grad(self.backbone_momentum)
        deactivate_requires_grad(self.projection_head_momentum)
    def forward(self, x): return self.prediction_head(self.projection_head(self.backbone(x).flatten(start_dim=1)))
    def forward_momentum(self, x): return self.projection_head_momentum(self.backbone_momentum(x).flatten(start_dim=1)).detach()

def lightly_epoch(task: Task, workers: int):
    "The loop of lightly's documentation, with its own views (without blur), heads, loss and momentum update"
    from lightly.loss import NegativeCosineSimilarity
    from lightly.models.utils import update_momentum
    from lightly.transforms.byol_transform import BYOLView1Transform, BYOLView2Transform
    size = task.x.shape[-1]
    views = BYOLView1Transform(size, gaussian_blur=0.), BYOLView2Transform(size, gaussian_blur=0., solarization_prob=.2)
    model, criterion = LightlyBYOL(task).to(task.device), NegativeCosineSimilarity()
    opt, loader = task.sgd(model), pair_loader(task, Pairs(pil_images(task.x), *views), workers)
    def epoch():
        for x0, x1 in loader:
            update_momentum(model.backbone, model.backbone_momentum, m=TAU)
            update_momentum(model.projection_head, model.projection_head_momentum, m=TAU)
            x0, x1 = x0.to(task.device), x1.to(task.device)
            with task.autocast():
                p0, z0, p1, z1 = model(x0), model.forward_momentum(x0), model(x1), model.forward_momentum(x1)
                loss = .5*(criterion(p0, z1)+criterion(p1, z0))
            loss.backward()
            opt.step()
            opt.zero_grad()
    return epoch

def lucidrains_epoch(task: Task):
    "The loop of byol-pytorch's README; its views (without blur) draw one set of parameters for the whole batch, and both views share a forward pass"
    import byol_pytorch
    size, (policy, _) = task.x.shape[-1], task.policies
    augment = torch.nn.Sequential(T.RandomApply([T.ColorJitter(.8, .8, .8, .2)], .3), T.RandomGrayscale(.2), T.RandomHorizontalFlip(),
        T.RandomResizedCrop((size, size)), T.Normalize(policy.mean, policy.std))
    learn = byol_pytorch.BYOL(task.encoder(), size, hidden_layer=-1, projection_size=task.n_proj, projection_hidden_size=task.n_hidden, augment_fn=augment,
        moving_average_decay=TAU, use_simplicial_embeddings=False)
    opt = task.sgd(learn)
    def epoch():
        for x in task.clean():
            with task.autocast(): loss = learn(x)
            opt.zero_grad()
            loss.backward()
            opt.step()
            learn.update_moving_average()
    return epoch

# --- measuring

def contestants(task: Task, workers: list, peers: dict) -> dict:
    "A function for each that trains one epoch; those with a `DataLoader` once for each number of workers, as `name/workers`"
    res = dict(byol_fastai=fastai_epoch(task), ceiling=ceiling_epoch(task))
    if task.device == 'cpu' and can_bfloat16(): res['byol_fastai bfloat16'] = fastai_epoch(task, cbs=CPUMixedPrecision())
    if 'byol_pytorch' in peers: res['lucidrains'] = lucidrains_epoch(task)
    for w in workers:
        res[f'albumentations/{w}'] = pairs_epoch(task, arrays(task.x), AlbumentationsView, w)
        res[f'torchvision_v2/{w}'] = pairs_epoch(task, pil_images(task.x), partial(torchvision_view, pil=True), w)
        if 'lightly' in peers: res[f'lightly/{w}'] = lightly_epoch(task, w)
    return res

def best_workers(times: dict) -> tuple:
    "Of each contestant the times with the number of workers that suits it best, and that number"
    best = {}
    for key in sorted(times, key=lambda o: statistics.median(times[o])): best.setdefault(key.split('/')[0], key)
    return {name: times[key] for name, key in best.items()}, {name: int(key.split('/')[1]) for name, key in best.items() if '/' in key}

def overhead(task: Task, repeats: int) -> float:
    "The share that the `Learner` adds to a bare loop doing the same work"
    return round(ratio(interleaved(dict(learner=fastai_epoch(task), bare=bare_epoch(task)), repeats, task.device), 'learner', 'bare')-1, 4)

def speeds(task: Task, repeats: int, workers: list, peers: dict) -> tuple:
    "Images per second and ratios, and the number of workers that each was fastest with"
    times, chosen = best_workers(interleaved(contestants(task, workers, peers), repeats, task.device))
    half, images = times.pop('byol_fastai bfloat16', None), len(task.x)//task.bs*task.bs
    return compared(times, images) | (dict(bfloat16=compared(times | dict(byol_fastai=half), images)) if half else {}), chosen

def compared(times: dict, images: int) -> dict:
    "Images per second of everybody, and how many times as long as `byol_fastai` the others take"
    return dict(images_per_second={name: round(images/statistics.median(o), 1) for name, o in times.items()},
        ratio={o: ratio(times, o, 'byol_fastai') for o in times if o != 'byol_fastai'})

def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--data', default='shapes', help='a source of byol_dls')
    parser.add_argument('--n', type=int, default=1536, help='images in an epoch')
    parser.add_argument('--overhead-n', type=int, default=4096, help='images in an epoch to measure the overhead with: what a fit needs to begin and end shall not dominate')
    parser.add_argument('--bs', type=int, default=128)
    parser.add_argument('--size', type=int, default=32)
    parser.add_argument('--widths', type=int, nargs='+', default=[16, 32], help='of the small encoder; the narrower it is, the more the views weigh')
    parser.add_argument('--threads', type=int, default=2, help='of torch')
    parser.add_argument('--workers', type=int, nargs='+', default=[0, 2], help='of the data loaders; each contestant is measured with the best of them')
    parser.add_argument('--repeats', type=int, default=5)
    a = parser.parse_args(argv)
    set_threads(a.threads)
    peers, x, figures, workers = present(PEERS), load_source(a.data, a.size, max(a.n, a.overhead_n)).train.x, {}, {}
    for w in a.widths:
        task = Task(x[:a.n], a.bs, width=w)
        figures[w], workers[w] = speeds(task, a.repeats, a.workers, peers)
        figures[w]['learner_overhead'] = overhead(Task(x[:a.overhead_n], a.bs, width=w), a.repeats)
    figures = figures.pop(a.widths[0]) | {f'width_{w}': o for w, o in figures.items()}
    path = record('throughput', 'Training images per second, end to end; how many times as fast as each of the others; and what the Learner adds to a bare loop',
        figures, command(), peers=peers, **vars(a) | dict(workers=workers), arch=task.arch, n_hidden=task.n_hidden, n_proj=task.n_proj, opt='sgd')
    print(path.read_text())

if __name__ == '__main__': main()
