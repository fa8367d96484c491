import argparse
from fastai.vision.all import *
from byol_fastai.collapse import CollapseError
from byol_fastai.runs import *
from fastprogress.fastprogress import format_time
from functools import wraps
from importlib.metadata import version

class SayRows(Callback):
    "The rows of the progress table as plain lines, where there is no terminal to draw a bar on"
    order = ProgressCallback.order
    def before_fit(self):
        self.old,self.learn.logger = self.learn.logger,self.say
        self.say(self.recorder.metric_names)
    def say(self, row): print('  '.join(f'{o:<14.4f}' if isinstance(o, float) else f'{o!s:<14}' for o in row), flush=True)
    def after_fit(self): self.learn.logger = self.old

class TimeLeft(Callback):
    "Minutes and seconds to the end of the fit, as a column of the progress table"
    order = 45 # before the recorder writes the row
    def before_fit(self):
        self.start,self.done = time.time(),0
        self.column = ValueMetric(self.left, 'left')
        self.learn.metrics = self.learn.metrics + [self.column]
    def before_train(self): self.done += 1
    def left(self): return format_time((time.time()-self.start)/self.done*(self.n_epoch-1-self.epoch))
    def after_fit(self): self.learn.metrics = [m for m in self.learn.metrics if m is not self.column]

def parser()->argparse.ArgumentParser:
    "The options of `byol_pretrain`"
    p = argparse.ArgumentParser('byol_pretrain', description='Pretrain an image encoder without labels, by BYOL. Without options: on the embedded shapes, on any computer, in about two minutes.',
        formatter_class=argparse.RawDescriptionHelpFormatter, epilog='examples:\n  byol_pretrain\n  byol_pretrain --data cifar10 --arch resnet18 --epochs 200\n  byol_pretrain --data path/to/photos --size 128\n  byol_pretrain --resume runs/shapes')
    add = p.add_argument
    add('--data', default=None, help="shapes (default), cifar10, imagenette, pets, or a folder of images")
    add('--arch', help="'tiny', or a backbone of timm or torchvision such as resnet18")
    add('--epochs', type=int, help='length of the schedule')
    add('--n', type=int, help='use at most so many images')
    add('--bs', type=int, help='images in a batch')
    add('--size', type=int, help='side of a view, pixels')
    add('--lr', type=float, help='highest learning rate')
    add('--tau', type=float, help='decay of the target network at the first step')
    add('--seed', type=int, help='of everything random')
    add('--out', help="run folder to make; by default a new one in 'runs'")
    add('--resume', metavar='RUN', help='go on with an interrupted run; its own options hold')
    return p

def new_folder(
    data:str, # Name of a source, or a path
    root:str='runs',
)->Path: # Does not exist yet
    "The first free folder name for a run on `data`"
    stem = Path(root)/Path(data).name
    return first(o for o in [stem, *(Path(f'{stem}-{i}') for i in range(2, 10**6))] if not o.exists())

def _sentences(main):
    "Where the user can cure an error, say it in one sentence and exit with 1 instead of showing a traceback"
    @wraps(main)
    def _inner(args:list|None=None):
        try: return main(args)
        except (ValueError, FileNotFoundError, FileExistsError, PermissionError, CollapseError) as e: sys.exit(f'{main.__name__}: {e}')
    return _inner

def show_probes(probes:dict):
    "The comparison, as a table of percentages"
    print((100*pd.DataFrame(probes).T).round(1).rename(columns=dict(kNN='kNN %', linear='linear %')).to_string())

@_sentences
def byol_pretrain(
    args:list|None=None, # Command line; by default that of the program
):
    "Pretrain an encoder and leave a run folder"
    o = vars(parser().parse_args(args))
    resume,out,data = o.pop('resume'),o.pop('out'),o.pop('data') or 'shapes'
    if resume:
        given = [k for k,v in dict(o, out=out).items() if v is not None]
        if given: raise ValueError(f"--resume goes on with the options of {resume}: leave out {', '.join('--'+k for k in given)}.")
        run = Run.open(resume)
        if (run.path/'report.json').exists(): raise FileExistsError(f"The run in {resume} is complete; see {run.path/'report.json'}, or start another with --out.")
    else: run = Run.create(out or new_folder(data), run_config(data, **o))
    c = run.config
    print(f"byol_fastai {version('byol_fastai')}: {c.arch} on {c.data}, {c.epochs} epochs, into {run.path}", flush=True)
    bar = sys.stdout.isatty()
    try: report = pretrain(run, [TimeLeft()] if bar else [TimeLeft(), SayRows()], bar)
    except KeyboardInterrupt: sys.exit(f"\nInterrupted. Go on with: byol_pretrain --resume {run.path}")
    if not report['complete']: raise CollapseError(f"Stopped after {report['epochs']} of {c.epochs} epochs; what there is lies in {run.path}.")
    if report['probes']:
        print('\nAccuracy on images that were kept apart:\n')
        show_probes(report['probes'])
    print(f"\n{report['seconds']:.0f} s, {report['peak_memory_gb']:.1f} GB at most. In {run.path}:")
    for name,what in RUN_FILES.items(): print(f'  {name:<20} {what}')
    print(f"\nNext: look at {run.path/'neighbours.png'}; measure more with: byol_evaluate {run.path}\nUse it: from byol_fastai.all import *; encoder = load_encoder({str(run.path)!r})")

RUN_FILES = {'encoder.safetensors':'the weights, with encoder.json beside them', 'checkpoint':'to go on with --resume', 'history.csv':'every epoch',
    'report.json':'the comparison, and how it was made', 'curves.png':'loss, feature std, effective rank, kNN', 'views.png':'what the network got to see', 'neighbours.png':'nearest neighbours of images kept apart'}

@_sentences
def byol_evaluate(
    args:list|None=None, # Command line; by default that of the program
):
    "Probe the encoder of a run and write `evaluation.json` beside it"
    p = argparse.ArgumentParser('byol_evaluate', description='kNN, logistic regression and the linear layer of the paper on the encoder of a run.')
    p.add_argument('run', help='run folder of byol_pretrain')
    p.add_argument('--n', type=int, help='use at most so many images of each split; by default as many as the run trained on')
    p.add_argument('--epochs', type=int, default=10, help='for the linear layer')
    o = p.parse_args(args)
    if o.epochs<1: raise ValueError(f"--epochs {o.epochs}: train the linear layer for at least one epoch.")
    run = Run.open(o.run)
    report = evaluate(run, o.n, o.epochs)
    show_probes(report['probes'])
    print(f"\nLinear layer on augmented images, {o.epochs} epochs: {100*report['linear_layer']:.1f} %\nWritten to {run.path/'evaluation.json'}")
