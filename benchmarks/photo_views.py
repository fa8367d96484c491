"""Two views of each photograph of a folder, from the file to the batch, at 128 and 224 pixels: ours beside lightly and beside albumentations, and where the time goes.

    python benchmarks/photo_views.py path/to/photos

Everybody opens each file once, makes two views of it and puts them into batches; nothing is trained. Ours reads files, or the decoded cache.
Lightly and albumentations make one view after the other from the whole photograph, in a `DataLoader` with the number of workers that suits each best.
"""
import argparse, statistics
from functools import partial
from pathlib import Path
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from byol_fastai.all import BYOL, AlbumentationsView, BatchView, BYOLLoss, byol_policies, create_encoder, load_source
from byol_fastai.data import ImageFiles
from ledger import record
from photos import drain, ours
from throughput import best_workers
from timing import interleaved, medians, present, ratio, set_threads

PEERS = dict(lightly='lightly')

class Files(Dataset):
    "Two views of each file, which is opened once"
    def __init__(self, files: list, view1, view2): self.files, self.views = files, (view1, view2)
    def __len__(self): return len(self.files)
    def __getitem__(self, i):
        im = Image.open(self.files[i]).convert('RGB')
        return [o(im) for o in self.views]

def loader(data: ImageFiles, views: tuple, bs: int, workers: int) -> DataLoader:
    return DataLoader(Files(data.files, *views), bs, shuffle=True, drop_last=True, num_workers=workers, persistent_workers=workers > 0)

def lightly_views(size: int) -> tuple:
    from lightly.transforms.byol_transform import BYOLView1Transform, BYOLView2Transform
    return BYOLView1Transform(size), BYOLView2Transform(size)

def albumentations_views(size: int) -> tuple: return tuple(map(AlbumentationsView, byol_policies(size)))

def both(dl, views: tuple):
    "A pass over our loader, with two views of every batch"
    for x, *_ in dl:
        for view in views: view(x)

def contestants(data: ImageFiles, bs: int, workers: list, peers: dict) -> dict:
    "A function for each that makes two views of every photograph once"
    views = tuple(map(BatchView, byol_policies(data.size)))
    res = dict(cached=partial(both, ours(data.in_memory(), bs), views))
    others = dict(albumentations=albumentations_views) | (dict(lightly=lightly_views) if 'lightly' in peers else {})
    for w in workers:
        res[f'files/{w}'] = partial(both, ours(data, bs, w), views)
        res |= {f'{name}/{w}': partial(drain, loader(data, f(data.size), bs, w)) for name, f in others.items()}
    return res

def parts(data: ImageFiles, bs: int, arch: str, repeats: int) -> dict:
    "Milliseconds of one photograph: opened whole, opened as small as it is needed, two views, and a step of the networks"
    some, views = range(bs), tuple(map(BatchView, byol_policies(data.size)))
    batch = next(iter(ours(data, bs)))[0]
    model, v = BYOL(create_encoder(arch, small=False), 1024, 256), [o(batch) for o in views]
    def step(): BYOLLoss()(model(*v), *model.targets(*v)).backward()
    jobs = {'decode whole': lambda: [Image.open(data.files[i]).convert('RGB') for i in some], 'decode and shrink': lambda: [data[i] for i in some],
        'two views': lambda: [o(batch) for o in views], f'step of {arch}': step}
    return medians(interleaved(jobs, repeats), 1000/bs)

def measure(data: ImageFiles, a: argparse.Namespace) -> dict:
    "Speeds, ratios and parts, and the number of workers that suits each best"
    times, chosen = best_workers(interleaved(contestants(data, a.bs, a.workers, a.peers), a.repeats))
    images, others = len(data)//a.bs*a.bs, [o for o in times if o not in ('files', 'cached')]
    return dict(images_per_second={k: round(images/statistics.median(o), 1) for k, o in times.items()},
        ratio={mine: {o: ratio(times, o, mine) for o in others} for mine in ('files', 'cached')}, milliseconds=parts(data, a.part_bs, a.arch, a.repeats), workers=chosen)

def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('path', type=Path, help='folder of photographs, at any depth')
    parser.add_argument('--n', type=int, default=512, help='at most so many of them')
    parser.add_argument('--sizes', type=int, nargs='+', default=[128, 224], help='of a view, pixels')
    parser.add_argument('--bs', type=int, default=64)
    parser.add_argument('--part-bs', type=int, default=16, help='photographs whose parts are measured')
    parser.add_argument('--arch', default='resnet18', help='whose step is measured beside the parts')
    parser.add_argument('--threads', type=int, default=2, help='of torch')
    parser.add_argument('--workers', type=int, nargs='+', default=[0, 2], help='each is measured with the best of them')
    parser.add_argument('--repeats', type=int, default=3)
    a = parser.parse_args(argv)
    if not a.path.expanduser().is_dir():
        print(f'There is no folder {a.path}, so nothing was measured: give a folder of photographs.')
        return
    set_threads(a.threads)
    a.peers = present(PEERS)
    found = {f'size_{o}': measure(load_source(a.path, o, a.n, memory_gb=0).train, a) for o in a.sizes}
    config = vars(a) | dict(path=a.path.name)
    path = record('photo_views', 'Two views of each photograph, from the file to the batch: images per second, how many times as fast as the others, and milliseconds of the parts',
        found, f'python benchmarks/photo_views.py {a.path.name}', **config)
    print(path.read_text())

if __name__ == '__main__': main()
