"""Listing a folder of a million images: how long, and in how much memory, until it is known what there is.

    python benchmarks/listing.py

The files are empty, each a file of its own in one of many class folders: to list them nothing is read but names and sizes.
"""
import argparse, os, tempfile, time
from pathlib import Path
from byol_fastai.files import find_images, fingerprint
from ledger import record
from timing import command, forget_peak, memory_mb, seconds

def make_files(root: Path, n: int, per_folder: int):
    "`n` empty files named as photographs are, `per_folder` in each folder"
    for i in range(n):
        folder = root/f'class_{i//per_folder:04d}'
        if i%per_folder==0: folder.mkdir(parents=True)
        os.close(os.open(folder/f'IMG_{i:07d}.jpg', os.O_CREAT | os.O_WRONLY))

def measure(n: int, per_folder: int, root: Path | None = None) -> dict:
    "Seconds and memory of `find_images` and of the fingerprint, for `n` files"
    with tempfile.TemporaryDirectory(dir=root) as folder:
        made = seconds(lambda: make_files(Path(folder), n, per_folder))
        found, before = [], memory_mb()
        forget_peak()
        cpu = time.process_time()
        took = seconds(lambda: found.append(find_images(folder)))
        cpu = time.process_time()-cpu # beside other programs the clock says little, and this still what it costs
        extra = memory_mb(peak=True)-before
        images = found[0]
        assert len(images.names)==n and len(images.train)+len(images.test)==n
        marked = seconds(lambda: fingerprint(images))
    return dict(seconds=round(took, 2), cpu_seconds=round(cpu, 2), cpu_microseconds_per_file=round(1e6*cpu/n, 1), extra_mb=round(extra, 1), bytes_per_file=round(extra*2**20/n),
        fingerprint_seconds=round(marked, 2), making_seconds=round(made, 1))

def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--files', type=int, nargs='+', default=[10_000, 100_000, 1_000_000])
    parser.add_argument('--per-folder', type=int, default=1000, help='files in one folder')
    parser.add_argument('--root', type=Path, help='where to make them for a while; by default where temporary files lie')
    a = parser.parse_args(argv)
    if any(o<1 for o in (*a.files, a.per_folder)): parser.error('numbers of files must be positive')
    figures = {str(n): measure(n, a.per_folder, a.root) for n in a.files}
    path = record('listing', '`find_images` by the number of files: seconds, and memory on top of what the program holds without them', figures, command(),
        files=a.files, per_folder=a.per_folder)
    print(path.read_text())

if __name__ == '__main__': main()
