"The two commands: what they leave behind, and that whatever is wrong is said in one sentence"
import builtins, errno, io, json, os, re, shutil, signal, subprocess, sys, sysconfig, time
from contextlib import redirect_stdout
from pathlib import Path
import pandas as pd, pytest, torch
from fastai.vision.all import Callback
from fastcore.docments import docments
from PIL import Image
from safetensors.torch import load_file
from byol_fastai import cli, config, data, runs
from byol_fastai.cli import _stopped_by_signals, OtherPrograms, byol_evaluate, byol_pretrain, threads_left
from byol_fastai.config import GROUPS
from byol_fastai.errors import UserError
from byol_fastai.files import is_hidden
from byol_fastai.rivals import RIVALS
from byol_fastai.saving import load_encoder
from conftest import write_images

ROWS = [*RIVALS, 'random encoder', 'BYOL']

SMALL = '--arch tiny --n 48 --bs 16 --size 16 --epochs 2'.split()
FILES = 'checkpoint config.json curves.png encoder.json encoder.safetensors history.csv neighbours.png report.json views.png'.split()

@pytest.fixture(scope='module')
def told(tmp_path_factory):
    "A run folder as `byol_pretrain` leaves it, and what it printed"
    out,text = tmp_path_factory.mktemp('cli')/'run', io.StringIO()
    with redirect_stdout(text): byol_pretrain([*SMALL, '--out', str(out)])
    return out,text.getvalue()

@pytest.fixture
def finished(told): return told[0] # copy it before you change it

@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch): monkeypatch.chdir(tmp_path)

def refused(main, args, *words):
    "The one sentence with which `main` refuses `args`, found to hold `words`"
    with pytest.raises(SystemExit) as e: main([str(o) for o in args])
    said = e.value.code
    assert isinstance(said, str), 'a text makes Python exit with 1'
    assert said.strip().count('\n')==0 and 'Traceback' not in said and said.startswith(main.__name__+': ') and len(said)<600
    for w in words: assert w in said
    return said

def wait_until(true, seconds=300):
    "Until `true()` is, but not for ever"
    end = time.monotonic()+seconds
    while not true() and time.monotonic()<end: time.sleep(.05)

# --- a run

def test_a_run_leaves_all_it_promises(finished):
    assert sorted(o.name for o in finished.iterdir())==FILES
    for o in finished.glob('*.png'):
        with Image.open(o) as im: assert min(im.size)>50
    history = pd.read_csv(finished/'history.csv')
    assert list(history.epoch)==[0, 1] and {'train_loss', 'valid_loss', 'feature_std', 'effective_rank', 'knn', 'tau', 'lr'} <= set(history)

def test_the_report_holds_the_table_and_how_it_was_made(finished):
    r = json.loads((finished/'report.json').read_text())
    assert list(r['probes'])==ROWS
    assert all(set(row)=={'kNN', 'linear'} and all(0<=v<=1 for v in row.values()) for row in r['probes'].values())
    assert r['config']['n']==48 and r['config']['seed']==42 and r['complete'] is True and r['versions']['torch'] and r['device'] and r['seconds']>0
    assert r['config']==json.loads((finished/'config.json').read_text())
    assert r['history'][-1]['knn']==pytest.approx(r['probes']['BYOL']['kNN'], abs=1e-3), 'the last row of the table is the figure of the report'

def test_it_says_where_everything_is_and_what_to_do_next(told):
    out,text = told
    assert 'raw pixels' in text and 'kNN %' in text and f'byol_evaluate {out}' in text and f'load_encoder({str(out)!r})' in text
    for f in ('encoder.safetensors', 'curves.png', 'neighbours.png'): assert f in text

def test_evaluate_writes_its_report_beside_the_run(finished, tmp_path, capsys):
    run = shutil.copytree(finished, tmp_path/'run')
    byol_evaluate([str(run), '--n', '40', '--epochs', '1'])
    r = json.loads((run/'evaluation.json').read_text())
    assert r['images']==[40, 40] and 0<=r['linear_layer']<=1 and list(r['probes'])==ROWS
    assert 'Linear layer' in capsys.readouterr().out

