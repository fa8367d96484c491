"Packaging, README and badges say the same thing, and nothing in the repository belongs to the computer it was written on"
import ast, builtins, contextlib, importlib, importlib.metadata as md, json, os, re, subprocess, sys
from configparser import ConfigParser
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
try: import tomllib
except ImportError: import tomli as tomllib # Python 3.10
import byol_fastai.all
from conftest import ROOT, tool

ini = ConfigParser(delimiters='=', interpolation=None)
ini.read(ROOT/'settings.ini', encoding='utf-8')
cfg = ini['DEFAULT']
def lines(key): return cfg[key].strip().splitlines()

def test_pyproject_agrees_with_settings():
    p = tomllib.loads((ROOT/'pyproject.toml').read_text())
    repository,site = f"https://github.com/{cfg['user']}/{cfg['repo']}", f"https://{cfg['user']}.github.io/{cfg['repo']}/"
    assert p['project']['name']==cfg['lib_name'] and p['project']['requires-python']==f">={cfg['min_python']}"
    assert p['project']['urls']=={'Repository': repository, 'Documentation': site}
    assert p['tool']['nbdev']['branch']==cfg['branch'] and p['tool']['nbdev']['lib_path']==cfg['lib_name']

def test_what_is_installed_is_what_settings_say():
    m = md.metadata(cfg['lib_name'])
    assert m['Version']==cfg['version']==byol_fastai.__version__ and m['Summary']==cfg['description'] and m['Requires-Python']==f">={cfg['min_python']}"
    def plain(texts): return {str(Requirement(o)) for o in texts}
    installed = [Requirement(o) for o in md.requires(cfg['lib_name'])]
    for extra,key in (None, 'requirements'),*((o, f'{o}_requirements') for o in ('dev', 'scale', 'export', 'explore', 'bench')):
        here = [o for o in installed if (o.marker is None if extra is None else f'extra == "{extra}"' in str(o.marker))]
        assert plain(re.sub(r'\s*;.*', '', str(o)) for o in here)==plain(lines(key)), 'install again'
    scripts = {f'{o.name} = {o.value}' for o in md.distribution(cfg['lib_name']).entry_points if o.group=='console_scripts'}
    assert scripts=={o.strip() for o in lines('console_scripts')}

PUBLIC = '''make_shapes byol_dls labelled_dls ViewPolicy byol_policies AlbumentationsView BatchView TwoViews create_encoder MLPHead BYOL byol_loss
    BYOLLoss tau_cosine tau_linear tau_constant EMATarget feature_variance feature_std eigenspectrum condition_number effective_rank FeatureVariance
    FeatureStd EffectiveRank CollapseGuard CollapseError byol_learner embed knn_predict KNNProbe linear_probe LinearEval fine_tune_learner
    label_efficiency save_encoder load_encoder'''.split()

def test_every_public_name_comes_with_one_import_and_a_docstring():
    names = {}
    exec('from byol_fastai.all import *', names)
    assert [o for o in PUBLIC if o not in names]==[]
    assert [o for o in PUBLIC if not (names[o].__doc__ or '').strip()]==[]

def test_one_import_brings_some_seventy_names_and_no_word_of_everyday_use():
    names = set(byol_fastai.all.__all__)
    assert 55<=len(names)<=75 and {o for o in names if isinstance(getattr(byol_fastai.all, o), type(sys))}==set()
    assert not names & {'profile', 'plain', 'nearest', 'evaluate', 'sentence', 'parser', 'record', 'figure', 'ledger', 'versions'}
    modules = {n: importlib.import_module(f'byol_fastai.{n}') for n in (f.stem for f in (ROOT/'byol_fastai').glob('[a-z]*.py')) if n!='all'}
    assert [o for o in names if not any(o in m.__all__ for m in modules.values())]==[], 'each is documented with its module'

def test_the_library_does_not_import_the_tools_it_is_made_with():
    for f in (ROOT/'byol_fastai').glob('*.py'):
        assert not re.search(r'^\s*(import|from) .*\b(nbdev|pytest|hypothesis|nbclient)\b', f.read_text(), re.M), f.name

