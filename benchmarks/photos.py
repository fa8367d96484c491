"""Images per second out of a folder of photographs: files read by workers, a decoded cache, and fastai's `ImageDataLoaders`.

    python benchmarks/photos.py path/to/photos

All of them hand out shuffled batches of floats in [0,1], with as many pixels for an image: ours the whole photograph in its
own shape, fastai a square of the same area that lies anywhere, by the cheaper bilinear interpolation.
"""
import argparse, statistics
from functools import partial
from pathlib import Path
from fastai.vision.all import ImageDataLoaders, Resize
from byol_fastai.all import load_source
from byol_fastai.data import AREA, ImageDL, ImageFiles, ToUnit
from ledger import record
from throughput import best_workers
from timing import interleaved, ratio, seconds, set_threads

def ours(data, bs: int, workers: int = 0) -> ImageDL:
    return ImageDL(data, bs, shuffle=True, drop_last=True, num_workers=workers, device='cpu', after_batch=ToUnit())

def side(data: ImageFiles) -> int:
    "Of a square with as many pixels as we keep of a photograph"
    return round(data.size*AREA**.5)

def fastais(data: ImageFiles, bs: int, workers: int):
    "The same files with fastai alone"
    return ImageDataLoaders.from_path_func('.', data.files, lambda f: Path(f).parent.name, valid_pct=0, item_tfms=Resize(side(data)), bs=bs, num_workers=workers, device='cpu').train

def drain(dl):
    for _ in dl: pass

def measure(data: ImageFiles, bs: int, workers: list, repeats: int) -> tuple:
    "The figures, and the number of workers that suits each best"
    cached = []
    filling = seconds(lambda: cached.append(data.in_memory()))
    loaders = dict(cached=ours(cached[0], bs))
    for w in workers: loaders |= {f'files/{w}': ours(data, bs, w), f'fastai/{w}': fastais(data, bs, w)}
    times, chosen = best_workers(interleaved({name: partial(drain, o) for name, o in loaders.items()}, repeats))
    images = len(data)//bs*bs
    return dict(images_per_second={name: round(images/statistics.median(o), 1) for name, o in times.items()},
        ratio={o: ratio(times, 'fastai', o) for o in ('files', 'cached')},
        filling=dict(seconds=round(filling, 2), images_per_second=round(len(data)/filling, 1), megabytes=round(sum(o.nbytes for o in cached[0].x)/2**20, 1))), chosen

def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('path', type=Path, help='folder of photographs, at any depth')
    parser.add_argument('--n', type=int, default=1024, help='at most so many of them')
    parser.add_argument('--size', type=int, default=112, help='of a view, pixels; the images handed out have 2.6 times its area')
    parser.add_argument('--bs', type=int, default=64)
    parser.add_argument('--threads', type=int, default=2, help='of torch')
    parser.add_argument('--workers', type=int, nargs='+', default=[0, 2], help='each loader is measured with the best of them')
    parser.add_argument('--repeats', type=int, default=5)
    a = parser.parse_args(argv)
    if not a.path.expanduser().is_dir():
        print(f'There is no folder {a.path}, so nothing was measured: give a folder of photographs.')
        return
    set_threads(a.threads)
    data = load_source(a.path, a.size, a.n, memory_gb=0).train
    figures, workers = measure(data, a.bs, a.workers, a.repeats)
    config = vars(a) | dict(path=a.path.name, workers=workers, images=len(data), stored_side=side(data))
    path = record('photos', 'Images per second out of a folder of photographs, and how many times as fast as fastai', figures,
        f'python benchmarks/photos.py {a.path.name}', **config)
    print(path.read_text())

if __name__ == '__main__': main()