def test_without_out_a_run_gets_a_new_folder(tmp_path):
    (tmp_path/'runs'/'shapes').mkdir(parents=True)
    byol_pretrain([*SMALL, '--epochs', '1'])
    assert (tmp_path/'runs'/'shapes-2'/'report.json').exists() and not list((tmp_path/'runs'/'shapes').iterdir())

def test_a_folder_of_ones_own_photos_works_without_labels(tmp_path, capsys):
    write_images(tmp_path/'photos', 24, suffix='jpg')
    byol_pretrain('--data photos --arch tiny --bs 8 --size 24 --epochs 1 --out r'.split())
    assert sorted(o.name for o in (tmp_path/'r').iterdir())==FILES
    assert json.loads((tmp_path/'r'/'report.json').read_text())['probes'] is None
    refused(byol_evaluate, ['r'], 'no labels')

def test_an_interrupted_run_says_how_to_go_on_and_does(tmp_path, monkeypatch, capsys):
    class Stop(runs.SayRows):
        def after_epoch(self):
            if self.epoch==0: raise KeyboardInterrupt
    Stop.order = 99
    with monkeypatch.context() as m:
        m.setattr(runs, 'SayRows', Stop)
        with pytest.raises(SystemExit) as e: byol_pretrain([*SMALL, '--out', 'r'])
    assert e.value.code==130 and 'byol_pretrain --resume r' in capsys.readouterr().err
    assert load_encoder('r').info['epochs']==1 # what there was by then can be used
    byol_pretrain(['--resume', 'r'])
    assert [h['epoch'] for h in json.loads(Path('r/report.json').read_text())['history']]==[0, 1]
    refused(byol_pretrain, ['--resume', 'r'], 'report.json')

@pytest.mark.skipif(os.name!='posix', reason='signals of POSIX')
@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGHUP, signal.SIGINT], ids=lambda o: o.name)
def test_a_signal_ends_a_run_with_its_encoder_its_checkpoint_and_its_exit_code(number, tmp_path):
    program = subprocess.Popen([sys.executable, '-m', 'byol_fastai', 'pretrain', *SMALL, '--epochs', '500', '--out', 'r'], cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL)) # a shell starts what runs in its background deaf to Ctrl-C, tests too
    try:
        wait_until(lambda: (tmp_path/'r'/'checkpoint').exists() or program.poll() is not None)
        program.send_signal(number)
        said = program.communicate(timeout=60)[1]
    finally: program.kill()
    assert program.returncode==128+number and 'byol_pretrain --resume r' in said and 'Traceback' not in said
    assert load_encoder(tmp_path/'r').info['epochs']>=1
    assert not [o.name for o in (tmp_path/'r').iterdir() if o.suffix=='.part']

def test_signals_count_only_while_a_run_is_at_work():
    before = [signal.getsignal(o) for o in (signal.SIGTERM, signal.SIGHUP)]
    with _stopped_by_signals():
        with pytest.raises(KeyboardInterrupt) as e: signal.raise_signal(signal.SIGTERM)
    assert e.value.args==(signal.SIGTERM,) and [signal.getsignal(o) for o in (signal.SIGTERM, signal.SIGHUP)]==before
    signal.signal(signal.SIGHUP, signal.SIG_IGN) # as nohup does
    try:
        with _stopped_by_signals(): signal.raise_signal(signal.SIGHUP)
    finally: signal.signal(signal.SIGHUP, before[1])

def test_the_help_is_made_from_the_settings_of_a_run():
    said = re.sub(r'\s+', ' ', subprocess.run([sys.executable, '-m', 'byol_fastai', '--help'], capture_output=True, text=True, check=True).stdout)
    for g in GROUPS:
        for k,v in docments(g).items():
            if k!='return': assert v.lower() in said.lower(), k

