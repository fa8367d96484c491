import os
os.environ.setdefault('NO_ALBUMENTATIONS_UPDATE', '1')   # albumentations would ask the network for its newest version
from dataclasses import dataclass, replace
from fastai.vision.all import *
import cv2, albumentations as A
from albumentations.pytorch import ToTensorV2
from byol_fastai.data import MEAN, STD

@dataclass(frozen=True)
class ViewPolicy:
    "One distribution of augmented views. Strengths are torchvision's; the defaults are those of BYOL, table 6"
    size:int # side of the square view, pixels
    scale:tuple=(.08, 1.) # share of the image's area that a crop covers
    ratio:tuple=(3/4, 4/3) # width over height of a crop
    flip_p:float=.5 # probability of a horizontal flip
    jitter_p:float=.8 # probability of colour jitter
    brightness:float=.4 # factor drawn from [1-brightness, 1+brightness]
    contrast:float=.4 # likewise
    saturation:float=.2 # likewise
    hue:float=.1 # shift drawn from [-hue, hue], in turns of the HSV circle
    gray_p:float=.2 # probability of dropping colour
    blur_p:float=0. # probability of Gaussian blur
    blur_sigma:tuple=(.1, 2.) # standard deviation of the blur, pixels
    solarize_p:float=0. # probability of inverting all that is brighter than 0.5
    mean:tuple=MEAN # normalisation, per channel
    std:tuple=STD # normalisation, per channel

    def __post_init__(self):
        for n in ('flip_p','jitter_p','gray_p','blur_p','solarize_p'):
            if not 0<=getattr(self, n)<=1: raise ValueError(f"{n}={getattr(self, n)} is a probability: give a number from 0 to 1.")
        for n in ('scale','ratio','blur_sigma'):
            lo,hi = getattr(self, n)
            if not 0<lo<=hi: raise ValueError(f"{n}={getattr(self, n)} must be two positive numbers, the smaller first.")
        for n in ('brightness','contrast','saturation'):
            if not 0<=getattr(self, n)<=1: raise ValueError(f"{n}={getattr(self, n)} must lie in [0, 1]: a factor is drawn from [1-{n}, 1+{n}].")
        if self.scale[1]>1: raise ValueError(f"scale={self.scale}: a crop covers at most the whole image, so give two numbers of at most 1.")
        if not 0<=self.hue<=.5: raise ValueError(f"hue={self.hue} must lie in [0, 0.5]: half a turn reaches every hue.")
        if self.size<1: raise ValueError(f"size={self.size} must be a positive number of pixels.")

    @property
    def blur_taps(self):
        "Taps of the blur kernel: odd, about a tenth of the side (23 at 224 px, as in the paper)"
        return max(3, int(self.size*.1)//2*2+1)

def byol_policies(size, **kwargs):
    "The asymmetric pair of policies `(T, T')` of BYOL, appendix B; `kwargs` override fields of both"
    blur,blur2 = (0., 0.) if size<=32 else (1., .1)
    return (ViewPolicy(size, **{'blur_p':blur, **kwargs}), ViewPolicy(size, **{'blur_p':blur2, 'solarize_p':.2, **kwargs}))

SHAPES_VIEWS = dict(scale=(.4, 1.), jitter_p=0., solarize_p=0., blur_p=0.)

def source_policies(
    source:str, # Name of the data source
    size:int, # Side of a view, pixels
)->tuple: # `(T, T')`
    "The pair of policies a source is pretrained with: BYOL's own, but for the embedded shapes one view without colour and one with"
    if source=='shapes': return ViewPolicy(size, gray_p=1., **SHAPES_VIEWS),ViewPolicy(size, gray_p=0., **SHAPES_VIEWS)
    return byol_policies(size)

def _per_image(p): return p.view(-1, 1, 1, 1)

def to_gray(x):
    r,g,b = x.unbind(1)
    return (.2989*r + .587*g + .114*b).unsqueeze(1)

def blend(x, base, f):
    return torch.lerp(base.expand_as(x), x, _per_image(f)).clamp_(0, 1)

def adjust_brightness(x, f): return blend(x, x.new_zeros(1), f)
def adjust_contrast(x, f): return blend(x, to_gray(x).mean((2,3), keepdim=True), f)
def adjust_saturation(x, f): return blend(x, to_gray(x), f)

def _hue_chroma_value(x):
    r,g,b = x.unbind(1)
    below = (b-g).sign_().clamp_(min=0)                   # 1 where g < b
    g,b = torch.maximum(g, b), torch.minimum(g, b)
    top = (g-r).sign_().clamp_(min=0)                     # 1 where r < g
    value,mid = torch.maximum(r, g), torch.minimum(r, g)
    chroma = value - torch.minimum(mid, b)
    sector = torch.addcmul(-below, top, 2*below - 1/3)
    return torch.addcdiv(sector, mid-b, chroma.mul(6).clamp_(min=1e-6)).abs_(), chroma, value

def adjust_hue(x, shift):
    hue,chroma,value = _hue_chroma_value(x)
    hue += shift.view(-1, 1, 1)
    turns = hue.unsqueeze(1) + x.new_tensor([1/2, 1/6, -1/6]).view(1, 3, 1, 1)
    turns -= turns.round()
    dip = turns.abs_().mul_(-6).add_(2).clamp_(0, 1)
    return torch.addcmul(value.unsqueeze(1), chroma.unsqueeze(1), dip, value=-1)

def solarize(x): return torch.minimum(x, 1-x)

def resize_matrix(start, length, n_in, n_out):
    "[B, n_out, n_in]: row j holds the bicubic weights with which output pixel j looks at the n_in input pixels"
    step = (length/n_out).view(-1, 1, 1)
    pixel = torch.arange(n_in, device=start.device, dtype=step.dtype)
    centre = start.view(-1, 1, 1) + (torch.arange(n_out, device=start.device).view(1, -1, 1)+.5)*step - .5
    outside = (pixel < start.view(-1, 1)) | (pixel >= (start+length).view(-1, 1))
    t = (pixel-centre).abs_().div_(step.clamp(min=1))
    t = torch.maximum(t, 2.*outside.unsqueeze(1)).clamp_(max=2)
    near,far = t.clamp(max=1), t.clamp_(min=1)
    w = (1.5*near-2.5).mul_(near).mul_(near).add_(1)
    w += (2.5-.5*far).mul_(far).sub_(4).mul_(far).add_(2)
    return w.div_(w.sum(-1, keepdim=True))

def blur_matrix(sigma, n, taps):
    "[B, n, n]: Gaussian blur along one axis with `taps` taps, reflecting at the border"
    offs = torch.arange(taps, device=sigma.device) - taps//2
    k = torch.exp(-.5*(offs/sigma.view(-1, 1))**2)
    k = k/k.sum(-1, keepdim=True)
    pixel = (torch.arange(n, device=sigma.device).view(-1, 1) + offs).abs()
    pixel = (n-1) - ((n-1)-pixel).abs()
    return k.new_zeros(len(sigma), n, n).scatter_add_(2, pixel.expand(len(sigma), -1, -1), k.unsqueeze(1).expand(-1, n, -1))

def separable(x, rows, cols):
    "Apply `rows` [B,S,H] along the height and `cols` [B,S',W] along the width of `x` [B,C,H,W]"
    return rows.unsqueeze(1) @ (x @ cols.mT.unsqueeze(1))

def crop_resize(x, top, left, height, width, size, flip=None):
    rows = resize_matrix(top, height, x.shape[-2], size)
    cols = resize_matrix(left, width, x.shape[-1], size)
    if flip is not None: cols = torch.where(flip.view(-1, 1, 1), cols.flip(1), cols)
    return separable(x, rows, cols).clamp_(0, 1)

def gaussian_blur(x, sigma, taps):
    return separable(x, blur_matrix(sigma, x.shape[-2], taps), blur_matrix(sigma, x.shape[-1], taps))

def draw_boxes(policy, n, h, w, device=None, tries=10):
    "[4, n]: crop boxes (top, left, height, width) as torchvision's `RandomResizedCrop` draws them, one an image"
    u = torch.rand(4, tries, n, device=device)
    area = h*w*(policy.scale[0] + (policy.scale[1]-policy.scale[0])*u[0])
    lo,hi = map(math.log, policy.ratio)
    ratio = (lo + (hi-lo)*u[1]).exp_()
    cw,ch = (area*ratio).sqrt_().round_(), (area/ratio).sqrt_().round_()
    fits = (cw>0) & (cw<=w) & (ch>0) & (ch<=h)
    first = fits.float().argmax(0, keepdim=True)          # the first try that fits
    cw,ch,uy,ux = (o.gather(0, first)[0] for o in (cw, ch, u[2], u[3]))
    # no try fitted: the largest central crop of an allowed ratio
    r = min(max(w/h, policy.ratio[0]), policy.ratio[1])
    ok = fits.any(0)
    cw = torch.where(ok, cw, float(min(w, round(h*r)))); ch = torch.where(ok, ch, float(min(h, round(w/r))))
    uy,ux = torch.where(ok, uy, .5), torch.where(ok, ux, .5)
    return torch.stack([(uy*(h-ch+1)).floor_(), (ux*(w-cw+1)).floor_(), ch, cw])

class BatchView:
    "Views of a whole batch at once on its own device: `x` float [B,3,H,W] in [0,1] -> normalised [B,3,size,size]"
    bite = 64   # images worked on together on a CPU: what fits its cache
    def __init__(self, policy): self.policy = policy

    def draw(self, n, h, w, device=None):
        "The parameters of `n` views of images of `h` x `w` pixels: a dict of tensors, one column an image"
        p = self.policy
        u = torch.rand(10, n, device=device)
        on = (u[0]<p.jitter_p).float()
        strength = u.new_tensor([p.brightness, p.contrast, p.saturation]).unsqueeze(1)
        lo,hi = p.blur_sigma
        return dict(box=draw_boxes(p, n, h, w, device), flip=u[1]<p.flip_p,
            factor=1 + on*strength*(2*u[2:5]-1), hue=on*p.hue*(2*u[5]-1), order=torch.rand(3, n, device=device).argsort(0),
            gray=(u[6]<p.gray_p).float(), blur=u[7]<p.blur_p, sigma=lo + (hi-lo)*u[8], solarize=(u[9]<p.solarize_p).float())

    def jitter(self, x, factor, hue, order, hue_at):
        "Brightness, contrast and saturation in each image's own `order`, hue as number `hue_at` of the four"
        f = factor.gather(0, order)
        for k in range(4):
            if k==hue_at: x = adjust_hue(x, hue); continue
            o = k - (k>hue_at)
            gray = to_gray(x)
            base = gray*_per_image((order[o]==2).float()) + gray.mean((2,3), keepdim=True)*_per_image((order[o]==1).float())
            x = blend(x, base, f[o])
        return x

    def apply(self, x, d, hue_at):
        "The views of `x` with the parameters `d`"
        p = self.policy
        x = crop_resize(x, *d['box'], p.size, d['flip'])
        if p.jitter_p: x = self.jitter(x, d['factor'], d['hue'], d['order'], hue_at)
        if p.gray_p: x = torch.lerp(x, to_gray(x).expand_as(x), _per_image(d['gray']))
        if p.blur_p: x = torch.where(_per_image(d['blur']), gaussian_blur(x, d['sigma'], p.blur_taps), x)
        if p.solarize_p: x = torch.lerp(x, solarize(x), _per_image(d['solarize']))
        m,s = (x.new_tensor(o).view(1, 3, 1, 1) for o in (p.mean, p.std))
        return (x-m).div_(s)

    @torch.no_grad()
    def __call__(self, x):
        x = x.as_subclass(Tensor)
        n = len(x)
        d = self.draw(n, *x.shape[-2:], x.device)
        out = x.new_empty(n, 3, self.policy.size, self.policy.size)
        part = -(-n//4) if x.device.type!='cpu' else min(self.bite, -(-n//4))
        turn = int(torch.randint(4, ()))
        # the four places of hue in the order are dealt out evenly over a shuffled batch
        for k,i in enumerate(torch.randperm(n, device=x.device).split(part)):
            out[i] = self.apply(x[i], {k:v[...,i] for k,v in d.items()}, (k+turn)%4)
        return out

class AlbumentationsView:
    "One view of one image with albumentations: the reference that `BatchView` is held against"
    def __init__(self, policy:ViewPolicy):
        self.policy = p = policy
        around = lambda s: (1-s, 1+s)
        self.tfm = A.Compose([
            A.RandomResizedCrop((p.size, p.size), scale=p.scale, ratio=p.ratio, interpolation=cv2.INTER_CUBIC),
            A.HorizontalFlip(p=p.flip_p),
            A.ColorJitter(around(p.brightness), around(p.contrast), around(p.saturation), (-p.hue, p.hue), p=p.jitter_p),
            A.ToGray(p=p.gray_p),
            A.GaussianBlur(blur_limit=(p.blur_taps, p.blur_taps), sigma_limit=p.blur_sigma, p=p.blur_p),
            A.Solarize((.5, .5), p=p.solarize_p),
            A.Normalize(p.mean, p.std), ToTensorV2()])

    def __call__(self,
        image, # uint8 [H,W,3], or a PIL image
    )->Tensor: # Normalised, [3,size,size]
        return self.tfm(image=np.array(image))['image']

class TwoViews(Callback):
    order = MixedPrecision.order-5
    def __init__(self, view1, view2): store_attr()
    def before_batch(self):
        x = self.xb[0]
        self.learn.xb = self.view1(x), self.view2(x)
