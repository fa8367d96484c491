"""Valid files, damaged in every way that comes to mind, for a bounded time: each must be read, or refused in a sentence.

    python benchmarks/fuzz.py --minutes 5

Whatever else happens (another exception, a minute without an answer, more memory than allowed) is a finding: the file is kept in `--out`,
and it belongs into tests/test_faults.py. An image that cannot be read may fail in any of Pillow's ways: whoever reads images catches them all (`ImageFiles.read`).
"""
import argparse, hashlib, io, random, resource, signal, sys, tempfile, time, warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
import torch
from PIL import Image
from byol_fastai.data import ImageFiles
from byol_fastai.errors import UserError
from byol_fastai.model import create_encoder
from byol_fastai.saving import load_encoder, save_encoder
from byol_fastai.sealed import _LENGTH, _SEAL, FORMAT, read_sealed, write_sealed

# --- valid files

SIZES = 0, 1, 2**15, 2**31-1, 2**32-1, 2**63-1
FORMATS = dict(jpg='JPEG', png='PNG', gif='GIF', webp='WEBP', tif='TIFF', bmp='BMP')

def images(draw: random.Random) -> dict:
    "A small picture in each of the common formats"
    im, made = Image.frombytes('RGB', (23, 17), draw.randbytes(23*17*3)), {}
    for suffix, kind in FORMATS.items():
        im.save(file := io.BytesIO(), kind)
        made[suffix] = file.getvalue()
    return made

def encoder(folder: Path) -> tuple:
    "The two files of a tiny encoder"
    file = save_encoder(folder/'valid', create_encoder('tiny'), 'tiny', 16)
    return file.read_bytes(), file.with_suffix('.json').read_bytes()

def checkpoint(folder: Path) -> bytes:
    write_sealed(folder/'valid', dict(epoch=3, model={str(i): torch.ones(i, 3) for i in range(5)}, history=[dict(loss=1.)], random=(3, (1, 2), None)))
    return (folder/'valid').read_bytes()

# --- damage

def mutated(data: bytes, draw: random.Random) -> bytes:
    "A few kinds of damage, one after the other: bits and bytes, lengths, numbers in headers, parts lost, doubled or in another place"
    data = bytearray(data)
    for _ in range(draw.choice((1, 1, 1, 2, 4, 16))):
        n = max(1, len(data))
        i, j = sorted(draw.randrange(n) for _ in range(2))
        kind, w = draw.randrange(7), draw.choice((2, 4, 8))
        if kind==0 and i<len(data): data[i] ^= 1<<draw.randrange(8)
        if kind==1: data[i:i+1] = draw.randbytes(1)
        if kind==2: del data[i:]
        if kind==3: del data[i:i+draw.choice((1, 4, 64))]
        if kind==4: data[i:i] = data[i:j][:4096]
        if kind==5: data[i:i+w] = (draw.choice(SIZES)%2**(8*w)).to_bytes(w, draw.choice(('little', 'big')))
        if kind==6: data[i:j] = bytes(j-i)
    return bytes(data)

def sealed_again(data: bytes) -> bytes:
    "With a right seal: as somebody would do it who means harm"
    data = data[:-_LENGTH]
    return data+_SEAL%(FORMAT, hashlib.sha256(data).hexdigest().encode())

# --- what is tried

def targets(folder: Path, draw: random.Random) -> dict:
    "By name: what makes a damaged file, and what reads it"
    pictures, (weights, card), saved = images(draw), encoder(folder), checkpoint(folder)
    def read_picture(data):
        (folder/'x').write_bytes(data)
        ImageFiles([folder/'x'], [0], 16, max_pixels=10**6).read(0)
    def read_both(w, c):
        (folder/'e.safetensors').write_bytes(w)
        (folder/'e.json').write_bytes(c)
        load_encoder(folder/'e')
    def read_checkpoint(data):
        (folder/'c').write_bytes(data)
        read_sealed(folder/'c')
    return dict(image=(lambda: mutated(pictures[draw.choice([*pictures])], draw), read_picture),
        weights=(lambda: mutated(weights, draw), lambda o: read_both(o, card)),
        card=(lambda: mutated(card, draw), lambda o: read_both(weights, o)),
        checkpoint=(lambda: mutated(saved, draw), read_checkpoint),
        forged=(lambda: sealed_again(mutated(saved, draw)+bytes(_LENGTH)), read_checkpoint))

class Late(BaseException): "No answer in time; no `except Exception` may swallow it"

def attempt(read: Callable, data: bytes, seconds: int) -> str:
    "`read`, `refused`, or the name of what should not have happened"
    def late(number, frame): raise Late(f'no answer in {seconds} seconds')
    signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        read(data)
        return 'read'
    except UserError as e: return 'refused' if str(e).strip() else 'a refusal without words'
    except (Exception, Late) as e: return f'{type(e).__name__}: {e}'
    finally: signal.alarm(0)

def fuzz(minutes: float, seed: int, out: Path, seconds: int = 60) -> dict:
    "By kind of file how often it was read, refused, or a finding; each finding is kept in the folder `out`"
    counts, end, draw = {}, time.monotonic()+60*minutes, random.Random(seed)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter('ignore')
        known = targets(Path(folder), draw)
        while time.monotonic()<end:
            for name, (make, read) in known.items():
                ended = attempt(read, data := make(), seconds)
                kind, of = ended if ended in ('read', 'refused') else 'finding', counts.setdefault(name, Counter())
                of[kind] += 1
                if kind!='finding': continue
                out.mkdir(parents=True, exist_ok=True)
                (out/f'{name}-{seed}-{of[kind]}').write_bytes(data)
                print(f'{name}: {ended}', flush=True)
    return counts

def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--minutes', type=float, default=5)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--memory-gb', type=float, default=4, help='more than the program has at the beginning is a finding')
    parser.add_argument('--out', type=Path, default=Path('findings'), help='a folder for what was found')
    a = parser.parse_args(argv)
    if a.minutes <= 0 or a.memory_gb <= 0: parser.error('--minutes and --memory-gb must be positive')
    used = int(next(o.split()[1] for o in open('/proc/self/status') if o.startswith('VmSize')))*1024
    resource.setrlimit(resource.RLIMIT_AS, (used+int(a.memory_gb*2**30),)*2)
    counts = fuzz(a.minutes, a.seed, a.out)
    for name, of in counts.items(): print(f'{name}: '+', '.join(f'{v:,} {k}' for k, v in of.items()))
    if any(of['finding'] for of in counts.values()): sys.exit(f'What was found lies in {a.out}: turn it into tests.')

if __name__ == '__main__': main()