@pytest.mark.parametrize('args', ['--help', '--epochs ten', '--data shaeps', '--data .', '--arch resnet81', '--out f/x', '--resume nowhere', '--bs 1', '--from a/b'])
def test_help_and_mistakes_need_no_pytorch(args, tmp_path):
    (tmp_path/'f').touch()
    code = f"import sys\nfrom byol_fastai.cli import byol_pretrain\ntry: byol_pretrain({args.split()})\nexcept SystemExit: pass\nassert not {{'torch', 'fastai', 'timm', 'matplotlib', 'pandas'}} & set(sys.modules)"
    subprocess.run([sys.executable, '-c', code], check=True, capture_output=True, cwd=tmp_path)

def test_an_error_of_our_own_keeps_its_traceback_and_any_does_where_asked(monkeypatch):
    def broken(*args): raise KeyError('ours')
    monkeypatch.setattr(runs, 'pretrain', broken)
    with pytest.raises(KeyError): byol_pretrain([*SMALL, '--out', 'r'])
    monkeypatch.setenv('BYOL_FASTAI_TRACEBACK', '1')
    with pytest.raises(UserError): byol_pretrain(['--bs', '1'])

@pytest.mark.parametrize('error, words', [(MemoryError(), '--bs'), (torch.cuda.OutOfMemoryError('CUDA out of memory'), '--memory-gb'),
    (OSError(errno.ENOSPC, 'No space left on device', 'x'), 'disk is full'), (RuntimeError('DataLoader worker (pid 7) is killed by signal: Bus error.'), '--workers 0')])
def test_what_the_computer_lacks_is_said_with_what_to_lower_and_the_retry_is_not_blocked(error, words, monkeypatch):
    class Fails(Callback):
        def before_batch(self): raise error
    real = runs.pretrain
    with monkeypatch.context() as m:
        m.setattr(runs, 'pretrain', lambda run, cbs, bar: real(run, [*cbs, Fails()], bar))
        refused(byol_pretrain, [*SMALL, '--out', 'r'], words)
    byol_pretrain([*SMALL, '--bs', '8', '--epochs', '1', '--out', 'r'])
    assert json.loads(Path('r/config.json').read_text())['bs']==8

def test_a_run_starts_from_the_encoder_of_another_and_a_longer_one_is_offered(finished, capsys):
    refused(byol_pretrain, ['--resume', finished, '--epochs', '5'], 'has ended', f'--from {finished}')
    byol_pretrain(f'--from {finished} --n 48 --bs 16 --epochs 1 --lr 1e-9 --out more'.split())
    a,b = (load_file(Path(o)/'encoder.safetensors') for o in (finished, 'more'))
    assert all(torch.allclose(a[k], b[k], atol=1e-5) for k in a if 'running' not in k and 'num_batches' not in k)

def test_images_may_move_but_must_be_the_same(tmp_path):
    for c in 'ab': write_images(tmp_path/'photos'/c, 16, seed=ord(c))
    byol_pretrain('--data photos --arch tiny --bs 8 --size 16 --epochs 1 --out r'.split())
    (tmp_path/'photos').rename(tmp_path/'moved')
    refused(byol_evaluate, ['r', '--epochs', '1'], 'photos')
    byol_evaluate(['r', '--data', 'moved', '--epochs', '1'])
    next((tmp_path/'moved'/'a').iterdir()).unlink()
    refused(byol_evaluate, ['r', '--data', 'moved', '--epochs', '1'], 'not the same')

def test_results_in_the_data_folder_never_become_data(tmp_path, monkeypatch):
    write_images(tmp_path/'photos', 24)
    monkeypatch.chdir(tmp_path/'photos')
    for _ in range(2): byol_pretrain('--data . --arch tiny --bs 8 --size 16 --epochs 1'.split())
    counts = [json.loads(o.read_text())['fingerprint']['count'] for o in sorted(Path('runs').glob('*/report.json'))]
    assert counts==[24, 24]

