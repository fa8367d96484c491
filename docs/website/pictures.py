"The pictures of the project: BYOL itself for README and site, and the card that social networks show."
from pathlib import Path
import matplotlib
matplotlib.use('Agg')
from matplotlib import pyplot as plt
from byol_fastai.pictures import COLOURS, draw_byol
from .project import settings

def social(path: Path):
    "The card, 1200 x 630 pixels: the name, what it is for, and the picture"
    fig = draw_byol((12, 6.3))
    ax, = fig.axes
    fig.set_layout_engine('none')
    ax.set_position([.03, .03, .94, .62])
    fig.text(.05, .84, settings()['repo'], fontsize=54, weight='bold', color=COLOURS['blue'], va='center')
    fig.text(.05, .71, 'Learn self-supervised learning by building it: BYOL, with fastai', fontsize=23, color='#444444', va='center')
    fig.savefig(path, dpi=100, facecolor='white')
    plt.close(fig)