# --- README, badges

def fenced(kind): return re.findall(rf'^```{kind}\n(.*?)^```$', (ROOT/'README.md').read_text(encoding='utf-8'), re.M|re.S)

def test_the_readme_is_made_from_the_index():
    assert (ROOT/'README.md').read_text(encoding='utf-8')==tool('readme').readme(), 'run python docs/refresh.py'

def test_the_readme_has_two_set_up_commands_one_to_use_and_one_to_test():
    use,develop = fenced('bash')
    assert use.count('\n')==develop.count('\n')==1 and 'pip install' in use and 'pip install' in develop
    assert use.strip().endswith('byol_pretrain') and '[dev]' in develop and 'pytest' in develop

def test_the_code_in_the_readme_uses_names_that_exist():
    names = {}
    exec('from byol_fastai.all import *', names)
    for code in fenced('python'):
        tree = ast.parse(code)
        made = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
        assert {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)} <= made | set(names)

def test_links_of_the_readme_lead_to_files_that_exist():
    start = f"https://github.com/{cfg['user']}/{cfg['repo']}/blob/{cfg['branch']}/"
    text = (ROOT/'README.md').read_text(encoding='utf-8')
    assert [o for o in re.findall(re.escape(start)+r'([^)\s]+)', text) if not (ROOT/o).exists()]==[]
    assert [o for o in re.findall(r'\]\((?!https?:|#|mailto:)([^)\s]+)\)', text) if not (ROOT/o).exists()]==[]

@pytest.mark.parametrize('path', sorted((ROOT/'nbs').glob('*.ipynb')), ids=lambda o: o.stem)
def test_badges_links_and_minutes_in_a_notebook_are_up_to_date(path):
    stamp,cells = tool('stamp'), json.loads(path.read_text(encoding='utf-8'))['cells']
    length = stamp.work(cells)
    assert [o for c in cells if stamp.stamp(o := ''.join(c['source']), path.stem, length)!=o]==[], 'run python docs/refresh.py'

def test_stamping_twice_is_stamping_once_and_owner_and_repository_come_from_settings(monkeypatch):
    stamp = tool('stamp')
    text = '# T\n\n> s\n\n<!-- badges -->\n\n**Needs** nothing. **Takes** ? min on CPU, not yet run on a T4.'
    once = stamp.stamp(text, '05_ema')
    assert stamp.stamp(once, '05_ema')==once
    monkeypatch.setattr(stamp, 'settings', lambda: {**cfg, 'user': 'me', 'repo': 'mine', 'branch': 'dev'})
    mine = stamp.stamp(once, '05_ema')
    assert 'me/mine/blob/dev/nbs/05_ema.ipynb' in mine and 'me.github.io/mine/05_ema.html' in mine
    assert not re.search(rf"[/.]{re.escape(cfg['user'])}/|//{re.escape(cfg['user'])}\.", mine)

SETUPS = "import sys\nif 'google.colab' in sys.modules:\n    %pip install -q x\nimport byol_fastai.course", 'try: import other.course\nexcept ImportError: pass'

@pytest.mark.parametrize('old', SETUPS)
def test_the_setup_cell_is_pinned_to_this_version_and_comes_from_settings_alone(old, monkeypatch):
    stamp = tool('stamp')
    cell = stamp.stamp(old, '05_ema')
    assert stamp.stamp(cell, '05_ema')==cell==stamp.setup_cell()
    assert f"git+https://github.com/{cfg['user']}/{cfg['repo']}@v{cfg['version']}" in cell and f"{cfg['lib_name']}-{cfg['version']}-py3-none-any.whl" in cell
    monkeypatch.setattr(stamp, 'settings', lambda: {**cfg, 'user': 'me', 'repo': 'mine', 'version': '9.9'})
    assert 'github.com/me/mine@v9.9' in (mine := stamp.setup_cell()) and cfg['user'] not in mine.replace(cfg['lib_name'], '')

