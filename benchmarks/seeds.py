"""One run says little: run every setting of an experiment with every seed that the ledger lacks, and write after each run.

An experiment is a file with a `main` that calls `experiment` here. All of them take the same options, may be killed at any time, and go on where they were:

    python benchmarks/taus.py --seeds 5 --settings 0.9,0.99 --threads 1

Runs are kept as long as what they trained stays the same; where recipe, views or images change, the experiment starts anew and says so.
"""
import argparse, hashlib, json, math, sys, time
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from statistics import mean
from byol_fastai import course
from byol_fastai.all import accuracy_of, embed, knn_predict, labelled_dls, linear_probe, load_source, make_shapes, run_config, source_policies
from byol_fastai.config import SOURCES, RunConfig
from byol_fastai.errors import UserValueError
from byol_fastai.evaluate import suitable_k
from byol_fastai.runs import run_learner
from ledger import file_of, record
from timing import set_threads

SEEDS = 5 # of every experiment on the embedded shapes
SHORT = dict(epochs=6, tau=.95, probe_every=1) # for experiments with many settings: less than half of the main job, in which good and bad settings are already far apart; the target is slower than there

# --- what is run

RECIPE = 'data size n arch n_hidden n_proj epochs bs lr tau opt wd predictor_lr_mult extra_views flat'.split() # fields of `RunConfig` on which a figure depends

def recipe(config: RunConfig) -> dict:
    "What all runs of an experiment have in common, so that a change of it is noticed: the options, the images, and the views"
    images = hashlib.sha256(make_shapes(20)[0].numpy().tobytes()).hexdigest()[:12] if config.data == 'shapes' else None
    views = [asdict(o) for o in source_policies(config.data, config.size or SOURCES[config.data])]
    return dict(run={k: v for k, v in asdict(config).items() if k in RECIPE and v is not None}, views=views, images=images)

@cache
def images_of(data: str, size: int | None, n: int | None): return load_source(data, size, n)

def labelled_of(config: RunConfig): return labelled_dls(images_of(config.data, config.size, config.n), n=config.n)

def learner(config: RunConfig, seed: int, **kwargs):
    "The silent learner of a run of `config`, with `kwargs` for `byol_learner`"
    learn, _ = run_learner(replace(config, seed=seed, guard=False), source=images_of(config.data, config.size, config.n), **kwargs)
    learn.logger = lambda row: None
    return learn

def fit(learn, config: RunConfig, **kwargs):
    "Train, as the main job does; `kwargs` are those of `fit_byol`"
    with learn.no_bar(): learn.fit_byol(config.epochs, **dict(lr=config.lr, flat=config.flat) | kwargs)
    return learn

def probes(encoder, config: RunConfig) -> dict:
    "kNN and linear accuracy of what any network makes of the labelled images; `None` where that is no finite number"
    bank, test = (embed(encoder, o) for o in labelled_of(config))
    if not all(o[0].isfinite().all() for o in (bank, test)): return dict(knn=None, linear=None)
    return dict(knn=accuracy_of(knn_predict(*bank, test[0], suitable_k(bank[1])), test[1]), linear=linear_probe(bank, test))

def history(learn) -> list:
    "What the progress table said after every epoch"
    names = learn.recorder.metric_names[1:-1] # between the epoch and the time
    return [dict(epoch=i, **dict(zip(names, row))) for i, row in enumerate(learn.recorder.values)]

def figures(learn, config: RunConfig, **more) -> dict:
    "What a finished run leaves in the ledger, and `more`"
    return {**probes(learn.model.encoder, config), **more, 'history': history(learn)}

# --- what is kept

def tidy(o, rows: int = 100):
    "Numbers in four digits, `None` for what is no number, and of a history at most `rows` rows"
    if isinstance(o, dict): return {str(k): tidy(v, rows) for k, v in o.items()}
    if isinstance(o, (list, tuple)): return [tidy(v, rows) for v in [*o[:-1:max(1, math.ceil(len(o)/rows))], *o[-1:]]]
    if o is None or isinstance(o, (str, bool, int)): return o
    return float(f'{float(o):.4g}') if math.isfinite(o) else None

def means(runs: dict) -> dict:
    "The mean over the seeds of each number that is common to runs: `figure('taus/knn/0.9')` in a lesson"
    found = {}
    for setting, seeds in runs.items():
        for run in seeds.values():
            for k, v in run.items():
                if isinstance(v, (int, float)) and k != 'seconds': found.setdefault(k, {}).setdefault(setting, []).append(v)
    return {k: {setting: round(mean(v), 4) for setting, v in o.items()} for k, o in found.items()}

def changes(before: dict, now: dict, above: str = '') -> list:
    "The names of what is not the same in two configurations"
    if not (isinstance(before, dict) and isinstance(now, dict)): return [above] if before != now else []
    return [o for k in sorted({*before, *now}) for o in changes(before.get(k), now.get(k), f'{above} {k}'.strip())]

