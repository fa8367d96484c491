from fastai.vision.all import *
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from PIL import ImageOps
import difflib, zlib



MEAN,STD = map(tuple, imagenet_stats) # one normalisation for the whole course, and the one that pretrained weights expect
SHAPES = 'disc ring square triangle star plus heart crescent hourglass bars'.split()

def _star(u, v):
    "Signed distance to a five-pointed star: fold the plane into one tenth, measure to the one edge left"
    a = np.abs((np.arctan2(u, -v) + np.pi/5) % (2*np.pi/5) - np.pi/5)
    r = np.hypot(u, v)
    px, py, qx, qy = 1.05, 0., .38*np.cos(np.pi/5), .38*np.sin(np.pi/5)
    nx, ny = qy-py, px-qx
    return ((r*np.cos(a)-px)*nx + (r*np.sin(a)-py)*ny)/np.hypot(nx, ny)

def _distance(name, u, v):
    "Signed distance (negative inside) from the points `(u, v)` to a shape of about unit radius"
    r, au, av = np.hypot(u, v), np.abs(u), np.abs(v)
    if name=='disc':      return r - .85
    if name=='ring':      return np.abs(r-.72) - .2
    if name=='square':    return np.maximum(au, av) - .75
    if name=='triangle':  return np.maximum(v-.55, .894*au - .447*v - .42)
    if name=='star':      return _star(u, v)
    if name=='plus':      return np.minimum(np.maximum(au-.26, av-.9), np.maximum(au-.9, av-.26))
    if name=='heart':     return np.minimum(np.hypot(au-.38, v+.3)-.537, .707*(au+np.abs(v-.08)-.76))
    if name=='crescent':  return np.maximum(r-.9, .72-np.hypot(u-.5, v))
    if name=='hourglass': return np.maximum(av-.85, .8*au-.6*av-.04)
    return np.maximum(au-.85, np.abs(av-.5)-.24)   # bars

def _colour(luma, hue, chroma=.18):
    "RGB of a given luma: whatever the hue, its grey is the same"
    u, v = chroma*np.cos(2*np.pi*hue), chroma*np.sin(2*np.pi*hue)
    return np.stack([luma+1.14*v, luma-.395*u-.581*v, luma+2.032*u], -1)

def make_shapes(n, size=32, seed=0):
    "`n` wallpapers of one shape each, `x` uint8 [n,3,size,size] and classes `y`; colours, scale, turn and place are drawn at random"
    p = np.stack([np.random.default_rng([seed, i]).random(7) for i in range(n)]).astype(np.float32)
    y = (p[:,0]*len(SHAPES)).astype(np.int64)
    dark, light = (_colour(luma, p[:,j])[...,None,None] for j,luma in ((1,.4), (2,.6)))
    period, turn, left, top = (o[:,None,None] for o in (size*(.375+.1875*p[:,3]), math.pi/9*(2*p[:,4]-1), p[:,5], p[:,6]))
    Y, X = np.mgrid[:size,:size].astype(np.float32) + .5
    c, s = np.cos(turn), np.sin(turn)
    u, v = (c*X+s*Y)/period + 2*left, (c*Y-s*X)/period + top
    odd = (np.floor(u)+np.floor(v)) % 2                  # a chessboard: every other tile swaps its two colours
    u, v = ((o%1-.5)/.46 for o in (u, v))
    ink = np.empty_like(u)
    for k,name in enumerate(SHAPES):
        i = y==k
        ink[i] = np.clip(.5 - .46*period[i]*_distance(name, u[i], v[i]), 0, 1)
    ink = np.abs(ink-odd)[:,None]
    return torch.from_numpy(np.round(255*(dark+ink*(light-dark))).astype(np.uint8)),torch.from_numpy(y)

class ImageArray:
    "Square images in memory, uint8 [N,3,S,S], and their labels, int64 [N]"
    def __init__(self, x:Tensor, y:Tensor): store_attr()
    def __len__(self): return len(self.x)
    def __getitem__(self, i): return TensorImage(self.x[i]),self.y[i]
    def subset(self, idxs:list): return ImageArray(self.x[idxs], self.y[idxs])
    def to(self, device): return ImageArray(self.x.to(device), self.y.to(device))

def read_square(
    path:str|Path, # Image file
    size:int, # Side of the result, pixels
)->Tensor: # uint8 [3,size,size]
    "The image at `path`, scaled until its shorter side is `size`, and the middle of it"
    with Image.open(path) as im:
        im.draft('RGB', (size, size)) # let the JPEG decoder shrink as it decodes
        im = ImageOps.fit(ImageOps.exif_transpose(im).convert('RGB'), (size, size), Image.BICUBIC)
    return torch.from_numpy(np.array(im)).permute(2, 0, 1)

