"Encoders in other programs: the same features on the other side, and sentences where that cannot be"
import json, pickle
from tempfile import TemporaryDirectory
import pytest, timm, torch, torchvision
from fastai.vision.all import CrossEntropyLossFlat, DataLoaders, create_body, nn, unet_learner, vision_learner
from hypothesis import given, settings, strategies as st
from safetensors import safe_open
from safetensors.torch import save as tensor_bytes
from byol_fastai import export
from byol_fastai.data import labelled_dls
from byol_fastai.errors import UserError
from byol_fastai.export import fastai_arch, fastai_body, fill, model_card, onnx_features, save_single_file, to_onnx, to_program
from byol_fastai.model import TinyResNet, create_encoder, small_stem
from byol_fastai.saving import load_encoder, save_encoder
from conftest import same, state

def lively(arch, **kwargs):
    "An encoder whose BatchNorm statistics and biases are those of no fresh network"
    encoder = create_encoder(arch, **kwargs)
    for k,o in [*encoder.named_buffers(), *encoder.named_parameters()]:
        if k.endswith(('running_mean', 'bn1.bias')): o.data.normal_(0, .1)
        if k.endswith('running_var'): o.data.uniform_(.5, 1.5)
    return encoder.eval()

def tiny(): return lively('tiny')
def packed(): return {k: o.contiguous() for k,o in tiny().state_dict().items()}
ENCODERS = {'tiny': tiny, 'resnet18': lambda: lively('resnet18', small=False), 'small resnet18': lambda: lively('resnet18', small=True)}

# --- programs

@pytest.mark.filterwarnings('ignore') # of torch about its own parts
@pytest.mark.parametrize('name', ['tiny', 'resnet18'])
def test_a_program_of_torch_gives_the_same_features_for_any_batch(name, tmp_path):
    encoder = ENCODERS[name]().train()
    torch.export.save(to_program(encoder, 32), tmp_path/'e.pt2')
    assert encoder.training, 'it is left as it is'
    program,x = torch.export.load(tmp_path/'e.pt2').module(),torch.randn(5, 3, 32, 32)
    with torch.no_grad():
        for n in (1, 2, 5): torch.testing.assert_close(program(x[:n]), encoder.eval()(x[:n]), rtol=1e-4, atol=1e-5)

@pytest.mark.filterwarnings('ignore') # of torch about its own parts
@pytest.mark.parametrize('name', ['tiny', 'resnet18'])
def test_onnxruntime_gives_the_same_features_for_any_batch(name, tmp_path):
    for o in 'onnx', 'onnxscript', 'onnxruntime': pytest.importorskip(o, reason=f'{o} is not installed: pip install onnx onnxscript onnxruntime')
    encoder,x = ENCODERS[name](),torch.randn(5, 3, 32, 32)
    file = to_onnx(encoder, tmp_path/'deep'/'e.onnx', 32)
    assert [o.name for o in file.parent.iterdir()]==['e.onnx'], 'one file, weights and all'
    with torch.no_grad():
        for n in (1, 2, 5): torch.testing.assert_close(onnx_features(file, x[:n]), encoder(x[:n]), rtol=1e-4, atol=1e-4)

@pytest.mark.filterwarnings('ignore') # of torch about its own parts
def test_the_normalisation_may_be_inside_and_the_card_is(tmp_path):
    onnx = pytest.importorskip('onnx', reason='onnx is not installed')
    for o in 'onnxscript', 'onnxruntime': pytest.importorskip(o, reason=f'{o} is not installed')
    save_encoder(tmp_path/'e', tiny(), 'tiny', 16, mean=(.5, .4, .3), std=(.2, .3, .4), note='mine')
    encoder,x = load_encoder(tmp_path/'e'),torch.rand(3, 3, 16, 16)
    file = to_onnx(encoder, tmp_path/'e.onnx', 16, pixels=True)
    with torch.no_grad(): mine = encoder((x-torch.tensor([.5, .4, .3]).view(3, 1, 1))/torch.tensor([.2, .3, .4]).view(3, 1, 1))
    torch.testing.assert_close(onnx_features(file, x), mine, rtol=1e-4, atol=1e-4)
    assert json.loads({o.key: o.value for o in onnx.load(file).metadata_props}['byol_fastai'])['note']=='mine'
    with pytest.raises(UserError, match='differ by'): export._compare(file, encoder, x, 1e-4) # as for a file that is wrong

def test_what_is_missing_for_onnx_is_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(export, 'find_spec', lambda name: None if name.startswith('onnx') else 1)
    with pytest.raises(UserError, match='onnx and onnxscript and onnxruntime is not installed: pip install'): to_onnx(tiny(), tmp_path/'e.onnx', 32)
    assert not list(tmp_path.iterdir())

def test_pixels_need_a_normalisation():
    with pytest.raises(UserError, match='does not say how its images are normalised'): export._taking_pixels(TinyResNet())