class Table:
    "The runs of an experiment, as the ledger has them"
    def __init__(self, name: str, what: str, settings: list, config: dict, command: str, summary: Callable):
        self.name, self.what, self.settings, self.command, self.summary = name, what, settings, command, summary
        self.config = json.loads(json.dumps(config)) # as it is read back
        self.entry = self.read()
        self.fresh = changes(self.entry['config'], self.config) if self.entry else []
    def read(self) -> dict | None:
        path = file_of(self.name)
        return json.loads(path.read_text()) if path.exists() else None
    @property
    def runs(self) -> dict: # {setting: {seed: figures}}
        entry = self.read()
        known = entry['figures'].get('runs', {}) if entry and not changes(entry['config'], self.config) else {}
        return {o: known.get(o, {}) for o in [*self.settings, *(k for k in known if k not in self.settings)]}
    def lacks(self, names, seeds) -> list:
        "Which of the `seeds` are not there for all of these settings"
        runs = self.runs
        return [s for s in seeds if any(str(s) not in runs.get(o, {}) for o in names)]
    def add(self, setting: str, seed: int, figures: dict):
        "Put one run beside what is there by now: another process may have written as well"
        runs = self.runs
        runs[setting] = dict(sorted((runs.get(setting, {}) | {str(seed): tidy(figures)}).items(), key=lambda o: int(o[0])))
        seeds = max(map(len, runs.values()))
        record(self.name, self.what, dict(runs=runs) | self.summary(runs), self.command+(f' --seeds {seeds}' if seeds != SEEDS else ''), **self.config)

# --- one after the other

def names_of(jobs: dict) -> dict:
    "The jobs by the settings that they run: a job that runs one has its name for a key, one that runs several has a tuple of names"
    return {(k,) if isinstance(k, str) else k: job for k, job in jobs.items()}

def run_all(table: Table, jobs: dict, seeds: int, log=print):
    "Seed after seed, so that all settings have the same number of them; a job gives the figures of a run, or yields `(setting, figures)` for several"
    lacking = {names: table.lacks(names, range(seeds)) for names in names_of(jobs)}
    todo = [(seed, names, job) for seed in range(seeds) for names, job in names_of(jobs).items() if seed in lacking[names]]
    for i, (seed, names, job) in enumerate(todo):
        if not table.lacks(names, [seed]): continue # another process was faster
        began = time.perf_counter()
        made = job(seed)
        for setting, got in [(names[0], made)] if isinstance(made, dict) else made:
            table.add(setting, seed, dict(seconds=round(time.perf_counter()-began)) | got)
            shown = ', '.join(f'{k} {v:.3f}' for k, v in got.items() if isinstance(v, float))
            log(f'{table.name}, {setting}, seed {seed}: {shown} ({time.perf_counter()-began:.0f} s; {i+1} of {len(todo)})', flush=True)
            began = time.perf_counter()

def parse(argv, doc: str, settings: list, threads: int | None):
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument('--seeds', type=int, default=SEEDS, help='run the seeds 0, 1, ... up to so many')
    parser.add_argument('--settings', help=f"these only, with commas between them: {', '.join(settings)}")
    parser.add_argument('--threads', type=int, default=threads, help='of torch')
    parser.add_argument('--epochs', type=int, help='another length of the training; this starts the experiment anew')
    parser.add_argument('--n', type=int, help='fewer images; likewise')
    parser.add_argument('--bs', type=int, help='another batch; likewise')
    parser.add_argument('--out', type=Path, help='a folder for the results, instead of the ledger')
    a = parser.parse_args(argv)
    a.chosen = a.settings.split(',') if a.settings else settings
    unknown = [o for o in a.chosen if o not in settings]
    if unknown: parser.error(f"--settings: {', '.join(unknown)} not known; give some of {', '.join(settings)}")
    if a.seeds < 1: parser.error('--seeds: give at least 1')
    return a, parser

def experiment(name: str, what: str, jobs: Callable, argv=None, doc: str = '', settings: list | None = None, summary: Callable = means, preset: dict | None = None,
    threads: int | None = 1, command: str | None = None, **config):
    """The whole of an experiment: `jobs(config)` gives the jobs of each setting (a string) or group of settings (a tuple), as functions of the seed.
    `settings` are the rows of the table, by default those of the jobs; `preset` replaces fields of `run_config('shapes')`; `command` is what runs it, by default the file of that name; `config` is what else was chosen"""
    known = [o for k in names_of(jobs(run_config('shapes'))) for o in k]
    a, parser = parse(argv, doc or what, known, threads)
    sizes = {k: getattr(a, k) for k in ('epochs', 'n', 'bs') if getattr(a, k) is not None}
    try: chosen = run_config('shapes', **(preset or {}) | sizes, threads=a.threads)
    except UserValueError as e: parser.error(str(e))
    if a.threads: set_threads(a.threads)
    if a.out: course.RESULTS = a.out
    sized = ''.join(f' --{k} {v}' for k, v in sizes.items())
    table = Table(name, what, settings or known, recipe(chosen) | config, (command or f'python benchmarks/{name}.py')+sized, summary)
    if table.fresh: print(f"{name}: what the ledger has was measured with another {', '.join(table.fresh)}. The experiment starts anew, and the first run replaces it.", file=sys.stderr)
    run_all(table, {k: job for k, job in names_of(jobs(chosen)).items() if {*k} & {*a.chosen}}, a.seeds)
    print(f'{file_of(name)}: ' + ', '.join(f'{k} {len(v)}' for k, v in table.runs.items()) + ' runs')
