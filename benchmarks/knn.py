"""kNN of all test images of a CIFAR-10 against all its training images: how long, and in how much memory.

    python benchmarks/knn.py

The features are random numbers: time and memory do not depend on what they mean.
"""
import argparse
import torch
from byol_fastai.all import knn_predict
from ledger import record
from timing import command, forget_peak, memory_mb, seconds, set_threads

def measure(bank: torch.Tensor, labels: torch.Tensor, queries: torch.Tensor, k: int) -> dict:
    "Seconds, and the most memory that `knn_predict` needed on top of its arguments"
    before = memory_mb()
    forget_peak()
    took = seconds(lambda: knn_predict(bank, labels, queries, k), bank.device)
    return dict(seconds=round(took, 2), extra_mb=round(memory_mb(peak=True)-before, 1), all_similarities_mb=round(len(bank)*len(queries)*4/2**20, 1))

def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--bank', type=int, default=50_000, help='images with a label')
    parser.add_argument('--queries', type=int, default=10_000, help='images without')
    parser.add_argument('--features', type=int, default=512)
    parser.add_argument('--k', type=int, default=200)
    parser.add_argument('--threads', type=int, default=2, help='of torch')
    a = parser.parse_args(argv)
    set_threads(a.threads)
    torch.manual_seed(0)
    bank, queries, labels = torch.randn(a.bank, a.features), torch.randn(a.queries, a.features), torch.randint(10, (a.bank,))
    knn_predict(bank[:1000], labels[:1000], queries[:100], min(a.k, 1000)) # warm up
    figures = {str(n): measure(bank, labels, queries[:n], a.k) for n in (a.queries//4, a.queries)}
    path = record('knn', 'kNN by the number of queries: seconds, and memory beside what all similarities at once would take', figures, command(), **vars(a))
    print(path.read_text())

if __name__ == '__main__': main()
