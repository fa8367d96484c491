"""Whatever dies, nothing is lost: processes killed at any instant, damaged files, full disks, clocks and images that change, and no socket opened.

`BYOL_FASTAI_KILLS=100 pytest tests/test_faults.py -k random_moments` kills a hundred times instead of a few."""
import errno, hashlib, json, math, multiprocessing, os, random, re, shutil, signal, socket, subprocess, sys, time, warnings, zipfile
from pathlib import Path
import pytest, torch
from fastai.vision.all import Callback, set_seed
from hypothesis import given, settings, strategies as st
from safetensors.torch import load_file
from byol_fastai import runs, sealed
from byol_fastai.cli import byol_pretrain, sentence
from byol_fastai.config import Run, run_config
from byol_fastai.data import byol_dls, load_source, read_image
from byol_fastai.errors import UserError
from byol_fastai.learner import byol_learner
from byol_fastai.model import TinyResNet
from byol_fastai.runs import compare_runs, pretrain
from byol_fastai.saving import load_encoder, read_checkpoint
from byol_fastai.sealed import Damaged, is_sealed, previous_of, read_newest, read_sealed, write_sealed
from conftest import Do, same, write_images

TINY = dict(n=72, bs=16, size=16, epochs=3, n_hidden=16, n_proj=8, every=0) # four batches an epoch, and a checkpoint after each
posix = pytest.mark.skipif(os.name!='posix', reason='processes of POSIX')

class Quiet(Callback):
    order = -99
    def before_fit(self): self.learn.logger = lambda row: None

def go(path, *cbs, **kwargs):
    "Make a run in `path`, or go on with the one that is there"
    o = Run.open(path) if (path/'config.json').exists() else Run.create(path, run_config('shapes', **{**TINY, **kwargs}))
    return pretrain(o, [Quiet(), *cbs], bar=False)

def values(o):
    "All that a checkpoint or a report says, but what the clock said; tensors by their bytes"
    if isinstance(o, dict): return {k: values(v) for k,v in o.items() if k not in ('time', 'seconds', 'peak_memory_gb')}
    if isinstance(o, (list, tuple)): return [values(v) for v in o]
    return (str(o.dtype), tuple(o.shape), o.numpy().tobytes()) if isinstance(o, torch.Tensor) else o

def outcome(path):
    "What must be the same however often a run was killed: weights, target, optimizer, schedule, random state, history, encoder and what was measured"
    return values(dict(checkpoint=read_checkpoint(path/'checkpoint'), report=json.loads((path/'report.json').read_text()),
        encoder=load_file(path/'encoder.safetensors'), card=json.loads((path/'encoder.json').read_text())))

def differ(a, b, at=''):
    "Where two outcomes are not the same"
    if isinstance(a, dict) and isinstance(b, dict): return [o for k in {**a, **b} for o in differ(a.get(k), b.get(k), f'{at}/{k}')]
    return [] if a==b else [at]

FILES = 'checkpoint config.json curves.png encoder.json encoder.safetensors history.csv neighbours.png report.json views.png'.split()

@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    "A run that nobody disturbs"
    path = tmp_path_factory.mktemp('faults')/'whole'
    go(path)
    return path

def assert_as_undisturbed(path, whole):
    assert differ(outcome(path), outcome(whole))==[] and compare_runs(Run.open(path), Run.open(whole))['same']
    assert sorted(o.name for o in path.iterdir())==FILES, 'no half files, and nothing left over'

# --- killed

def _child(path, prepare):
    warnings.simplefilter('ignore') # that the one before is taken is said as a warning
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    if prepare: prepare()
    go(path)
    os._exit(0)

def in_child(path, prepare=None):
    "The run in a process of its own, a copy of this one"
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', DeprecationWarning) # of fork beside threads, from Python 3.12 on
        p = multiprocessing.get_context('fork').Process(target=_child, args=(path, prepare))
        p.start()
    return p

def die(): os.kill(os.getpid(), signal.SIGKILL)