@pytest.mark.parametrize('system', ['posix', 'windows'])
def test_two_programs_never_work_on_one_run(system, finished, tmp_path, monkeypatch):
    run,hide = shutil.copytree(finished, tmp_path/'r'), "config.find_spec = lambda name: None\n" if system=='windows' else ''
    if hide: monkeypatch.setattr(config, 'find_spec', lambda name: None) # no fcntl there
    (run/'report.json').unlink()
    code = f"import time\nfrom pathlib import Path\nfrom byol_fastai import config\n{hide}with config.locked(Path({str(run)!r})): print('in', flush=True); time.sleep(600)"
    other = subprocess.Popen([sys.executable, '-c', code], stdout=subprocess.PIPE, text=True)
    assert other.stdout.readline()=='in\n'
    refused(byol_pretrain, ['--resume', run], 'Another program is at work')
    other.kill(); other.communicate()
    byol_pretrain(['--resume', str(run)]) # whoever is dead holds no lock
    assert (run/'report.json').exists()

@pytest.mark.parametrize('hold', [config._hold_folder, config._hold_file])
def test_a_lock_is_let_go_and_one_that_the_file_system_does_not_know_is_tolerated(hold, tmp_path, monkeypatch):
    import fcntl
    let_go = hold(tmp_path)
    with pytest.raises(BlockingIOError): hold(tmp_path)
    let_go()
    hold(tmp_path)()
    assert all(is_hidden(o.name) for o in tmp_path.iterdir()), 'never data'
    def unknown(*args): raise OSError(errno.ENOLCK, 'No locks available')
    monkeypatch.setattr(fcntl, 'flock', unknown)
    hold(tmp_path/'')()

# --- other programs on the same cores

STAT = """cpu  900 0 0 9000 0 0 0 0 0 0
cpu0 {} 20 30 5000 40 5 5 7 0 0
cpu1 300 0 0 900 0 0 0 0 0 0
cpu2 999999 0 0 5 0 0 0 0 0 0
intr 1 2 3
"""

class Fake:
    "A computer that has worked so many seconds on core 0, of which this program had so many"
    def __init__(self, monkeypatch):
        self.all = self.ours = self.time = 0.
        real = builtins.open
        monkeypatch.setattr(os, 'sched_getaffinity', lambda pid: {0, 1}, raising=False)
        monkeypatch.setattr(os, 'sysconf', lambda name: 100)
        monkeypatch.setattr(os, 'times', lambda: (self.ours, 0., 0., 0., 0.))
        monkeypatch.setattr(time, 'perf_counter', lambda: self.time)
        monkeypatch.setattr(cli, 'open', lambda path, *args, **kwargs: io.StringIO(STAT.format(int(100*self.all))) if path=='/proc/stat' else real(path, *args, **kwargs), raising=False)
    def goes_on(self, time, all, ours): self.time,self.all,self.ours = self.time+time,self.all+all,self.ours+ours

def test_cores_that_others_keep_busy_are_those_that_work_but_not_for_us(monkeypatch):
    computer = Fake(monkeypatch)
    others = OtherPrograms()
    computer.goes_on(.5, .5, .1)
    assert others.busy is None, 'too short to say'
    computer.goes_on(9.5, 15.5, 7.9)
    assert others.busy==pytest.approx((16-8)/10), 'a core that this program may not use does not count'
    computer.goes_on(0, 0, 100)
    assert others.busy==0

def test_where_the_system_does_not_tell_nothing_is_known(monkeypatch):
    computer = Fake(monkeypatch)
    monkeypatch.setattr(os, 'sched_getaffinity', lambda pid: {0, 1, 5})
    assert OtherPrograms().began is None and OtherPrograms().busy is None
    monkeypatch.delattr(os, 'sched_getaffinity')
    assert OtherPrograms().busy is None
    assert computer.time==0

@pytest.mark.skipif(not Path('/proc/stat').exists(), reason='Linux tells who works')
def test_a_busy_neighbour_is_seen():
    others = OtherPrograms()
    neighbour = subprocess.Popen([sys.executable, '-c', 'while True: pass'])
    time.sleep(1.5)
    busy = others.busy # before it is waited for, when its time would count as ours
    neighbour.kill(); neighbour.wait()
    assert busy>.3

