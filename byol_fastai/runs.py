from contextlib import nullcontext
from copy import deepcopy
import json, os, random, resource, sys
from dataclasses import asdict, dataclass
from safetensors.torch import save_file, load_file
from fastai.vision.all import *
from byol_fastai.course import versions, device_name
from byol_fastai.data import *
from byol_fastai.augment import *
from byol_fastai.model import *
from byol_fastai.learner import *
from byol_fastai.evaluate import *
from byol_fastai.ema import *

def write_atomically(
    path:str|Path, # File to write or replace
    write:Callable, # Called with the path of a file beside it
):
    "Write a file aside and rename it: whoever looks finds the old one or the new one, never half of one"
    path = Path(path)
    aside = path.with_name(path.name+'.part')
    write(aside)
    os.replace(aside, path)

def _stem(path):
    path = Path(path)
    return path.with_suffix('') if path.suffix in ('.safetensors', '.json') else path

def save_encoder(
    path:str|Path, # Without suffix: `path.safetensors` and `path.json` are written
    encoder:nn.Module, # As from `create_encoder`
    arch:str, # Its name for `create_encoder`
    size:int, # Side of the images it was trained on
    mean:tuple=MEAN, # Normalisation of its input
    std:tuple=STD,
    **info # How it was trained, and whatever else shall be known of it; written as JSON
)->Path: # `path.safetensors`
    "Weights as safetensors, and beside them everything needed to use them"
    path = _stem(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {k:v.detach().cpu().contiguous() for k,v in encoder.state_dict().items()}
    card = dict(arch=arch, small=isinstance(getattr(encoder, 'maxpool', None), nn.Identity), size=size, mean=list(mean), std=list(std),
        n_features=encoder.n_features, versions=versions(), **info)
    weights = path.with_name(path.name+'.safetensors')
    write_atomically(weights, lambda f: save_file(state, f))
    write_atomically(path.with_name(path.name+'.json'), lambda f: f.write_text(json.dumps(card, indent=2)))
    return weights

def load_encoder(
    path:str|Path, # As given to `save_encoder`, or a run folder
    encoder:nn.Module|None=None, # A module to fill, for an architecture that `create_encoder` does not know
)->nn.Module: # In eval mode, with what `path.json` says in `.info`
    "An encoder saved by `save_encoder`; no pickled code is run"
    path = Path(path)
    path = _stem(path/'encoder' if path.is_dir() else path)
    weights,card = (path.with_name(path.name+o) for o in ('.safetensors', '.json'))
    for f in (weights, card):
        if not f.exists(): raise FileNotFoundError(f"There is no {f}: an encoder is two files, {weights.name} and {card.name}, side by side.")
    info = json.loads(card.read_text())
    encoder = create_encoder(info['arch'], small=info['small']) if encoder is None else encoder
    encoder.load_state_dict(load_file(weights))
    encoder.info = info
    return encoder.eval()

class Checkpoint(Callback):
    "After every epoch, write all that is needed to go on from there: networks, optimizer, schedules, random state, history"
    order = 75 # after the recorder has its row, and after fastai has skipped the epochs already done
    def __init__(self,
        path:str|Path, # File to write
        resume:dict|None=None, # What `Checkpoint.read` returned, to go on from there
    ): store_attr()

    @staticmethod
    def read(
        path:str|Path, # File written by this callback
    )->dict:
        "The last checkpoint; it may hold tensors and plain values only, never code"
        return torch.load(path, map_location='cpu', weights_only=True)

    def before_fit(self):
        self.history = []
        if self.resume is None: return
        r = self.resume
        self.model.load_state_dict(r['model'])
        self.opt.load_state_dict(r['opt'])
        self.ema_target.k,self.history = r['k'],r['history']
        if r['scaler'] and hasattr(self.learn, 'scaler'): self.learn.scaler.load_state_dict(r['scaler'])

    def before_epoch(self):
        if self.resume is None or self.epoch!=self.resume['epoch']: return
        self.recorder.smooth_loss.count,self.recorder.smooth_loss.val = self.resume['smooth_loss']
        set_random_state(self.resume['random'], self.dls.train)

    def after_epoch(self):
        if self.resume is not None and self.epoch<self.resume['epoch']: return
        row = dict(zip(self.recorder.metric_names, self.recorder.log))
        self.history.append({**plain(row), 'tau':self.ema_target.taus[-1], 'lr':plain(self.recorder.lrs[-1])})
        smooth = self.recorder.smooth_loss
        state = dict(epoch=self.epoch+1, model=self.model.state_dict(), opt=plain(self.opt.state_dict()), k=self.ema_target.k, history=self.history,
            smooth_loss=(smooth.count, smooth.val), scaler=self.learn.scaler.state_dict() if hasattr(self.learn, 'scaler') else None, random=random_state(self.dls.train))
        write_atomically(self.path, lambda f: torch.save(state, f))

def plain(o):
    "`o` with numpy's numbers turned into Python's, so that it is stored as values and not as code"
    if isinstance(o, dict): return {k:plain(v) for k,v in o.items()}
    if isinstance(o, (list, tuple)): return type(o)(plain(v) for v in o)
    return o.item() if isinstance(o, np.generic) else o

def random_state(dl)->dict:
    "Where every source of random numbers stands"
    kind,keys,*rest = np.random.get_state()
    return dict(python=random.getstate(), numpy=[kind, keys.tolist(), *rest], torch=torch.get_rng_state(), loader=dl.rng.getstate(),
        cuda=torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [])

def set_random_state(state:dict, dl):
    "Take every source of random numbers back to where `random_state` saw it"
    random.setstate(state['python'])
    np.random.set_state(state['numpy'])
    torch.set_rng_state(state['torch'])
    dl.rng.setstate(state['loader'])
    if state['cuda']: torch.cuda.set_rng_state_all(state['cuda'])

@dataclass
class RunConfig:
    "What a run trains, on what and for how long"
    data:str='shapes' # As in `byol_dls`
    arch:str='tiny' # As in `create_encoder`
    epochs:int=12 # Length of the schedule
    n:int|None=None # At most so many images
    bs:int=64 # Images in a batch
    size:int|None=None # Side of a view, pixels
    lr:float|None=None # Highest learning rate
    tau:float|None=None # Decay of the target at the first step
    opt:str|None=None # Optimizer
    n_hidden:int=1024 # Width of the heads
    n_proj:int=256 # Length of a projection
    seed:int=42 # Of weights, split, order and views

    def __post_init__(self):
        if self.epochs<1: raise ValueError(f"epochs={self.epochs}: train for at least one epoch.")
        if self.tau is not None and not 0<=self.tau<=1: raise ValueError(f"tau={self.tau} must lie in [0, 1]: 0 copies the online network at every step, 1 never moves the target.")
        if self.lr is not None and not self.lr>0: raise ValueError(f"lr={self.lr} must be positive.")

PRESETS = dict(
    shapes=dict(arch='tiny', epochs=12, bs=64, opt='adamw', lr=8e-3, n_hidden=256, n_proj=64),
    cifar10=dict(arch='resnet18', epochs=200, bs=256),
    folder=dict(arch='resnet18', epochs=200, bs=128)) # every other source

def run_config(
    data:str|Path='shapes', # As in `byol_dls`
    **kwargs # Fields of `RunConfig`; `None` keeps the preset
)->RunConfig:
    "The preset of a source, with some of its fields replaced"
    return RunConfig(str(data), **{**PRESETS.get(str(data), PRESETS['folder']), **{k:v for k,v in kwargs.items() if v is not None}})

@dataclass
class Run:
    "A run folder: what was asked for, and where everything lies"
    path:Path # The folder
    config:RunConfig # What it trains

    @classmethod
    def create(cls, path, config):
        "A new run folder; never one that already holds a run"
        path = Path(path)
        if (path/'config.json').exists(): raise FileExistsError(f"{path} already holds a run: continue it with --resume {path}, or give another folder with --out.")
        try:
            path.mkdir(parents=True, exist_ok=True)
            (path/'.writable').touch(); (path/'.writable').unlink()
        except OSError as e: raise PermissionError(f"Cannot write to the folder {path}: {e.strerror}. Give another one with --out.") from e
        return cls(path, config)

    @classmethod
    def open(cls, path):
        "An existing run folder"
        path = Path(path)
        if not (path/'config.json').exists(): raise FileNotFoundError(f"{path} holds no run: there is no config.json in it.")
        return cls(path, RunConfig(**json.loads((path/'config.json').read_text())))

    def encoder(self):
        "The encoder of the finished run"
        return load_encoder(self.path)

    def write(self, name, **content):
        "Write a JSON file of that name into the folder"
        write_atomically(self.path/f'{name}.json', lambda f: f.write_text(json.dumps(content, indent=2)))
        return content

def run_learner(
    config:RunConfig, # What to train
    cbs=None, # More callbacks
)->tuple: # The learner, and the labelled loaders of its probes (`None` without labels)
    "All that a run needs, from its configuration alone: the same seed gives the same learner"
    set_seed(config.seed)
    dls = byol_dls(config.data, config.bs, config.size, config.n, seed=config.seed)
    labelled = labelled_dls(config.data, size=config.size, n=config.n) if len(dls.classes)>1 else None
    probe = [KNNProbe(labelled.train, labelled.valid)] if labelled else []
    learn = byol_learner(dls, config.arch, n_hidden=config.n_hidden, n_proj=config.n_proj, opt=config.opt, tau=config.tau, cbs=[*probe, *L(cbs)])
    return learn,labelled

def plot_history(
    history:list, # Rows as `Checkpoint` keeps them
)->plt.Figure:
    "Loss, spread, rank and kNN over the epochs"
    h = pd.DataFrame(history)
    fig,axs = plt.subplots(1, 4, figsize=(14, 3), layout='constrained')
    axs[0].plot(h.epoch, h.train_loss, label='train'); axs[0].plot(h.epoch, h.valid_loss, label='valid'); axs[0].legend()
    titles = dict(feature_std='feature std (1 = spread, 0 = collapsed)', effective_rank='effective rank', knn='kNN accuracy')
    axs[0].set_title('loss')
    for ax,(col,title) in zip(axs[1:], titles.items()):
        if col in h: ax.plot(h.epoch, h[col])
        else: ax.text(.5, .5, 'no labels', ha='center', transform=ax.transAxes)
        ax.set_title(title); ax.set_ylim(bottom=0)
    for ax in axs: ax.set_xlabel('epoch')
    return fig

def plot_views(
    learn:Learner, # With a `TwoViews`
    n:int=8, # Images
)->plt.Figure:
    "Images and the two views that the network gets to see of them"
    x = learn.dls.valid.one_batch()[0][:n]
    rows = [x, *(denormalise(v(x)) for v in (learn.two_views.view1, learn.two_views.view2))]
    fig,axs = plt.subplots(3, len(x), figsize=(1.4*len(x), 4.4), squeeze=False, layout='constrained')
    for r,(ims,title) in enumerate(zip(rows, ('image', 'view 1', 'view 2'))):
        for ax,im in zip(axs[r], ims): ax.imshow(im.cpu().permute(1, 2, 0).clamp(0, 1)); ax.set(xticks=[], yticks=[])
        axs[r,0].set_ylabel(title)
    return fig

def nearest(
    bank:Tensor, # Features [N,d]
    queries:Tensor, # Features [Q,d]; where this is `bank` itself, no row is its own neighbour
    k:int=7, # Neighbours
)->Tensor: # Rows of `bank`, nearest first, [Q,k]
    "The nearest neighbours by cosine"
    sim = F.normalize(queries, dim=1) @ F.normalize(bank, dim=1).T
    if queries is bank: sim.fill_diagonal_(-math.inf)
    return sim.topk(min(k, len(bank)-(queries is bank)), dim=1).indices

def plot_neighbours(
    encoder:nn.Module, # [B,3,size,size] -> [B,d]
    dls:DataLoaders, # As from `byol_dls`, or `labelled_dls`
    n:int=8, # Images of the second loader to look up
    k:int=7, # Neighbours of each, among the images of the first
    max_bank:int=5000, # Look at no more than so many of those
)->plt.Figure:
    "Images that the encoder has not trained on and, right of each, what it finds most alike"
    device = next(encoder.parameters()).device
    bank,queries = (o.dataset.subset(range(min(m, len(o.dataset)))) for o,m in ((dls.train, max_bank), (dls.valid, n)))
    feats = [embed(encoder, plain_dl(o, dls.size, device=device))[0] for o in (bank, queries)]
    found = nearest(*feats, k)
    fig,axs = plt.subplots(len(queries), k+1, figsize=(1.1*(k+1), 1.1*len(queries)), squeeze=False, layout='constrained')
    for i,row in enumerate(axs):
        ims = [queries[i][0], *[bank[int(j)][0] for j in found[i]]]
        for ax,im in zip(row, ims): ax.imshow(im.cpu().permute(1, 2, 0)); ax.set(xticks=[], yticks=[])
        for side in row[0].spines.values(): side.set(color='tab:orange', linewidth=3)
    axs[0,0].set_title('query'); axs[0,1].set_title('nearest', loc='left')
    return fig

def peak_memory_gb()->float:
    "The most memory this process has held so far"
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss/(2**30 if sys.platform=='darwin' else 2**20)

def pretrain(
    run:Run, # Where to leave the results; an interrupted run goes on where it was
    cbs=None, # More callbacks
    bar:bool=True, # Draw a progress bar
)->dict: # The report, as written to `report.json`
    "Pretrain an encoder, hold it against raw pixels and an untrained encoder, and leave everything in the run folder"
    start,config,file = time.perf_counter(),run.config,run.path/'checkpoint'
    resume = Checkpoint.read(file) if file.exists() else None
    learn,labelled = run_learner(config, cbs)
    run.write('config', **asdict(config)) # only now: what failed before is not a run
    untrained = deepcopy(learn.model.encoder)
    save = Checkpoint(file, resume)
    with nullcontext() if bar else learn.no_bar(): learn.fit_byol(config.epochs, config.lr, cbs=save, start_epoch=resume['epoch'] if resume else 0)
    encoder = learn.model.encoder
    pd.DataFrame(save.history).to_csv(run.path/'history.csv', index=False)
    table = compare_features(encoder, untrained, labelled) if labelled else None
    for name,fig in dict(curves=plot_history(save.history), views=plot_views(learn), neighbours=plot_neighbours(encoder, labelled or learn.dls)).items():
        fig.savefig(run.path/f'{name}.png', dpi=100)
        plt.close(fig)
    save_encoder(run.path/'encoder', encoder, config.arch, learn.dls.size, trained=asdict(config))
    return run.write('report', config=asdict(config), complete=len(save.history)==config.epochs, epochs=len(save.history), seconds=round(time.perf_counter()-start, 1), peak_memory_gb=round(peak_memory_gb(), 2),
        probes=None if table is None else table.round(4).to_dict('index'), history=save.history, versions=versions(),
        device=device_name(), classes=len(learn.dls.classes))

def evaluate(
    run:Run, # A run with an encoder
    n:int|None=None, # At most so many images of each split; by default as many as the run trained on
    linear_epochs:int=10, # Epochs of the `LinearEval` learner
    bs:int=256,
)->dict: # The report, as written to `evaluation.json`
    "kNN and logistic regression on cached features, and the linear layer trained on augmented images of the original recipe"
    config,encoder = run.config,run.encoder()
    dls = labelled_dls(config.data, bs, config.size, n or config.n)
    set_seed(config.seed)
    untrained = create_encoder(config.arch, small=encoder.info['small'])
    encoder,untrained = (o.to(dls.device) for o in (encoder, untrained))
    table = compare_features(encoder, untrained, dls)
    learn = linear_eval_learner(dls, encoder, scale=source_policies(config.data, dls.size)[0].scale)
    with learn.no_bar(), learn.no_logging(): learn.fit_flat_cos(linear_epochs, pct_start=0.)
    return run.write('evaluation', config=asdict(config), images=[len(o.dataset) for o in dls], probes=table.round(4).to_dict('index'),
        linear_layer=round(learn.final_record[-1], 4), linear_epochs=linear_epochs, versions=versions())