def at_write(n):
    "Die at the n-th write of bytes into a checkpoint"
    def prepare():
        real,left = sealed._Summing.write, [n]
        def write(self, data):
            left[0] -= 1
            if not left[0]:
                self.f.write(bytes(data)[:len(data)//2]); self.f.flush()
                die()
            return real(self, data)
        sealed._Summing.write = write
    return prepare

def at_rename(name, after=False, n=1):
    "Die as the n-th file comes to be called `name`, just before or just after"
    def prepare():
        real,left = os.replace, [n]
        def replace(a, b):
            left[0] -= Path(b).name==name
            if not left[0] and not after: die()
            real(a, b)
            if not left[0]: die()
        os.replace = replace
    return prepare

def in_call(module, name, n=1):
    "Die at the n-th call of a function"
    def prepare():
        left = [n]
        def dies(*args, **kwargs):
            left[0] -= 1
            if not left[0]: die()
            return real(*args, **kwargs)
        real = getattr(module, name)
        setattr(module, name, dies)
    return prepare

MOMENTS = [at_rename('config.json'), at_write(1), at_write(40), at_rename('checkpoint'), at_rename('checkpoint.previous', n=2), at_rename('checkpoint.previous', after=True, n=2),
    at_rename('checkpoint', after=True, n=3), at_write(400), at_rename('encoder.safetensors'), at_rename('encoder.safetensors', after=True), at_rename('encoder.json', after=True),
    at_rename('history.csv'), at_rename('report.json'), in_call(runs, 'compare_features'), at_rename('report.json', n=2), in_call(runs, 'save_figure', 2), at_rename('neighbours.png'),
    at_rename('report.json', n=3)] # in their order in time

@posix
def test_a_run_that_is_killed_at_every_delicate_moment_ends_as_one_that_was_not(whole, tmp_path):
    "Inside a write of a checkpoint, between the two renames, between encoder and card and report, in the probes and in the pictures: one run, killed at one after the other"
    died = 0
    for prepare in MOMENTS:
        p = in_child(tmp_path/'r', prepare)
        p.join(120)
        assert p.exitcode in (-signal.SIGKILL, 0)
        died += p.exitcode!=0
    assert died==len(MOMENTS), 'each moment came'
    p = in_child(tmp_path/'r'); p.join(120)
    assert p.exitcode==0
    assert_as_undisturbed(tmp_path/'r', whole)

@posix
def test_a_run_that_is_killed_at_random_moments_ends_as_one_that_was_not(whole, tmp_path):
    began = time.monotonic()
    p = in_child(tmp_path/'timed'); p.join(120)
    took,kills,i,draw = time.monotonic()-began, int(os.environ.get('BYOL_FASTAI_KILLS', 12)), 0, random.Random(0)
    while kills>0:
        path,i = tmp_path/f'r{i}', i+1
        for _ in range(4):
            p = in_child(path)
            p.join(draw.uniform(.02, .6)*took)
            p.kill(); p.join()
            kills -= p.exitcode!=0
            if p.exitcode==0: break
        else:
            p = in_child(path); p.join(120)
        assert p.exitcode==0
        assert_as_undisturbed(path, whole)
        shutil.rmtree(path)

# --- damaged checkpoints

@pytest.fixture(scope='module')
def checkpoints(tmp_path_factory):
    "The newest checkpoint and the one before, of a run that was stopped, and what both say"
    path = tmp_path_factory.mktemp('checkpoints')/'r'
    def stop(cb):
        if cb.training and cb.epoch==1 and cb.iter==2: raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt): go(path, Do(after_batch=stop, order=90))
    file = path/'checkpoint'
    files = [o.read_bytes() for o in (file, previous_of(file))]
    told = [values(read_sealed(o)) for o in (file, previous_of(file))]
    assert [(o['epoch'], o['batch']) for o in told]==[(1, 3), (1, 2)]
    return file,files,told

def lay(checkpoints, newest=None, before=None):
    file,(a,b),_ = checkpoints
    file.write_bytes(a if newest is None else newest)
    previous_of(file).write_bytes(b if before is None else before)
    return file

def flipped(data, where, bit):
    i = int(where*(len(data)-1))
    return data[:i]+bytes([data[i]^(1<<bit)])+data[i+1:]

damage = st.one_of(st.tuples(st.just('flip'), st.floats(0, 1), st.integers(0, 7)), st.tuples(st.just('cut'), st.floats(0, .999999), st.just(0)),
    st.tuples(st.just('zeros'), st.floats(0, .999), st.just(0)), st.tuples(st.just('longer'), st.floats(0, 1), st.integers(0, 7)))
def hurt(data, how):
    what,where,bit = how
    if what=='flip': return flipped(data, where, bit)
    i = int(where*len(data))
    if what=='cut': return data[:i]
    if what=='longer': return data+data[:i]+bytes([bit])
    return data[:i]+bytes(min(4096, len(data)-i))+data[i+4096:] # a page that never came to the disk

@settings(max_examples=50)
@given(how=damage)
def test_a_damaged_checkpoint_is_noticed_and_the_one_before_is_taken_and_that_is_said(how, checkpoints):
    newest = hurt(checkpoints[1][0], how)
    file = lay(checkpoints, newest)
    state,said = read_newest(file)
    if newest==checkpoints[1][0]: assert values(state)==checkpoints[2][0] and said is None
    else: assert values(state)==checkpoints[2][1] and said.startswith('Going on from the one before, checkpoint.previous') and 'is damaged' in said

@settings(max_examples=20)
@given(how=damage, also=damage)
def test_where_both_are_damaged_a_sentence_says_so(how, also, checkpoints):
    newest,before = (hurt(o, h) for o,h in zip(checkpoints[1], (how, also)))
    if newest==checkpoints[1][0] or before==checkpoints[1][1]: return
    with pytest.raises(UserError, match='is damaged or not a checkpoint at all.*There is no good one beside it'): read_checkpoint(lay(checkpoints, newest, before))

def test_a_damaged_checkpoint_never_takes_the_place_of_a_good_one(checkpoints, whole, tmp_path):
    "Or a second accident would find none"
    file = lay(checkpoints, checkpoints[1][0][:-1])
    run = Path(shutil.copytree(file.parent, tmp_path/'r'))
    seen = []
    class Look(Callback):
        order = 90 # after the checkpoint
        def after_batch(self):
            if self.training: seen.append(is_sealed(previous_of(run/'checkpoint')))
    with pytest.warns(UserWarning, match='Going on from the one before'): go(run, Look())
    assert seen and all(seen)
    assert_as_undisturbed(run, whole)

def test_the_message_reaches_the_user_of_the_program(checkpoints, tmp_path, recwarn):
    run = Path(shutil.copytree(lay(checkpoints, b'').parent, tmp_path/'r'))
    warnings.simplefilter('always')
    byol_pretrain(['--resume', str(run)])
    assert any(re.match('Going on from the one before, checkpoint.previous: .*checkpoint is damaged', str(o.message)) for o in recwarn)

def test_a_checkpoint_of_a_later_version_is_refused_and_not_gone_past(checkpoints):
    file = lay(checkpoints, checkpoints[1][0].replace(b'byol_fastai checkpoint 0002', b'byol_fastai checkpoint 0003'))
    with pytest.raises(UserError, match=r'later version of byol_fastai \(format 3, this one knows 2\)'): read_checkpoint(file)

def test_a_checkpoint_is_hashed_as_it_is_written_and_opens_with_torch_alone(tmp_path):
    write_sealed(tmp_path/'c', dict(epoch=3, w=torch.arange(1000.)))
    assert torch.load(tmp_path/'c', weights_only=True)['epoch']==3 and is_sealed(tmp_path/'c')

# --- files of others

class Code:
    def __reduce__(self): return os.mkdir, ('made-by-a-pickle',)

def test_what_is_sealed_by_others_runs_no_code_and_unpacks_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_sealed(tmp_path/'code', dict(epoch=Code()))
    with pytest.raises(Damaged, match='something else than tensors and values'): read_sealed(tmp_path/'code')
    assert not Path('made-by-a-pickle').exists()
    torch.save(dict(w=torch.zeros(2**20)), tmp_path/'zeros')
    with zipfile.ZipFile(tmp_path/'zeros') as a, zipfile.ZipFile(tmp_path/'packed', 'w', zipfile.ZIP_DEFLATED) as b:
        for o in a.namelist(): b.writestr(o, a.read(o))
    packed = (tmp_path/'packed').read_bytes()
    assert len(packed)<2**16, 'four megabytes in less than 64 kilobytes'
    (tmp_path/'packed').write_bytes(packed+sealed._SEAL%(2, hashlib.sha256(packed).hexdigest().encode()))
    with pytest.raises(Damaged, match='something else'): read_sealed(tmp_path/'packed')

BLOCKED = '''
import sys
def refuse(event, args):
    if event in ('socket.connect', 'socket.sendto', 'socket.getaddrinfo', 'socket.gethostbyname', 'urllib.Request') and not (event=='socket.connect' and isinstance(args[1], (str, bytes))):
        print('OPENED', event, args, flush=True); raise OSError('no network here')
sys.addaudithook(refuse)
from byol_fastai.cli import byol_evaluate, byol_pretrain
byol_pretrain('--arch tiny --n 48 --bs 16 --size 16 --epochs 1 --out r'.split())
byol_evaluate('r --epochs 1'.split())
'''

def test_without_network_no_socket_is_connected(tmp_path):
    "Local sockets, by which processes of one computer talk, have a path and no address"
    done = subprocess.run([sys.executable, '-c', BLOCKED], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode==0 and 'OPENED' not in done.stdout+done.stderr, done.stderr
    assert (tmp_path/'r'/'evaluation.json').exists()

# --- what the computer does

def said_by(main, *args):
    "The one sentence with which a program ends"
    with pytest.raises(SystemExit) as e: main([str(o) for o in args])
    assert isinstance(e.value.code, str) and 'Traceback' not in e.value.code and '\n' not in e.value.code
    return e.value.code

SMALL = '--arch tiny --n 72 --bs 16 --size 16 --n-hidden 16 --n-proj 8 --epochs 3 --every 0'.split()
FULL,GONE = (errno.ENOSPC, 'No space left on device', 'x'), (errno.ENOTCONN, 'Transport endpoint is not connected', '/content/drive')

def fails_at(name, error, n=1):
    "An `os.replace` that fails when the n-th file is to be called `name`"
    left,real = [n], os.replace
    def replace(a, b):
        left[0] -= Path(b).name==name
        if left[0]==0 and Path(b).name==name: raise OSError(*error)
        real(a, b)
    return replace

@pytest.mark.parametrize('name, n, error, words', [('checkpoint', 6, GONE, 'Transport endpoint is not connected: /content/drive. See that the folder is there'),
    *((name, n, FULL, 'the disk is full: make room, then go on with --resume') for name,n in (('checkpoint', 6), ('encoder.json', 1), ('report.json', 1), ('report.json', 3)))])
def test_a_disk_that_takes_no_more_costs_minutes_and_says_what_to_do(name, n, error, words, whole, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with monkeypatch.context() as m:
        m.setattr(os, 'replace', fails_at(name, error, n))
        assert words in said_by(byol_pretrain, *SMALL, '--out', 'r')
    assert is_sealed('r/checkpoint') and not list(Path('r').glob('*.part'))
    if name=='checkpoint': assert load_encoder('r').info['epochs']==1.25 # of the fifth checkpoint: three in the first epoch, one after it, one in the second
    byol_pretrain(['--resume', 'r'])
    assert differ(values(load_file('r/encoder.safetensors')), values(load_file(whole/'encoder.safetensors')))==[]

def test_a_full_disk_in_the_middle_of_a_checkpoint_leaves_the_one_before(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    opened,real = [], sealed._Summing.__init__
    class Full:
        def __init__(self, f): self.f = f
        def write(self, data):
            if self.f.tell()>10_000: raise OSError(*FULL)
            return self.f.write(data)
        def flush(self): self.f.flush()
    def init(self, f):
        opened.append(f)
        real(self, Full(f) if len(opened)==3 else f)
    with monkeypatch.context() as m:
        m.setattr(sealed._Summing, '__init__', init)
        assert 'the disk is full' in said_by(byol_pretrain, *SMALL, '--out', 'r')
    assert read_checkpoint('r/checkpoint')['batch']==2 and not list(Path('r').glob('*.part'))

def test_a_full_disk_in_a_picture_costs_the_picture(tmp_path, monkeypatch):
    monkeypatch.setattr(os, 'replace', fails_at('views.png', FULL))
    with pytest.warns(UserWarning, match='views.png could not be made'): report = go(tmp_path/'r')
    assert list(report['failed'])==['views.png'] and report['complete'] and not list((tmp_path/'r').glob('*.part')) and not (tmp_path/'r'/'views.png').exists()

def test_a_clock_that_jumps_backwards_changes_nothing(whole, tmp_path, monkeypatch):
    real,jumps = time.time, iter(range(10**9))
    monkeypatch.setattr(time, 'time', lambda: real()-3600*next(jumps))
    rows = []
    class Look(runs.TimeLeft):
        def after_validate(self):
            super().after_validate()
            rows.append(self.recorder.log[-1])
    go(tmp_path/'r', Look())
    assert_as_undisturbed(tmp_path/'r', whole)
    assert len(rows)==3 and all(re.fullmatch(r'\d\d:\d\d', o) for o in rows)

def test_a_folder_that_cannot_be_written_to_any_more_is_named():
    assert sentence(OSError(errno.EROFS, 'Read-only file system', 'r/x')).startswith('Read-only file system: r/x. See that the folder is there and can be written to')
    assert sentence(OSError(errno.ENOENT, 'No such file')) is None, 'a fault of our own'

# --- a loss that is lost

class Poison(Callback):
    "Weights that are no numbers, from a batch on"
    order = 20
    def __init__(self, epoch, iter): self.at = epoch,iter
    def before_batch(self):
        if self.training and (self.epoch, self.iter)==self.at:
            with torch.no_grad(): next(self.model.encoder.parameters()).fill_(math.nan)

@pytest.mark.parametrize('every, epochs', [(10, 1), (0, 1.5)])
def test_a_loss_that_is_no_number_takes_the_run_back_to_its_last_good_state(every, epochs, tmp_path, capsys):
    report = go(tmp_path/'r', Poison(1, 2), every=every)
    assert not report['complete'] and report['epochs']==1 and report['probes']
    for words in ('The loss of epoch 1 is nan. Likely cause: the learning rate is too high', f'the last good checkpoint, after {epochs} epochs', f"--from {tmp_path/'r'} and a lower --lr"): assert words in report['stopped']
    encoder = load_encoder(tmp_path/'r')
    assert encoder.info['epochs']==epochs and all(o.isfinite().all() for o in encoder.state_dict().values())
    last = read_checkpoint(tmp_path/'r'/'checkpoint')
    assert last['epoch']+last['batch']/4==epochs
    assert all(torch.equal(v, last['model'][f'encoder.{k}']) for k,v in encoder.state_dict().items())

def test_before_the_first_checkpoint_there_is_no_encoder_rather_than_one_of_no_numbers(tmp_path):
    report = go(tmp_path/'r', Poison(0, 0))
    assert report['probes'] is None and 'There was no checkpoint yet, so there is no encoder' in report['stopped'] and not (tmp_path/'r'/'encoder.safetensors').exists()

# --- images

@posix
def test_pipes_and_sockets_are_no_images_whatever_they_are_called(tmp_path, monkeypatch):
    photos = write_images(tmp_path/'photos', 24)
    for o in ('x.jpg', 'pipe'): os.mkfifo(photos/o)
    (photos/'link').symlink_to(photos/'pipe')
    monkeypatch.chdir(photos) # a socket's path must be short
    with socket.socket(socket.AF_UNIX) as s:
        s.bind('y.png')
        monkeypatch.chdir(tmp_path)
        code = "from byol_fastai.cli import byol_pretrain; byol_pretrain('--data photos --arch tiny --bs 8 --size 16 --epochs 1 --out r'.split())"
        subprocess.run([sys.executable, '-c', code], check=True, capture_output=True, timeout=200)
    found = ' '.join(json.loads(Path('r/report.json').read_text())['found'])
    assert '24 images' in found and 'no regular file' in found
    with pytest.raises(UserError, match='a pipe or a socket'): read_image(photos/'x.jpg')

@pytest.mark.parametrize('change', [lambda o: o.unlink(), lambda o: o.write_bytes(o.read_bytes()[:60]), lambda o: o.write_text('no image')], ids=['gone', 'cut', 'text'])
def test_images_that_vanish_or_change_in_the_middle_of_an_epoch_cost_themselves(change, tmp_path):
    photos = write_images(tmp_path/'photos', 24)
    config = run_config(photos, arch='tiny', bs=4, size=16, epochs=2, n_hidden=16, n_proj=8, memory_gb=1e-9, workers=0)
    class Change(Callback):
        def after_batch(self):
            if self.training and self.epoch==0 and self.iter==1: [change(o) for o in sorted(photos.iterdir())[:3]]
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter('always')
        report = pretrain(Run.create(tmp_path/'r', config), [Quiet(), Change()], bar=False)
    assert report['complete'] and not report['failed'] and any('could not be read; the next one takes its place' in str(o.message) for o in told)

# --- once more

def weights_after(folder, workers=0, threads=1):
    "Of a short training on files that are read anew in every epoch"
    torch.set_num_threads(threads)
    try:
        set_seed(3)
        dls = byol_dls(load_source(folder, 16, memory_gb=0), bs=8, valid_pct=0, workers=workers, seed=3)
        learn = byol_learner(dls, TinyResNet(width=8), n_hidden=16, n_proj=8, opt='sgd', metrics=[], guard=False)
        with learn.no_bar(), learn.no_logging(): learn.fit_byol(2)
    finally: torch.set_num_threads(1)
    return {k: v.detach().clone() for k,v in learn.model.state_dict().items()}

def test_one_seed_gives_the_same_weights_with_any_number_of_workers_and_in_another_process(tmp_path):
    here = weights_after(write_images(tmp_path/'files', 32))
    assert same(weights_after(tmp_path/'files', workers=2), here)
    code = f"import sys, torch; sys.path.insert(0, {str(Path(__file__).parent)!r}); from test_faults import weights_after; torch.save(weights_after({str(tmp_path/'files')!r}), {str(tmp_path/'there')!r})"
    subprocess.run([sys.executable, '-W', 'ignore', '-c', code], check=True, timeout=300)
    assert same(torch.load(tmp_path/'there', weights_only=True), here)

def test_another_number_of_threads_changes_no_more_than_the_rounding(tmp_path):
    one,two = (weights_after(write_images(tmp_path/'files', 32), threads=o) for o in (1, 2))
    assert max((one[k].double()-two[k].double()).abs().max().item() for k in one)<1e-2   # the order of a sum; a long training makes more of it

def test_repeat_makes_a_run_again_and_says_that_it_is_the_same(whole, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(whole, 'r')
    byol_pretrain(['--repeat', 'r'])
    assert 'The same to the bit: the encoder and the history of r-2, and those of r.' in capsys.readouterr().out
    assert differ(outcome(Path('r-2')), outcome(whole))==[]

def test_repeat_says_what_differs(whole, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(whole, 'r')
    report = json.loads(Path('r/report.json').read_text())
    report['versions']['torch'],report['history'][1]['train_loss'] = '1.0', 0.
    Path('r/report.json').write_text(json.dumps(report))
    said = said_by(byol_pretrain, '--repeat', 'r', '--out', 'again')
    assert 'the weights of the encoders differ by up to 0, and their histories differ from epoch 1 on' in said and f'torch 1.0 then and {torch.__version__.split("+")[0]}' in said
    assert 'leave out --epochs' in said_by(byol_pretrain, '--repeat', 'r', '--epochs', '2')
    Path('r/report.json').unlink()
    assert 'has not ended: go on with it by --resume r' in said_by(byol_pretrain, '--repeat', 'r')

def test_repeat_wants_the_same_images(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    photos = write_images(tmp_path/'photos', 12)
    byol_pretrain('--data photos --arch tiny --bs 4 --size 16 --epochs 1 --out r'.split())
    next(photos.iterdir()).unlink()
    assert 'not the same' in said_by(byol_pretrain, '--repeat', 'r')

# --- the programs that look for more

def test_the_fuzzer_tells_an_answer_from_a_sentence_and_from_a_fault(tmp_path):
    import fuzz
    def raises(e):
        def read(data): raise e
        return read
    assert fuzz.attempt(lambda o: None, b'', 5)=='read' and fuzz.attempt(raises(UserError('a sentence')), b'', 5)=='refused'
    assert fuzz.attempt(raises(UserError('')), b'', 5)=='a refusal without words' and fuzz.attempt(raises(KeyError('x')), b'', 5)=="KeyError: 'x'"
    draw = random.Random(0)
    for name,(make,read) in fuzz.targets(tmp_path, draw).items():
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            ends = {fuzz.attempt(read, make(), 60) for _ in range(20)}
        assert ends <= {'read', 'refused'}, name

def test_the_soak_compares_the_second_tenth_with_the_last(tmp_path, monkeypatch):
    import soak
    monkeypatch.setattr(soak, 'run_config', lambda *args, **kwargs: run_config('shapes', n=160, bs=32, epochs=3, n_hidden=64, n_proj=32))
    figures = soak.soak(3, tmp_path)
    assert figures['epochs']==3 and set(figures['growth'])=={'cpu_seconds', 'memory_mb', 'files', 'threads'} and figures['growth']['files']==1

def meeting(out, n, epochs, threads):
    "A program that ends when it has met another one of its kind"
    code = "import pathlib, sys, time; o = pathlib.Path(sys.argv[1]); o.mkdir()\nfor i in range(600):\n if len([*o.parent.iterdir()])==2: sys.exit()\n time.sleep(.05)\nsys.exit('nobody came')"
    return [sys.executable, '-c', code, str(out)]

def test_two_runs_are_started_at_once_and_one_that_fails_says_so(tmp_path, monkeypatch):
    import two_at_once
    options = dict(n=1, epochs=1, threads=1)
    monkeypatch.setattr(two_at_once, 'program', meeting)
    two_at_once.at_once(2, **options)
    monkeypatch.setattr(two_at_once, 'program', lambda out, **kwargs: [sys.executable, '-c', "raise SystemExit('no image')"])
    with pytest.raises(SystemExit, match='A run failed: no image'): two_at_once.at_once(1, **options)

def test_the_ratio_of_two_runs_to_one_goes_into_the_ledger(tmp_path, monkeypatch):
    import two_at_once
    from byol_fastai import course
    monkeypatch.setattr(course, 'RESULTS', tmp_path)
    monkeypatch.setattr(two_at_once, 'program', lambda out, **kwargs: [sys.executable, '-c', ''])
    two_at_once.main(['--repeats', '1'])
    entry = json.loads((tmp_path/'two_at_once.json').read_text())
    assert set(entry['figures'])=={'seconds', 'ratio', 'cores'} and set(entry['figures']['seconds'])=={'one', 'two at once'} and entry['config']['threads']==1
