"""Images per second out of a folder of JPEGs, and out of the same photographs packed into shards, in one process on one core.

    python benchmarks/packing.py path/to/photos

Everybody hands out the same photographs as bytes of `size` x `size` pixels, in an order of their own. The shards are those of
`webdataset`, tar files: of the files as they are, of JPEGs that were made small before, and of pixels that need no decoding.
"""
import argparse, io, statistics, tempfile
from functools import partial
from pathlib import Path
import numpy as np
from fastai.vision.all import get_image_files
from PIL import Image
from ledger import record
from timing import interleaved, present, ratio, set_threads

PACKED = 'shards', 'small shards', 'pixel shards'

def pixels(image: Image.Image, size: int) -> np.ndarray:
    "A photograph as a square of bytes; a JPEG is decoded no larger than needed"
    image.draft('RGB', (size, size))
    return np.asarray(image.convert('RGB').resize((size, size), Image.Resampling.BILINEAR))

def opened(data: bytes, size: int) -> np.ndarray: return pixels(Image.open(io.BytesIO(data)), size)

def pixels_in(path: Path) -> int:
    with Image.open(path) as image: return image.width*image.height

def small_jpeg(path: Path, size: int) -> bytes:
    out = io.BytesIO()
    Image.fromarray(opened(path.read_bytes(), size)).save(out, 'jpeg', quality=90)
    return out.getvalue()

CONTENTS = {'shards': dict(jpg=lambda f, size: f.read_bytes()), 'small shards': dict(jpg=small_jpeg),
    'pixel shards': dict(npy=lambda f, size: opened(f.read_bytes(), size))}

def pack(files: list, folder: Path, kind: str, size: int, per_shard: int):
    "Write the files into shards of one kind"
    import webdataset as wds
    folder.mkdir(parents=True)
    (suffix, make), = CONTENTS[kind].items()
    with wds.ShardWriter(f'{folder}/%04d.tar', maxcount=per_shard, verbose=0) as out:
        for i, f in enumerate(files): out.write({'__key__': f'{i:08}', suffix: make(f, size)})

def samples(folder: Path):
    "The shards in a random order, and the samples shuffled among 1000"
    import webdataset as wds
    return wds.WebDataset([str(o) for o in sorted(folder.glob('*.tar'))], shardshuffle=100, seed=0).shuffle(1000)

def from_shards(folder: Path, size: int):
    for o in samples(folder): yield opened(o['jpg'], size)

def from_pixels(folder: Path, size: int):
    for o in samples(folder): yield np.lib.format.read_array(io.BytesIO(o['npy']))

def from_folder(files: list, size: int):
    for i in np.random.default_rng(0).permutation(len(files)): yield opened(files[i].read_bytes(), size)

def bytes_of_files(files: list):
    for i in np.random.default_rng(0).permutation(len(files)): yield files[i].read_bytes()

def drain(make, n: int):
    "Read all, and see that all were there"
    read = sum(1 for _ in make())
    if read != n: raise RuntimeError(f'{read} of {n} photographs were read')

def jobs(files: list, work: Path, size: int) -> dict:
    res = {'folder': partial(from_folder, files, size), 'folder, bytes only': partial(bytes_of_files, files)}
    if not present(dict(webdataset='webdataset')): return res
    return res | {k: partial(from_pixels if k == 'pixel shards' else from_shards, work/k, size) for k in PACKED} | {'shards, bytes only': partial(samples, work/'shards')}

def measure(files: list, work: Path, size: int, per_shard: int, repeats: int) -> dict:
    "Images per second of each, how many times as fast as the folder, and what each takes on the disk"
    run = {k: partial(drain, o, len(files)) for k, o in jobs(files, work, size).items()}
    megabytes = dict(folder=sum(f.stat().st_size for f in files)/2**20)
    for kind in PACKED:
        if kind not in run: continue
        pack(files, work/kind, kind, size, per_shard)
        megabytes[kind] = sum(o.stat().st_size for o in (work/kind).glob('*.tar'))/2**20
    times = interleaved(run, repeats)
    return dict(images_per_second={k: round(len(files)/statistics.median(v), 1) for k, v in times.items()},
        ratio={k: ratio(times, 'folder', k) for k in times if k != 'folder'}, megabytes={k: round(v, 1) for k, v in megabytes.items()},
        pixels=round(statistics.mean(map(pixels_in, files))))

def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('path', type=Path, help='folder of photographs, at any depth')
    parser.add_argument('--n', type=int, default=1000, help='at most so many of them')
    parser.add_argument('--size', type=int, default=128, help='of what is handed out, pixels')
    parser.add_argument('--per-shard', type=int, default=250, help='photographs in a shard')
    parser.add_argument('--repeats', type=int, default=3)
    a = parser.parse_args(argv)
    if not a.path.expanduser().is_dir():
        print(f'There is no folder {a.path}, so nothing was measured: give a folder of photographs.')
        return
    set_threads(1)
    files = sorted(get_image_files(a.path.expanduser()))[:a.n]
    with tempfile.TemporaryDirectory() as work: figures = measure(files, Path(work), a.size, a.per_shard, a.repeats)
    config = vars(a) | dict(path=a.path.name, images=len(files))
    record('packing', 'Photographs per second out of a folder of files and out of shards of webdataset, in one process', figures, f'python benchmarks/packing.py {a.path.name}', **config)

if __name__ == '__main__': main()
