from fastai.vision.all import *
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from copy import deepcopy
from byol_fastai.data import *
from byol_fastai.augment import *

@contextmanager
def eval_mode(model:nn.Module):
    "`model` in eval mode inside the block; afterwards every module is in the mode it was in"
    was = [(m, m.training) for m in model.modules()]
    model.eval()
    try: yield model
    finally:
        for m,t in was: m.training = t

@torch.no_grad()
def embed(
    encoder:nn.Module, # [B,3,H,W] -> [B,d]
    dl, # Batches `(x, y)`, or `(x,)` without labels
)->tuple: # Features [N,d], float32 on the CPU, and labels int64 [N] (`None` without labels)
    "The features of all images of `dl`, in eval mode and without gradient"
    p = next(encoder.parameters(), None)
    feats,labels = [],[]
    with eval_mode(encoder):
        for x,*y in dl:
            x = x.as_subclass(Tensor)
            feats.append(encoder(x if p is None else x.to(p.device)).float().cpu())
            if y: labels.append(y[0].as_subclass(Tensor).cpu())
    return torch.cat(feats),(torch.cat(labels) if labels else None)

@torch.no_grad()
def knn_predict(
    feats:Tensor, # Features of the bank [N,d]
    labels:Tensor, # Labels of the bank int64 [N]
    queries:Tensor, # Features to label [Q,d]; where this is `feats` itself, no row counts as its own neighbour
    k:int=200, # Neighbours that vote
    temperature:float=.1, # A neighbour's vote weighs exp(cosine/temperature)
    n_classes:int|None=None, # Number of classes; by default the largest label plus one
)->Tensor: # Predicted labels int64 [Q]
    "Labels by a vote of the `k` nearest neighbours by cosine, weighted (Wu et al. 2018, arXiv 1805.01978)"
    itself = queries is feats
    if k<1: raise ValueError(f"k={k}: at least one neighbour must vote.")
    k = min(k, len(feats)-itself)
    n_classes = n_classes or int(labels.max())+1
    bank,res = F.normalize(feats.float(), dim=1),[]
    rows = max(1, 2**24//len(feats)) # 64 MB of similarities at a time
    for i,q in enumerate(queries.float().split(rows)):
        sim = F.normalize(q, dim=1) @ bank.T
        if itself: sim[torch.arange(len(q)), torch.arange(len(q))+i*rows] = -math.inf
        sim,idx = sim.topk(k, dim=1)
        votes = ((sim-sim[:,:1])/temperature).exp_()
        res.append(votes.new_zeros(len(q), n_classes).scatter_add_(1, labels[idx], votes).argmax(1))
    return torch.cat(res)

def accuracy_of(
    pred:Tensor, # Predicted labels [N]
    labels:Tensor, # True labels [N]
)->float: # In [0, 1]
    "Share of labels that are right"
    return (pred==labels).float().mean().item()

class KNNProbe(Callback):
    "kNN accuracy on un-augmented data after each epoch, as a column of the progress table"
    order = 45 # before the recorder writes the row
    def __init__(self,
        train_dl, # Labelled bank, un-augmented and normalised, as from `labelled_dls`
        test_dl, # Labelled queries
        k:int=200, # Neighbours that vote
        temperature:float=.1, # See `knn_predict`
        every:int=1, # Epochs between two looks; the last epoch is always looked at
    ): store_attr()

    def before_fit(self):
        self.value,self.values = None,[]
        self.column = ValueMetric(lambda: self.value, 'knn')
        self.learn.metrics = self.learn.metrics + [self.column]

    def after_validate(self):
        self.value = None
        if self.epoch%self.every and self.epoch!=self.n_epoch-1: return
        bank,labels = embed(self.model.encoder, self.train_dl)
        queries,truth = embed(self.model.encoder, self.test_dl)
        self.value = accuracy_of(knn_predict(bank, labels, queries, self.k, self.temperature), truth)
        self.values.append((self.epoch, self.value))

    def after_fit(self): self.learn.metrics = [m for m in self.learn.metrics if m is not self.column]

def linear_probe(
    train:tuple, # Features [N,d] and labels [N]
    test:tuple, # Features [Q,d] and labels [Q]
    C:float=1., # Inverse strength of the l2 penalty
    max_iter:int=1000, # Of the solver
)->float: # Accuracy in [0, 1]
    "Test accuracy of a logistic regression on standardised frozen features"
    (x,y),(xt,yt) = ((np.asarray(f), np.asarray(l)) for f,l in (train, test))
    return float(make_pipeline(StandardScaler(), LogisticRegression(C=C, max_iter=max_iter)).fit(x, y).score(xt, yt))

class LinearEval(nn.Module):
    "A linear layer on an encoder that does not move: neither its weights nor its BatchNorm statistics"
    def __init__(self,
        encoder:nn.Module, # [B,3,H,W] -> [B,n_features]
        n_classes:int, # Number of classes
    ):
        super().__init__()
        self.encoder,self.head = deepcopy(encoder).requires_grad_(False).eval(),nn.Linear(encoder.n_features, n_classes)

    def train(self, mode:bool=True):
        super().train(mode)
        self.encoder.eval()
        return self

    def forward(self, x):
        with torch.no_grad(): h = self.encoder(x)
        return self.head(h)

class TrainView(Callback):
    "One augmented view of every training batch, for supervised learning; validation batches stay as they are"
    order,run_valid = TwoViews.order,False
    def __init__(self, view:Callable): store_attr()
    def before_batch(self): self.learn.xb = self.view(self.xb[0]),

def _augmented(dls, bs):
    "`labelled_dls` with shuffled training batches in [0,1], ready for a `TrainView`"
    train = ImageDL(dls.train.dataset, bs, shuffle=True, drop_last=len(dls.train.dataset)>=bs, device=dls.device, after_batch=ToUnit())
    res = DataLoaders(train, dls.valid, device=dls.device)
    res.size,res.classes = dls.size,dls.classes
    return res

def _crop_and_flip(size, scale): return BatchView(ViewPolicy(size, scale=scale, jitter_p=0., gray_p=0.))

def linear_eval_learner(
    dls:DataLoaders, # As from `labelled_dls`
    encoder:nn.Module, # Pretrained; copied and frozen
    bs:int=256,
    scale:tuple=(.08, 1.), # Of the random crops
)->Learner:
    "A `Learner` of the linear evaluation of BYOL, appendix C.1: crops and flips, SGD with Nesterov momentum, no weight decay"
    opt = partial(OptimWrapper, opt=partial(torch.optim.SGD, momentum=.9, nesterov=True))
    return Learner(_augmented(dls, bs), LinearEval(encoder, len(dls.classes)), CrossEntropyLossFlat(), opt_func=opt, lr=.2*bs/256,
        splitter=lambda m: list(m.head.parameters()), metrics=accuracy, cbs=TrainView(_crop_and_flip(dls.size, scale)))

def fine_tune_learner(
    dls:DataLoaders, # As from `labelled_dls`
    encoder:nn.Module, # Start from this; copied, not changed
    bs:int=64,
    scale:tuple=(.3, 1.), # Of the random crops
    **kwargs
)->Learner: # For `fit_one_cycle`, `fine_tune` and all the rest of fastai
    "A supervised `Learner` on an encoder and a linear layer, in parameter groups of their own"
    encoder = deepcopy(encoder).requires_grad_(True)
    model = nn.Sequential(encoder, nn.Linear(encoder.n_features, len(dls.classes)))
    bs = min(bs, len(dls.train.dataset))
    return Learner(_augmented(dls, bs), model, CrossEntropyLossFlat(), splitter=lambda m: [params(m[0]), params(m[1])],
        metrics=accuracy, cbs=TrainView(_crop_and_flip(dls.size, scale)), **kwargs)

def label_subset(
    labels:Tensor, # Labels [N]
    share:float, # Of the images of each class, in (0, 1]
    seed:int=0,
)->list: # Indices, in order; at least one image of every class
    "The same share of the images of every class, drawn at random"
    if not 0<share<=1: raise ValueError(f"share={share} must lie in (0, 1].")
    rng,labels = np.random.default_rng(seed),np.asarray(labels)
    drawn = [rng.permutation(np.flatnonzero(labels==c)) for c in np.unique(labels)]
    return sorted(int(i) for o in drawn for i in o[:max(1, round(share*len(o)))])

def label_efficiency(
    encoder:nn.Module, # Pretrained
    untrained:nn.Module, # The same architecture with random weights: the from-scratch baseline
    dls:DataLoaders, # As from `labelled_dls`
    shares:tuple=(.01, .1, 1.), # Of the labels
    n_epoch:int=10, # Of fine-tuning on all labels; on fewer, as many more as keep the number of steps, up to ten times
    lr:float=2e-3, # Highest learning rate
    seed:int=0,
    bs:int=64,
)->pd.DataFrame: # One row a share: images, linear probe, fine-tuned, from scratch
    "Test accuracy against the share of labels"
    test,rows = embed(encoder, dls.valid),[]
    labels = torch.as_tensor(dls.train.dataset.labels if isinstance(dls.train.dataset, ImageFiles) else dls.train.dataset.y).cpu()
    for share in shares:
        part = dls.train.dataset.subset(label_subset(labels, share, seed))
        few = DataLoaders(dls.train.new(part), dls.valid, device=dls.device)
        few.size,few.classes = dls.size,dls.classes
        row = dict(share=share, images=len(part), linear=linear_probe(embed(encoder, few.train), test))
        for name,start in ('fine-tuned', encoder),('from scratch', untrained):
            set_seed(seed)
            learn = fine_tune_learner(few, start, bs)
            with learn.no_bar(), learn.no_logging(): learn.fit_one_cycle(round(n_epoch*min(10, 1/share)), lr)
            row[name] = learn.final_record[-1]
        rows.append(row)
    return pd.DataFrame(rows).set_index('share')

def compare_features(
    encoder:nn.Module, # Pretrained
    untrained:nn.Module, # The same architecture with random weights
    dls:DataLoaders, # As from `labelled_dls`
    k:int=200, # Neighbours of the kNN
)->pd.DataFrame: # Rows raw pixels, random encoder, BYOL; columns kNN and linear
    "The same two probes on three kinds of features: is the encoder better than nothing, and than luck?"
    def probes(f):
        train,test = embed(f, dls.train),embed(f, dls.valid)
        return dict(kNN=accuracy_of(knn_predict(*train, test[0], k), test[1]), linear=linear_probe(train, test))
    return pd.DataFrame({'raw pixels': probes(nn.Flatten()), 'random encoder': probes(untrained), 'BYOL': probes(encoder)}).T
