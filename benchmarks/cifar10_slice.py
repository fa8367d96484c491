"""CIFAR-10 on a laptop: 5,000 images, the small encoder, a few epochs. Not the real thing, but real images.

    python benchmarks/cifar10_slice.py
"""
import json, subprocess, tempfile
from pathlib import Path
from ledger import record

OPTIONS = '--data cifar10 --arch tiny --n 5000 --epochs 30 --bs 128 --seed 0'.split()

if __name__ == '__main__':
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)/'run'
        subprocess.run(['byol_pretrain', *OPTIONS, '--out', str(out)], check=True)
        subprocess.run(['byol_evaluate', str(out)], check=True)
        report, evaluation = (json.loads((out/f'{o}.json').read_text()) for o in ('report', 'evaluation'))
    rows = dict(pixels='raw pixels', random='random encoder', byol='BYOL')
    figures = {short: dict(knn=report['probes'][row]['kNN'], linear=report['probes'][row]['linear']) for short, row in rows.items()}
    figures |= dict(linear_layer=evaluation['linear_layer'], seconds=report['seconds'], peak_memory_gb=report['peak_memory_gb'])
    print(record('cifar10_slice', 'CIFAR-10, 5,000 images, small encoder, held out: 5,000 test images', figures,
        'byol_pretrain '+' '.join(OPTIONS), run=report['config']))
