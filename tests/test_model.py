"Encoders against timm and torchvision; the network pair: what is shared, what is frozen, what is kept apart"
import copy, pickle, pytest, timm, torch
from functools import partial
from fastai.vision.all import create_body, xresnet18
from torch import nn
from torchvision import models as tvm
from byol_fastai.all import BYOL, MLPHead, TinyResNet, create_encoder
from byol_fastai.errors import UserError
from byol_fastai.model import check_encoder, has_big_stem, small_stem, unwrap, wants_adamw
from conftest import same, state, tiny_learner

def small_byol(): return BYOL(TinyResNet(width=8), n_hidden=12, n_proj=6)

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
    encoder = TinyResNet(width=8).train()
    encoder.stem.eval()
    before = state(encoder)
    check_encoder(encoder, 16)
    assert same(state(encoder), before)
    assert encoder.training and not encoder.stem.training and encoder.stages.training, 'every module keeps its own mode'

def test_heads_are_those_of_the_paper():
    model = BYOL(TinyResNet(width=8))
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

def vectors(arch, size=32, in_chans=3, **kwargs):
    "An encoder that has passed the check, and what it makes of noise"
    encoder = check_encoder(create_encoder(arch, size=size, in_chans=in_chans, **kwargs), size, in_chans)
    h,w = (size, size) if isinstance(size, int) else size
    with torch.no_grad(): assert encoder.train()(torch.randn(2, in_chans, h, w)).shape==(2, encoder.n_features)
    return encoder

@pytest.mark.parametrize('arch, n', [(tvm.resnet18, 512), (partial(tvm.resnet18, num_classes=3), 512), (timm.models.resnet18, 512), (tvm.mobilenet_v3_small, 576), (tvm.convnext_tiny, 768),
    (partial(tvm.googlenet, init_weights=False), 1024), (xresnet18, 512), (TinyResNet, 64), (partial(TinyResNet, width=8), 32), (lambda: tvm.resnet18(), 512), ('torchvision.resnet18', 512), ('timm.resnet18', 512)])
def test_a_function_that_makes_a_network_is_as_good_as_a_name(arch, n): assert vectors(arch, 64).n_features==n

@pytest.mark.parametrize('make, n', [(tvm.resnet18, 512), (lambda: timm.create_model('convnext_atto'), 320), (lambda: create_body(tvm.resnet18(), cut=-2), 512), (xresnet18, 512),
    (lambda: nn.DataParallel(tvm.resnet18()), 512), (lambda: nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU()), 5)])
def test_a_network_loses_its_classification_layer_and_its_vectors_are_measured(make, n): assert vectors(make(), 64).n_features==n

def test_a_network_that_says_what_it_gives_is_left_alone():
    own = TinyResNet(width=8)
    assert create_encoder(own, size=32) is own and unwrap(torch.compile(nn.DataParallel(own))) is own
    net = tvm.resnet18()
    weight = net.conv1.weight
    assert create_encoder(net, size=32) is net and net.conv1.weight is weight, 'nobody takes weights from a network that is there, pretrained perhaps'

def test_a_linear_layer_at_the_end_is_asked_about():
    net = nn.Sequential(nn.Flatten(), nn.Linear(3*16*16, 10))
    with pytest.raises(ValueError, match=r'ends in a linear layer.*`.n_features = 10`'): create_encoder(net, size=16)
    net.n_features = 10
    assert create_encoder(net, size=16) is net

@pytest.mark.parametrize('arch', ['resnet50_gn', 'resnetv2_50', 'resnet18d', 'resnet50_clip', 'resnet51q'])
def test_stems_that_cannot_be_exchanged_are_kept(arch):
    encoder = vectors(arch, 32)
    assert not has_big_stem(encoder) and encoder.recipe['small'] is False
    with pytest.raises(ValueError, match='leave `small` out'): create_encoder(arch, small=True)

def test_the_stem_goes_where_views_are_small_and_nothing_was_pretrained(monkeypatch):
    assert [create_encoder('resnet18', size=s).conv1.kernel_size[0] for s in (32, 64, 65, 224, (48, 64))]==[3, 3, 7, 7, 3]
    assert create_encoder('resnet18').conv1.kernel_size==(7, 7) and create_encoder('resnet18', small=False, size=32).conv1.kernel_size==(7, 7)
    make = timm.create_model
    monkeypatch.setattr(timm, 'create_model', lambda name, pretrained, **kwargs: make(name, **kwargs))
    kept = create_encoder('resnet18', pretrained=True, size=32)
    assert kept.conv1.kernel_size==(7, 7) and kept.mean==tuple(timm.get_pretrained_cfg('resnet18').mean)
    with pytest.warns(UserWarning, match='pretrained stem .* is replaced'): assert create_encoder('resnet18', small=True, pretrained=True).conv1.kernel_size==(3, 3)