# --- timm and torchvision

def test_a_large_stem_fits_in_one_line():
    encoder,x = ENCODERS['resnet18'](),torch.randn(2, 3, 64, 64)
    model = timm.create_model('resnet18', num_classes=0)
    model.load_state_dict(encoder.state_dict())
    theirs = torchvision.models.resnet18()
    said = theirs.load_state_dict(encoder.state_dict(), strict=False)
    assert (said.missing_keys, said.unexpected_keys)==(['fc.weight', 'fc.bias'], [])
    theirs.fc = nn.Identity()
    with torch.no_grad():
        for m in model,theirs: torch.testing.assert_close(m.eval()(x), encoder(x), rtol=1e-4, atol=1e-5)

@pytest.mark.parametrize('make', [lambda: timm.create_model('resnet18', num_classes=0), torchvision.models.resnet18])
def test_a_small_stem_says_what_differs_and_the_recipe_works(make):
    encoder,model,x = ENCODERS['small resnet18'](),make(),torch.randn(2, 3, 32, 32)
    before = state(model)
    with pytest.raises(UserError, match=r'3x3 convolution of stride 1, no max-pool.*small_stem\(model\)'): fill(model, encoder)
    assert same(before, state(model))
    fill(small_stem(model), encoder)
    model.fc = nn.Identity()
    with torch.no_grad(): torch.testing.assert_close(model.eval()(x), encoder(x), rtol=1e-4, atol=1e-5)

def test_another_architecture_and_the_stem_the_other_way_round_are_sentences():
    encoder = ENCODERS['resnet18']()
    with pytest.raises(UserError, match='not of the architecture of the encoder'): fill(timm.create_model('resnet34'), encoder)
    with pytest.raises(UserError, match='without small_stem'): fill(small_stem(timm.create_model('resnet18')), encoder)

# --- fastai

@pytest.mark.parametrize('name', ENCODERS)
def test_a_body_makes_the_maps_whose_average_are_the_features(name):
    encoder,x = ENCODERS[name](),torch.randn(2, 3, 64, 64)
    body = fastai_body(encoder)
    with torch.no_grad():
        for o in body,create_body(fastai_arch(encoder)()): torch.testing.assert_close(o.eval()(x).mean((2, 3)), encoder(x), rtol=1e-4, atol=1e-4)
    assert all(o.requires_grad for o in body.parameters()) and not {*map(id, body.parameters())} & {*map(id, encoder.parameters())}

def test_a_network_of_torchvision_has_a_body_and_a_transformer_gets_a_sentence():
    encoder,x = create_encoder('torchvision.shufflenet_v2_x0_5').eval(),torch.rand(2, 3, 64, 64)
    with torch.no_grad(): torch.testing.assert_close(fastai_body(encoder).eval()(x).mean((2, 3)), encoder(x), rtol=1e-4, atol=1e-4)
    with pytest.raises(UserError, match='no place before its average'): fastai_body(create_encoder('vit_tiny_patch16_224', size=64).eval())

def test_a_vision_learner_trains_a_head_on_a_frozen_body_and_then_all():
    encoder = tiny()
    learn = vision_learner(labelled_dls('shapes', n=40, bs=8, device='cpu'), fastai_arch(encoder), n_out=10, loss_func=CrossEntropyLossFlat())
    kept = [o.detach().clone() for o in learn.model[0].parameters() if not o.requires_grad]
    with learn.no_bar(), learn.no_logging(): learn.fit(1, 1e-2)
    assert kept and all(torch.equal(a, b) for a,b in zip(kept, [o for o in learn.model[0].parameters() if not o.requires_grad]))
    learn.unfreeze()
    assert all(o.requires_grad for o in learn.model.parameters())

@pytest.mark.parametrize('name', ['tiny', 'small resnet18'])
def test_a_unet_learner_takes_a_step_on_masks(name):
    x = torch.rand(4, 3, 32, 32)
    items = list(zip(x, (x.mean(1)>.5).long()))
    learn = unet_learner(DataLoaders.from_dsets(items, items, bs=2, device='cpu', num_workers=0), fastai_arch(ENCODERS[name]()), n_out=2, loss_func=CrossEntropyLossFlat(axis=1))
    before = [o.detach().clone() for o in learn.model.parameters()]
    with learn.no_bar(), learn.no_logging(): learn.fit(1, 1e-3)
    assert learn.model(x).shape==(4, 2, 32, 32) and len(learn.recorder.losses)==2 and all(o.isfinite() for o in learn.recorder.losses)
    assert any(not torch.equal(a, b) for a,b in zip(before, learn.model.parameters()))

# --- one file