class ImageFiles:
    "Image files, read one at a time as uint8 [3,size,size], and their labels"
    def __init__(self, files:list, labels:list, size:int): store_attr()
    def __len__(self): return len(self.files)
    def __getitem__(self, i):
        try: return TensorImage(read_square(self.files[i], self.size)),torch.tensor(self.labels[i])
        except (OSError, SyntaxError, ValueError): raise SkipItemException()

    def subset(self, idxs:list): return ImageFiles([self.files[i] for i in idxs], [self.labels[i] for i in idxs], self.size)

    def in_memory(self)->ImageArray: # Images that can be read
        "Read all of them; those that cannot be read are named in a warning and left out"
        def read(i):
            try: return self[i]
            except SkipItemException: return None
        with ThreadPoolExecutor(num_cpus()) as ex: items = list(ex.map(read, range(len(self))))
        bad = [str(f) for f,o in zip(self.files, items) if o is None]
        if len(bad)==len(items): raise ValueError(f"None of the {len(items)} image files could be read, {bad[0]} for one: are they really images?")
        if bad: warnings.warn(f"{len(bad)} of {len(items)} images could not be read and are left out: {', '.join(bad[:3])}{', ...' if len(bad)>3 else ''}")
        return ImageArray(*map(torch.stack, zip(*[o for o in items if o is not None])))

@dataclass
class ImageSource:
    "Images to pretrain on, and images kept apart from them"
    name:str # As the user gave it
    size:int # Side of a view, pixels
    train:ImageArray|ImageFiles # What may be trained on
    test:ImageArray|ImageFiles|None # Kept apart for the probes; `None` where the images have no labels
    classes:list # Class names, in the order of the labels

SOURCES = dict(shapes=32, cifar10=32, imagenette=128, pets=128) # the named sources, and the size of their views

def _first_folder(path, root):
    "The folder right below `root` in which `path` lies, or '' where it lies in `root` itself"
    parts = Path(path).relative_to(root).parts
    return parts[0] if len(parts)>1 else ''

def _held_out(path, root):
    "True for one file in five, decided by its name alone: the same ones in every run"
    return zlib.crc32(Path(path).relative_to(root).as_posix().encode())%5==0

def _split_files(root, label=None):
    "Files to train on, files kept apart (none without labels), and the function from a file to its class"
    folders = {o.name.lower():o for o in root.iterdir() if o.is_dir()}
    held = first(o for o in ('test', 'val', 'valid', 'validation') if o in folders)
    if label is None and 'train' in folders and held:
        train,test = folders['train'],folders[held]
        return get_image_files(train).sorted(),get_image_files(test).sorted(),lambda f: _first_folder(f, train if train in f.parents else test)
    files = get_image_files(root).sorted()
    label = label or partial(_first_folder, root=root)
    if len(set(files.map(label)))<2: return files,L(),label
    return files.filter(_held_out, root=root, negate=True),files.filter(_held_out, root=root),label

def _find_source(source):
    "The folder of a named source or of the user's own images, and how its files are labelled"
    if source=='cifar10': return untar_data(URLs.CIFAR),None
    if source=='imagenette': return untar_data(URLs.IMAGENETTE_160),None
    if source=='pets': return untar_data(URLs.PETS)/'images',lambda f: f.stem.rsplit('_', 1)[0]
    path = Path(source).expanduser()
    if path.is_dir(): return path,None
    near = difflib.get_close_matches(str(source), SOURCES, 1)
    raise ValueError(f"Data source {str(source)!r} is neither a known name ({', '.join(SOURCES)}) nor a folder" + (f"; did you mean {near[0]!r}?" if near else " that exists."))

def load_source(
    source:str|Path='shapes', # `'shapes'`, `'cifar10'`, `'imagenette'`, `'pets'` or a folder of images
    size:int|None=None, # Side of a view, pixels; by default 32 for the small sources and 128 for the others
    n:int|None=None, # At most so many images, of each split
    memory_gb:float=2., # Decode all files at once where they fit into so much memory
)->ImageSource:
    "Find the images of `source` and split off the test images"
    source = str(source)
    if n is not None and n<1: raise ValueError(f"n={n}: ask for at least one image.")
    size = size or SOURCES.get(source, 128)
    if size<8: raise ValueError(f"size={size} is too small to see anything: give at least 8 pixels.")
    if source=='shapes': return ImageSource(source, size, ImageArray(*make_shapes(n or 5000, size)), ImageArray(*make_shapes(min(n or 2000, 2000), size, seed=1)), SHAPES)
    root,label = _find_source(source)
    train,test,label = _split_files(root, label)
    if not train: raise ValueError(f"There is no image file in {root}: expected files such as .jpg or .png, at any depth.")
    classes = sorted(set(train.map(label))|set(test.map(label)))
    index = {c:i for i,c in enumerate(classes)}
    stored = size if size<=64 else round(size*8/7) # larger images keep a margin around the middle crop
    def images(files):
        if not files: return None
        files = random.Random(0).sample(list(files), min(n or len(files), len(files))) # the same mixture of classes in every run
        res = ImageFiles(files, [index[label(f)] for f in files], stored)
        return res.in_memory() if len(res)*3*stored**2<memory_gb*2**30 else res
    return ImageSource(source, size, images(train), images(test), classes)

