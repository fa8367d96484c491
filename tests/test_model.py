"Encoders against timm and torchvision; the network pair: what is shared, what is frozen, what is kept apart"
import pytest, timm, torch
from torch import nn
from torchvision import models as tvm
from byol_fastai.all import BYOL, MLPHead, TinyResNet, create_encoder
from byol_fastai.model import check_encoder
from conftest import same, state, tiny_learner

def small_byol(): return BYOL(TinyResNet(width=4), n_hidden=12, n_proj=6)

def test_a_timm_encoder_is_timms_network_without_its_head():
    ours,theirs = create_encoder('resnet18'), timm.create_model('resnet18', num_classes=0)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad(): torch.testing.assert_close(ours.eval()(x), theirs.eval()(x))
    assert ours.n_features==512

@pytest.mark.parametrize('arch', ['mnasnet0_5', 'shufflenet_v2_x0_5'])
def test_a_torchvision_encoder_is_torchvisions_network_without_its_head(arch):
    ours,theirs = create_encoder(arch), tvm.get_model(arch)
    last = [m for m in theirs.modules() if isinstance(m, nn.Linear)][-1]
    assert ours.n_features==last.in_features
    theirs.load_state_dict(ours.state_dict(), strict=False)
    seen = []
    last.register_forward_pre_hook(lambda m, x: seen.append(x[0]))
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad(): theirs.eval()(x); torch.testing.assert_close(ours.eval()(x), seen[0])

@pytest.mark.parametrize('arch', ['tiny', 'resnet18', 'convnext_atto', 'mobilenetv3_small_050', 'squeezenet1_0'])
def test_an_encoder_gives_n_features_or_a_sentence(arch):
    try: encoder = create_encoder(arch)
    except ValueError as e: assert arch in str(e) and str(e).endswith('.')
    else: assert check_encoder(encoder, 64) is encoder

def test_the_small_stem_keeps_the_resolution_that_the_imagenet_stem_throws_away():
    sides = {}
    for small in (True, False):
        encoder = create_encoder('resnet18', small=small)
        encoder.layer1.register_forward_pre_hook(lambda m, x: sides.update({small: x[0].shape[-1]}))
        check_encoder(encoder, 32)
    assert sides=={True: 32, False: 8}
    assert encoder.conv1.kernel_size==(7, 7) and create_encoder('resnet18', small=True).conv1.kernel_size==(3, 3)

def test_wrong_encoders_are_refused_in_a_sentence():
    with pytest.raises(ValueError, match=r"did you mean .*'resnet18'"): create_encoder('resnet_18')
    with pytest.raises(ValueError, match='small=True'): create_encoder('convnext_atto', small=True)
    with pytest.raises(ValueError, match='n_features'): check_encoder(nn.Conv2d(3, 8, 3), 16)
    conv = nn.Conv2d(3, 8, 3); conv.n_features = 8
    with pytest.raises(ValueError, match=r'should give \[2, 8\]'): check_encoder(conv, 16)
    with pytest.raises(ValueError, match='cannot take images of 3 pixels'): check_encoder(create_encoder('convnext_atto'), 3)

def test_looking_at_an_encoder_leaves_it_as_it_was():
    encoder = TinyResNet(width=4).train()
    encoder.stem.eval()
    before = state(encoder)
    check_encoder(encoder, 16)
    assert same(state(encoder), before)
    assert encoder.training and not encoder.stem.training and encoder.stages.training, 'every module keeps its own mode'

def test_heads_are_those_of_the_paper():
    model = BYOL(TinyResNet(width=4))
    for head,n_in in (model.projector, model.encoder.n_features),(model.predictor, 256):
        assert isinstance(head, MLPHead) and [type(o) for o in head]==[nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Linear]
        assert (head[0].in_features, head[0].out_features, head[-1].out_features)==(n_in, 4096, 256)

def test_the_target_starts_as_a_frozen_copy_with_storage_of_its_own():
    model = small_byol()
    online = nn.Sequential(model.encoder, model.projector)
    assert same(state(model.target), state(online))
    assert not any(p.requires_grad for p in model.target.parameters()) and all(p.requires_grad for p in online.parameters())
    assert not {o.data_ptr() for o in model.target.state_dict().values()} & {o.data_ptr() for o in online.state_dict().values()}
    assert any(k.startswith('target.') for k in model.state_dict())

def test_predictions_and_targets_have_the_shapes_of_projections_and_only_predictions_a_gradient():
    model,(v1,v2) = small_byol(), torch.randn(2, 4, 3, 16, 16)
    preds,targets = model(v1, v2), model.targets(v1, v2)
    assert [o.shape for o in (*preds, *targets)]==[(4, 6)]*4
    assert all(o.requires_grad for o in preds) and not any(o.requires_grad for o in targets)

def test_batchnorm_never_mixes_the_two_views():
    model,(v1,v2,v3) = small_byol().train(), torch.randn(3, 4, 3, 16, 16)
    assert torch.equal(model(v1, v2)[0], model(v1, v3)[0]) and torch.equal(model(v2, v1)[1], model(v3, v1)[1])
    assert torch.equal(model.targets(v1, v2)[0], model.targets(v1, v3)[0])

def test_each_network_keeps_its_own_batchnorm_statistics():
    model,(v1,v2) = small_byol().train(), torch.randn(2, 4, 3, 16, 16)
    online,target = (lambda: {**state(model.encoder), **state(model.projector)}), (lambda: state(model.target))
    was = online(), target()
    model.targets(v1, v2)
    assert same(online(), was[0]) and not same(target(), was[1])
    now = target()
    model(v1, v2)
    assert not same(online(), was[0]) and same(target(), now)
    model.update_target(.5)
    buffers = dict(model.target.named_buffers())
    assert all(torch.equal(buffers[k], now[k]) for k in buffers), 'the average is over parameters; statistics are measured'

def test_update_target_is_the_weighted_mean_in_float64():
    model = small_byol().double()
    for p in model.target.parameters(): p.normal_()
    was = [p.clone() for p in model.target.parameters()]
    model.update_target(.9)
    online = [*model.encoder.parameters(), *model.projector.parameters()]
    for new,old,on in zip(model.target.parameters(), was, online): torch.testing.assert_close(new, .9*old + .1*on.detach(), rtol=1e-12, atol=1e-14)

def test_one_state_dict_holds_everything(tmp_path):
    learn = tiny_learner(path=tmp_path)
    learn.fit_byol(1)
    learn.save('all')
    other = tiny_learner(path=tmp_path, seed=1)
    assert not same(state(other.model), state(learn.model))
    other.load('all')
    assert same(state(other.model), state(learn.model)) and same(state(other.model.target), state(learn.model.target))