@pytest.mark.parametrize('busy, cores, default, threads', [(None, 2, 2, 2), (0, 2, 2, 2), (.49, 2, 2, 2), (.5, 2, 2, 1), (1.2, 2, 2, 1), (9, 2, 2, 1), (3.2, 16, 8, 8), (12, 16, 8, 4)])
def test_what_others_leave_is_never_more_than_the_default_nor_nothing(busy, cores, default, threads):
    assert threads_left(busy, cores, default)==threads

@pytest.fixture
def crowded(monkeypatch):
    "Two threads by default, two cores, and others that keep 1.2 of them busy"
    monkeypatch.delenv('OMP_NUM_THREADS')
    monkeypatch.setattr(os, 'sched_getaffinity', lambda pid: {0, 1}, raising=False)
    monkeypatch.setattr(OtherPrograms, 'busy', 1.2)
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(1)

def test_a_run_takes_the_threads_that_others_leave_says_so_and_goes_on_with_them(crowded, monkeypatch, capsys):
    class Stop(runs.SayRows):
        order = 99
        def after_epoch(self):
            if self.epoch==0: raise KeyboardInterrupt
    with monkeypatch.context() as m:
        m.setattr(runs, 'SayRows', Stop)
        with pytest.raises(SystemExit): byol_pretrain([*SMALL, '--out', 'r'])
    assert 'Other programs keep 1.2 of the 2 cores busy: computing with 1 thread (--threads 2 overrides).\n' in capsys.readouterr().out
    assert torch.get_num_threads()==1 and json.loads(Path('r/config.json').read_text())['threads']==1
    monkeypatch.setattr(OtherPrograms, 'busy', 0.)
    torch.set_num_threads(2)
    byol_pretrain(['--resume', 'r'])
    assert torch.get_num_threads()==1 and 'Other programs' not in capsys.readouterr().out
    assert json.loads(Path('r/report.json').read_text())['config']['threads']==1

def test_a_number_that_is_given_is_taken_and_a_free_computer_gives_all(crowded, monkeypatch, capsys):
    byol_pretrain([*SMALL, '--epochs', '1', '--threads', '2', '--out', 'r'])
    assert torch.get_num_threads()==2 and json.loads(Path('r/config.json').read_text())['threads']==2
    monkeypatch.delenv('OMP_NUM_THREADS', raising=False)
    monkeypatch.setattr(OtherPrograms, 'busy', .3)
    byol_pretrain([*SMALL, '--epochs', '1', '--out', 'more'])
    assert torch.get_num_threads()==2 and json.loads(Path('more/config.json').read_text())['threads']==2
    assert 'Other programs' not in capsys.readouterr().out
    refused(byol_evaluate, ['r', '--threads', '0'], '--threads 0')

def test_a_run_of_a_larger_computer_goes_on_with_what_this_one_has(finished, tmp_path):
    run = shutil.copytree(finished, tmp_path/'r')
    (run/'report.json').unlink()
    config = json.loads((run/'config.json').read_text())
    (run/'config.json').write_text(json.dumps({**config, 'threads': 4096}))
    byol_pretrain(['--resume', str(run)])
    assert json.loads((run/'config.json').read_text())['threads']==torch.get_num_threads()

# --- what may be wrong