def runs_setup(found: list):
    "Run the setup cell where importing the course fails as often as `found` says no; what was installed"
    from IPython.core.inputtransformer2 import TransformerManager
    found,installed,real = iter(found), [], builtins.__import__
    def importing(name, *args, **kwargs):
        if name.endswith('.course') and not next(found): raise ImportError(name)
        return real(name, *args, **kwargs)
    class Shell:
        def run_line_magic(self, magic, line): installed.append((magic, line))
    made = {'get_ipython': Shell, '__builtins__': {**vars(builtins), '__import__': importing}}
    exec(TransformerManager().transform_cell(tool('stamp').setup_cell()), made)
    return installed

def test_the_setup_cell_installs_only_where_nothing_is_and_says_what_else_can_be_done():
    assert runs_setup([True])==[]
    (magic,line), = runs_setup([False, True])
    assert magic=='pip' and line.startswith('install -q') and '-U' not in line and '--upgrade' not in line
    with pytest.raises(SystemExit, match='(?s)could not be reached.*pip install https://.*whl.*git clone'): runs_setup([False, False])

# --- nothing of this computer

def committed():
    command = 'git ls-files --cached --others --exclude-standard -z'.split()
    try: out = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError): pytest.skip('not a git repository')
    return [ROOT/o for o in out.split('\0') if o and (ROOT/o).is_file()]

def test_no_file_names_a_folder_of_this_computer_or_a_package_registry():
    path = r'(?<![\w+/=.:~$}-])/(?:home|root|work|Users|opt)/(?!me\b|you\b)[\w.]' # not inside a URL or a picture in base64; `/home/me` is anybody
    host = r'(?:pypi|anaconda)\.org|pythonhosted\.|npmjs\.(?:org|com)|index[-]url|trusted[-]host'
    configured = ' '.join(v for k,v in os.environ.items() if k.startswith(('PIP_', 'UV_')) and 'INDEX' in k)
    mirror = [re.escape(o) for o in re.findall(r'//(?:[^/@]*@)?([\w.-]+)', configured)]
    found = []
    for f in committed():
        try: text = f.read_text(encoding='utf-8')
        except UnicodeDecodeError: continue
        found += [f'{f.relative_to(ROOT)}: {m[0]}' for m in re.finditer('|'.join([path, host, *mirror]), text)]
    assert not found

def test_no_file_is_a_leftover():
    def left(f): return f.suffix in ('.pyc', '.orig', '.rej', '.part', '.log') or '.ipynb_checkpoints' in f.parts or f.stat().st_size>2_000_000
    assert [str(f.relative_to(ROOT)) for f in committed() if left(f)]==[]

def required(requirements):
    "All distributions that come with these requirements, by their canonical names"
    found,todo = set(),[Requirement(o) for o in requirements]
    while todo:
        r = todo.pop()
        if r.marker and not r.marker.evaluate({'extra': ''}) or canonicalize_name(r.name) in found: continue
        found.add(canonicalize_name(r.name))
        with contextlib.suppress(md.PackageNotFoundError): todo += [Requirement(o) for o in md.requires(r.name) or []]
    return found

def test_the_package_imports_only_what_comes_with_its_requirements():
    "What the extra `dev` installs is not there for those who only use the package"
    imports = set()
    for path in (ROOT/'byol_fastai').glob('*.py'):
        for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
            if isinstance(node, ast.Import): imports |= {a.name.split('.')[0] for a in node.names}
            if isinstance(node, ast.ImportFrom) and not node.level: imports.add(node.module.split('.')[0])
    imports -= {*sys.stdlib_module_names, 'byol_fastai', 'IPython'} # `course` needs it where it makes a table for a notebook, and nothing else does
    come,of = required(lines('requirements')), md.packages_distributions()
    imports -= {'onnxruntime', 'umap'} # asked for with a sentence where they are not there; the extras `export` and `explore` bring them
    assert {'fastai', 'timm'} <= imports
    assert [o for o in sorted(imports) if not come & {canonicalize_name(d) for d in of.get(o, [o])}]==[] # Python 3.10 knows fewer of them