@pytest.mark.parametrize('size', [32, 96, (32, 48)])
def test_a_vision_transformer_is_made_for_its_views(size):
    encoder = vectors('vit_tiny_patch16_224', size, drop_path_rate=.1)
    assert encoder.recipe['img_size']==size and encoder.recipe['drop_path_rate']==.1

@pytest.mark.parametrize('arch', ['tiny', 'resnet18', 'vit_tiny_patch16_224'])
@pytest.mark.parametrize('in_chans', [1, 13])
def test_any_number_of_channels(arch, in_chans):
    encoder = vectors(arch, 32, in_chans)
    with pytest.raises(ValueError, match='3 channels'): check_encoder(encoder, 32)

@pytest.mark.parametrize('arch, kwargs', [('resnet18', dict(size=32, in_chans=4)), ('vit_tiny_patch16_224', dict(size=32)), (tvm.resnet18, dict(size=96)), ('tiny', dict(width=8))])
def test_the_recipe_makes_another_network_like_it(arch, kwargs):
    encoder = create_encoder(arch, **kwargs)
    again = create_encoder(**encoder.recipe)
    assert not same(state(again), state(encoder))
    again.load_state_dict(encoder.state_dict())

@pytest.mark.parametrize('call, said', [(lambda: create_encoder('resnet_18', img_size=3), "'resnet18'"), (lambda: create_encoder('resnet18', img_size=3), 'img_size'),
    (lambda: create_encoder('tiny', img_size=3), 'img_size'), (lambda: create_encoder('tiny', pretrained=True), 'nobody publishes'), (lambda: create_encoder(18), 'arch=18'),
    (lambda: create_encoder(TinyResNet(), width=3), 'takes no options'), (lambda: create_encoder('tiny', width=7), 'at least 8'), (lambda: create_encoder('torchvision.resnet18', in_chans=4), 'channels'),
    (lambda: check_encoder(create_encoder('vit_tiny_patch16_224'), 64), '--size 224'), (lambda: check_encoder(create_encoder('vit_tiny_patch16_224', size=64, img_size=96), 64), '--size 96'),
    (lambda: create_encoder('tiny', stages=0), 'at least one stage'), (lambda: small_byol().update_target(float('nan')), 'between 0 and 1'),
    (lambda: small_byol().update_target(1.01), 'between 0 and 1'), (lambda: BYOL(nn.Flatten()), 'create_encoder')])
def test_what_the_user_can_cure_is_a_sentence(call, said):
    with pytest.raises(UserError) as e: call()
    text = str(e.value)
    assert said in text and text[-1] in '.?' and text.count("'resnet18'")<2

def test_transformers_and_convnext_ask_for_adamw():
    assert [wants_adamw(create_encoder(o)) for o in ('vit_tiny_patch16_224', 'convnext_atto', 'resnet18', 'tiny', 'mobilenetv3_small_050')]==[True, True, False, False, False]
    assert wants_adamw(tvm.vit_b_32()) and wants_adamw(tvm.convnext_tiny())

def test_weights_go_home_to_timm_and_torchvision():
    for size in (32, 224):
        weights = create_encoder('resnet18', size=size).state_dict()
        theirs,more = timm.create_model('resnet18', num_classes=0), tvm.resnet18()
        if size==32: theirs,more = small_stem(theirs), small_stem(more)
        theirs.load_state_dict(weights)
        assert more.load_state_dict(weights, strict=False).missing_keys==['fc.weight', 'fc.bias']

class OnTwo(nn.DataParallel):
    "Two copies of the network on two devices that are one: what `DataParallel` does where there are GPUs"
    def forward(self, *views):
        copies = [self.module._replicate_for_data_parallel() for _ in range(2)]
        for o in copies: o._parameters = self.module._parameters
        outs = [o(*[v.chunk(2)[i] for v in views]) for i,o in enumerate(copies)]
        return tuple(map(torch.cat, zip(*outs)))

def test_projections_of_all_copies_are_kept_and_only_those_of_the_last_batch():
    model,x = small_byol().eval(), torch.randn(2, 8, 3, 16, 16)
    assert model.projections==()
    model(*x); want = model.projections
    for _ in range(2):
        OnTwo(model)(*x)
        for got,o in zip(model.projections, want): torch.testing.assert_close(got, o)
    model(*x[:,:3])
    assert len(model.projections[0])==3 and copy.deepcopy(model).projections==() and pickle.loads(pickle.dumps(model)).projections==()

def test_the_model_compiles_in_one_piece():
    model,x = small_byol().eval(), torch.randn(2, 4, 3, 16, 16)
    torch.testing.assert_close(torch.compile(model, backend='eager', fullgraph=True)(*x), model(*x))