@pytest.mark.parametrize('args, words', [
    ('--data cifar1', ["did you mean 'cifar10'"]),
    ('--data no/such/folder', ['nor a folder that exists']),
    ('--data empty', ['There is no image file in', 'empty']),
    ('--data texts', ['There is no image file in']),
    ('--data broken', ['could be read']),
    ('--arch resnet_18', ["did you mean", "'resnet18'"]),
    ('--bs 1', ['bs=1 is too small']),
    ('--bs 64', ['bs=64 is larger than the 43 images']),
    ('--epochs 0', ['epochs=0', 'at least one epoch']),
    ('--epochs -1', ['epochs=-1']),
    ('--tau 1.5', ['tau=1.5 must lie in [0, 1]']),
    ('--lr 0', ['lr=0.0 must be positive']),
    ('--lr nan', ['lr=nan']),
    ('--n 0', ['n=0']),
    ('--size 3', ['size=3']),
    ('--size -8', ['size=-8']),
    ('--seed -1', ['seed']),
    ('--epochs many', ["invalid int value: 'many'"]),
    ('--opt adam', ["invalid choice: 'adam'"]),
    ('--workers -1', ['workers=-1']),
    ('--labels some', ['invalid choice']),
    ('--from nowhere/run', ['There is no encoder in nowhere/run']),
    ('--strict --no-guard', ['strict']),
    ('--nonsense', ['unrecognized arguments: --nonsense']),
    ('--out below/a/file', ['Cannot write to the folder']),
])
def test_a_wrong_option_is_refused_in_a_sentence_and_leaves_nothing_behind(args, words, tmp_path):
    (tmp_path/'empty').mkdir(); (tmp_path/'texts').mkdir(); (tmp_path/'texts'/'a.txt').write_text('a'); (tmp_path/'below').write_text('a file')
    (tmp_path/'broken').mkdir(); (tmp_path/'broken'/'a.jpg').write_text('not an image')
    args = args.split()
    refused(byol_pretrain, [*SMALL, *([] if '--out' in args else ['--out', 'r']), *args], *words)
    assert not (tmp_path/'r').exists(), 'the folder can be used by the next try'

def test_without_network_a_data_set_that_is_not_here_is_refused_in_a_sentence(monkeypatch):
    from urllib.error import URLError
    def offline(url): raise URLError('Name or service not known')
    monkeypatch.setattr(data, 'untar_data', offline)
    refused(byol_pretrain, ['--data', 'imagenette', '--out', 'r'], 'imagenette')

def test_a_finished_run_is_neither_written_over_nor_resumed(finished):
    was = {o: o.stat().st_mtime_ns for o in finished.iterdir()}
    refused(byol_pretrain, [*SMALL, '--out', finished], 'already holds a run', '--resume')
    refused(byol_pretrain, ['--resume', finished], 'report.json')
    assert {o: o.stat().st_mtime_ns for o in finished.iterdir()}==was

def test_resume_nonsense_is_refused_in_a_sentence(finished, tmp_path):
    refused(byol_pretrain, ['--resume', 'nowhere'], 'nowhere holds no run')
    begun = shutil.copytree(finished, tmp_path/'begun')
    (begun/'report.json').unlink()
    refused(byol_pretrain, ['--resume', begun, '--epochs', '3', '--out', 'x'], '--epochs', '--out')
    for name,text in ('config.json', '{"data": '),('config.json', '{"nonsense": 1}'),('checkpoint', 'not a checkpoint'):
        run = shutil.copytree(finished, tmp_path/f'{len(text)}')
        (run/'report.json').unlink()
        (run/name).write_text(text)
        refused(byol_pretrain, ['--resume', run], name)

def test_evaluate_refuses_what_is_no_run_in_a_sentence(finished, tmp_path):
    refused(byol_evaluate, ['nowhere'], 'nowhere holds no run')
    refused(byol_evaluate, [finished, '--epochs', '0'], '--epochs 0')
    refused(byol_evaluate, [finished, '--n', '0'], 'n=0')
    run = shutil.copytree(finished, tmp_path/'run')
    (run/'encoder.safetensors').write_bytes(b'broken')
    refused(byol_evaluate, [run], 'encoder')
    (run/'encoder.safetensors').unlink()
    refused(byol_evaluate, [run], 'encoder.safetensors')

def test_the_installed_commands_exit_with_1_and_a_sentence(tmp_path):
    folder,calls = Path(sysconfig.get_path('scripts')), (['byol_pretrain', '--data', 'imagenete'], ['byol_evaluate', 'nowhere'])
    jobs = [subprocess.Popen([folder/o[0], *o[1:]], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for o in calls]
    for job,sentence in zip(jobs, (r"byol_pretrain: Data source 'imagenete' .*did you mean 'imagenette'", 'byol_evaluate: nowhere holds no run')):
        out,err = job.communicate(timeout=300)
        assert job.returncode==1 and 'Traceback' not in out+err and re.search('^'+sentence, err, re.M), err
    assert not list(tmp_path.iterdir())
