"""Views per second on one core: `BatchView` beside albumentations, torchvision v2 and kornia, the same policy for all.

    python benchmarks/views.py
"""
import argparse
from functools import partial
import numpy as np, torch
from PIL import Image
from torchvision.transforms import v2
from fastai.vision.all import set_seed
from byol_fastai.all import AlbumentationsView, BatchView, ViewPolicy, byol_policies, load_source
from ledger import record
from timing import command, interleaved, medians, present, ratio, set_threads

def torchvision_view(p: ViewPolicy, pil: bool = False):
    "The policy with torchvision v2, for uint8 tensors as its documentation recommends, or for PIL images"
    maybe = lambda op, chance: [v2.RandomApply([op], chance)] if chance else []
    return v2.Compose([
        v2.RandomResizedCrop(p.size, p.scale, p.ratio, v2.InterpolationMode.BICUBIC, antialias=True),
        v2.RandomHorizontalFlip(p.flip_p),
        *maybe(v2.ColorJitter(p.brightness, p.contrast, p.saturation, p.hue), p.jitter_p),
        v2.RandomGrayscale(p.gray_p),
        *maybe(v2.GaussianBlur(p.blur_taps, p.blur_sigma), p.blur_p),
        *([v2.RandomSolarize(128, p.solarize_p)] if p.solarize_p else []),
        *([v2.ToImage()] if pil else []), v2.ToDtype(torch.float32, scale=True), v2.Normalize(p.mean, p.std)])

def kornia_view(p: ViewPolicy, mode: str):
    "The policy with kornia, for batches of floats; `mode` is how it crops: `'slice'` or `'resample'`"
    import kornia.augmentation as K
    around = lambda s: (1-s, 1+s)
    return torch.nn.Sequential(
        K.RandomResizedCrop((p.size, p.size), p.scale, p.ratio, resample='bicubic', cropping_mode=mode),
        K.RandomHorizontalFlip(p=p.flip_p),
        K.ColorJitter(around(p.brightness), around(p.contrast), around(p.saturation), (-p.hue, p.hue), p=p.jitter_p),
        K.RandomGrayscale(p=p.gray_p),
        *([K.RandomGaussianBlur((p.blur_taps,)*2, p.blur_sigma, p=p.blur_p)] if p.blur_p else []),
        *([K.RandomSolarize((.5, .5), (0., 0.), p=p.solarize_p)] if p.solarize_p else []),
        K.Normalize(torch.tensor(p.mean), torch.tensor(p.std)))

def pil_images(x: torch.Tensor) -> list: return [Image.fromarray(o) for o in arrays(x)]

def arrays(x: torch.Tensor) -> list: return list(np.ascontiguousarray(x.permute(0, 2, 3, 1).cpu().numpy()))

def jobs(policy: ViewPolicy, x: torch.Tensor, peers: dict) -> dict:
    "For each contestant a function that makes one view of every image of `x`, uint8 [N,3,H,W]: a batch of floats [N,3,size,size]"
    def each(view, images): return torch.stack([view(o) for o in images])
    def batch(view): return view(x.float()/255)
    res = dict(
        batchview=partial(BatchView(policy), x),
        albumentations=partial(each, AlbumentationsView(policy), arrays(x)),
        torchvision_v2=partial(each, torchvision_view(policy), list(x.cpu())),
        torchvision_v2_pil=partial(each, torchvision_view(policy, pil=True), pil_images(x)))
    if 'kornia' in peers: res |= {f'kornia_{o}': partial(batch, kornia_view(policy, o).to(x.device)) for o in ('slice', 'resample')}
    return res

def measure(policy: ViewPolicy, x: torch.Tensor, repeats: int, peers: dict) -> dict:
    "Microseconds for one view, and how many times as long as `BatchView` the others take"
    times = interleaved(jobs(policy, x, peers), repeats, x.device)
    return medians(times, 1e6/len(x)) | dict(ratio={o: ratio(times, o, 'batchview') for o in times if o != 'batchview'})

def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--data', default='shapes', help='a source of byol_dls')
    parser.add_argument('--n', type=int, default=512, help='images in a batch')
    parser.add_argument('--size', type=int, default=32)
    parser.add_argument('--repeats', type=int, default=31)
    a = parser.parse_args(argv)
    set_threads(1)
    set_seed(0)
    peers, x = present(dict(kornia='kornia')), load_source(a.data, a.size, a.n).train.x
    view1, view2 = (measure(o, x, a.repeats, peers) for o in byol_policies(a.size))
    path = record('views', f"Microseconds for one view at {a.size} pixels on one core, BYOL's first policy (`second`: its second), and ratios to BatchView",
        view1 | dict(second=view2), command(), threads=1, peers=peers, **vars(a))
    print(path.read_text())

if __name__ == '__main__': main()
