"""Draw the first picture of the home page: photographs and the ones that the encoder finds most alike, before its training and after it.

    python docs/neighbours.py       # looks for CIFAR-10 as any fastai program does, and writes docs/_static/neighbours.jpg

The encoder is the one that comes with the package, the queries are the first images of the test set: nothing is chosen.
"""
import matplotlib.pyplot as plt, torch
from fastai.vision.all import set_seed
from byol_fastai.all import create_encoder, embed, labelled_dls, load_encoder
from byol_fastai.pictures import nearest

from website.project import ROOT

NAME, QUERIES, NEIGHBOURS = 'cifar10-small', 6, 5

def found(encoder, dls) -> torch.Tensor:
    "Rows of the bank that are nearest to each query, [Q,k]"
    bank, queries = (embed(encoder, o)[0] for o in dls)
    return nearest(bank, queries[:QUERIES], NEIGHBOURS)

def draw(blocks: dict, dls) -> plt.Figure:
    "The queries on the left, and a block of neighbours for each encoder"
    widths = [1, *[NEIGHBOURS]*len(blocks)]
    fig, axs = plt.subplots(1, len(widths), figsize=(9, 5), width_ratios=widths, layout='constrained', facecolor='white')
    columns = {'query': [[dls.valid.dataset[i][0]] for i in range(QUERIES)]} | {
        title: [[dls.train.dataset[j][0] for j in row] for row in rows.tolist()] for title, rows in blocks.items()}
    for ax, (title, rows) in zip(axs, columns.items()):
        pixels = torch.cat([torch.cat([im[:3] for im in row], 2) for row in rows], 1)
        ax.imshow(pixels.permute(1, 2, 0).numpy(), interpolation='bicubic')
        ax.set_title(title, fontsize=12)
        ax.set_axis_off()
    return fig

if __name__ == '__main__':
    dls, trained = labelled_dls('cifar10'), load_encoder(NAME)
    set_seed(0)
    untrained = create_encoder(**trained.info['recipe'])
    blocks = {'most alike before the training': found(untrained, dls), 'after BYOL, which was told no label': found(trained, dls)}
    draw(blocks, dls).savefig(ROOT/'docs'/'_static'/'neighbours.jpg', dpi=110, bbox_inches='tight', pil_kwargs=dict(quality=85))