class ImageDL(TfmdDL):
    "Batches `(x, y)` on `device`: cut out of an `ImageArray` in one go, or read from `ImageFiles` by workers"
    def __init__(self, dataset, bs:int=64, shuffle:bool=False, num_workers:int|None=None, device=None, classes:list=None, **kwargs):
        self.classes = classes
        device = torch.device(device or default_device())
        if isinstance(dataset, ImageArray): dataset,num_workers = dataset.to(device),0
        super().__init__(dataset, bs=bs, shuffle=shuffle, num_workers=num_workers, device=device, **kwargs)

    def new(self, dataset=None, cls=None, **kwargs): return super().new(dataset, cls, **{'classes':self.classes, **kwargs})

    def create_batches(self, samps):
        if isinstance(self.dataset, ImageArray):
            for i in chunked(samps, self.bs, self.drop_last): yield self.dataset[torch.tensor(i, device=self.dataset.x.device)]
        else: yield from super().create_batches(samps)

    def show_batch(self, b=None, max_n:int=9, ncols:int|None=None, **kwargs):
        "The first images of a batch, each under its label"
        x,y = self.one_batch() if b is None else b
        x = self.after_batch.decode(x[:max_n]).clamp(0, 1)
        ncols = ncols or math.ceil(len(x)**.5)
        show_images(x, nrows=math.ceil(len(x)/ncols), ncols=ncols, titles=[self.classes[o] if self.classes else int(o) for o in y[:max_n]], **kwargs)

def denormalise(
    x:Tensor, # Normalised images [B,3,H,W]
)->Tensor: # The same with values around [0,1]
    "Undo the normalisation, to look at a view"
    m,s = (x.new_tensor(o).view(3, 1, 1) for o in (MEAN, STD))
    return x*s + m

class ToUnit(Transform):
    "uint8 [B,3,S,S] -> float in [0,1], the middle `size` pixels"
    def __init__(self, size:int|None=None): self.size = size
    def encodes(self, x:TensorImage):
        s = self.size or x.shape[-1]
        o = (x.shape[-1]-s)//2
        return x[..., o:o+s, o:o+s].float()/255

def _loaders(src, train, test, device):
    "The two as `DataLoaders` that know where their images come from"
    dls = DataLoaders(train, test, device=torch.device(device or default_device()))
    dls.source,dls.size,dls.classes = src.name,src.size,src.classes
    return dls

def plain_dl(
    dataset:ImageArray|ImageFiles, # Square images
    size:int, # Side of what the encoder sees, pixels
    bs:int=256,
    device=None, # Where the batches shall lie
    **kwargs
)->ImageDL: # Normalised `x` [B,3,size,size] and labels [B], in the order of the data set
    "Images as an encoder wants to see them when it is used: not augmented, the middle of each, normalised"
    return ImageDL(dataset, bs, device=device, after_batch=[ToUnit(size), Normalize(*broadcast_vec(1, 4, MEAN, STD, cuda=False))], **kwargs)

def byol_dls(
    source:str|Path='shapes', # `'shapes'`, `'cifar10'`, `'imagenette'`, `'pets'` or a folder of images: any depth, no labels needed
    bs:int=256, # Images in a batch
    size:int|None=None, # Side of a view, pixels
    n:int|None=None, # At most so many images
    valid_pct:float=.1, # Share of the images kept for the validation loss
    device=None, # Where the batches shall lie; by default the GPU where there is one
    seed:int=42, # Of the validation split and the order of the batches
)->DataLoaders: # Batches `(x, y)`: `x` TensorImage [B,3,H,W] in [0,1], `y` int64 [B]
    "Clean images to pretrain on; the views are made from whole batches later"
    if not 0<=valid_pct<1: raise ValueError(f"valid_pct={valid_pct} is a share: give a number from 0 to below 1.")
    if bs<2: raise ValueError(f"bs={bs} is too small: batch normalisation needs at least two images in a batch.")
    src = load_source(source, size, n)
    idxs = np.random.default_rng(seed).permutation(len(src.train)).tolist()
    n_valid = round(valid_pct*len(idxs))
    if bs>len(idxs)-n_valid: raise ValueError(f"bs={bs} is larger than the {len(idxs)-n_valid} images to train on: give a smaller batch or more images.")
    dl = partial(ImageDL, bs=bs, device=device, after_batch=ToUnit(), classes=src.classes)
    dls = _loaders(src, dl(src.train.subset(idxs[n_valid:]), shuffle=True, drop_last=True), dl(src.train.subset(idxs[:n_valid])), device)
    dls.train.rng.seed(seed)
    return dls

def labelled_dls(
    source:str|Path='shapes', # As in `byol_dls`
    bs:int=256, # Images in a batch
    size:int|None=None, # Side of an image, pixels
    n:int|None=None, # At most so many images, of each split
    device=None, # Where the batches shall lie
)->DataLoaders: # `train` and `valid`, the latter with the test images: normalised `x` [B,3,size,size] and labels [B], in the same order every pass
    "Labelled images for the probes: not augmented, normalised as the views are; the test images are never among those of `byol_dls`"
    src = load_source(source, size, n)
    if src.test is None: raise ValueError(f"The images in {source} have no labels: put those of each class into a folder of its own.")
    return _loaders(src, *[plain_dl(o, src.size, bs, device, classes=src.classes) for o in (src.train, src.test)], device)