def test_one_file_is_enough_and_any_reader_of_safetensors_reads_it(tmp_path, monkeypatch):
    save_encoder(tmp_path/'e', tiny(), 'tiny', 32, note='</script>')
    encoder = load_encoder(tmp_path/'e')
    f = save_single_file(tmp_path/'one'/'all.v1', tmp_path/'e')
    assert f.name=='all.v1.safetensors' and [o.name for o in f.parent.iterdir()]==[f.name]
    def refuse(*args, **kwargs): raise AssertionError('something was unpickled')
    for o in (pickle, 'load'),(pickle, 'loads'),(pickle, 'Unpickler'),(torch, 'load'): monkeypatch.setattr(*o, refuse)
    for path in f,f.with_suffix(''):
        back = load_encoder(path)
        assert same(state(back), state(encoder)) and back.info==encoder.info and not back.training
    with safe_open(f, 'pt') as o: assert set(o.keys())==set(encoder.state_dict()) and encoder.info.items()<json.loads(o.metadata()['byol_fastai']).items()
    again = save_single_file(tmp_path/'two'/'again', f)
    assert load_encoder(again).info==encoder.info, 'a single file may be the source, too'

@given(st.floats(0, 1, exclude_max=True), st.integers(0, 7))
@settings(max_examples=25)
def test_a_single_file_notices_when_its_numbers_change(at, bit):
    with TemporaryDirectory() as folder:
        save_encoder(f'{folder}/e', tiny(), 'tiny', 32)
        f = save_single_file(f'{folder}/alone', f'{folder}/e')
        content = bytearray(f.read_bytes())
        head = 8+int.from_bytes(content[:8], 'little')
        content[head+int(at*(len(content)-head))] ^= 1<<bit
        f.write_bytes(content)
        with pytest.raises(UserError, match='damaged'): load_encoder(f)

def test_a_card_beside_the_file_goes_first_and_is_not_overshadowed(tmp_path):
    save_encoder(tmp_path/'e', tiny(), 'tiny', 32)
    with pytest.raises(UserError, match='the card of another encoder'): save_single_file(tmp_path/'e', tmp_path/'e')

@pytest.mark.parametrize('card', ['{"arch": ', '[1]', '{}', 'x'*(2**24+1)], ids=['cut off', 'a list', 'empty', 'too large'])
def test_a_card_inside_that_is_none_is_a_sentence(card, tmp_path):
    (tmp_path/'e.safetensors').write_bytes(tensor_bytes(packed(), {'byol_fastai': card}))
    with pytest.raises(UserError, match='cannot be'): load_encoder(tmp_path/'e')

def test_weights_without_any_card_ask_for_it(tmp_path):
    (tmp_path/'e.safetensors').write_bytes(tensor_bytes(packed()))
    with pytest.raises(UserError, match='There is no .*e.json'): load_encoder(tmp_path/'e')

# --- the card for people

REPORT = dict(fingerprint=dict(count=1234, hash='abc123'), found=['1,234 images | in <b>two</b> folders'], device='CPU, 1 thread', stopped=None,
    probes={'raw pixels': dict(kNN=.25, linear=.3), 'BYOL': dict(kNN=.625, linear=None), 'supervised': dict(kNN=.9, linear=.91, stored='measured beforehand')})

def run_folder(path, report=REPORT, **info):
    save_encoder(path/'encoder', tiny(), 'tiny', 32, trained=dict(data='/somewhere/private/my_photos', lr=.05, wd=None, seed=42), epochs=7, **info)
    if report is not None: (path/'report.json').write_text(json.dumps(report))
    return path

def test_a_card_names_data_recipe_versions_and_rivals(tmp_path):
    text = model_card(run_folder(tmp_path), tmp_path/'README.md')
    assert (tmp_path/'README.md').read_text()==text
    for o in ('abc123', '1234', '| lr | 0.05 |', '| epochs | 7 |', '| raw pixels | 25.0 % | 30.0 % |', '| BYOL | 62.5 % | not measured |', 'supervised (measured beforehand)',
        f'| torch | {torch.__version__.split("+")[0]}'.split('+')[0], 'CPU, 1 thread', '## Limits', 'Fairness, and what it makes of people: not measured'): assert o in text, o
    assert '/somewhere' not in text and '| wd' not in text

def test_markup_in_what_was_found_stays_text(tmp_path):
    text = model_card(run_folder(tmp_path))
    assert '<b>' not in text and r'1,234 images \| in &lt;b&gt;two&lt;/b&gt; folders' in text and r'my\_photos' in text

@pytest.mark.parametrize('report', [None, {}, dict(probes=None)])
def test_what_was_not_measured_is_named_as_such(report, tmp_path):
    text = model_card(run_folder(tmp_path, report))
    assert 'Not measured.' in text and 'not recorded' in text and 'nothing was measured at all' in text

def test_a_training_that_stopped_early_is_told(tmp_path):
    assert 'stopped early: it has collapsed' in model_card(run_folder(tmp_path, {**REPORT, 'stopped': 'it has collapsed'}))
