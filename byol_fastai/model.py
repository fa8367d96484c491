from fastai.vision.all import *
from copy import deepcopy
import difflib, timm
from torchvision import models as tvm

class TinyResNet(nn.Module):
    "A residual network small enough to train on a laptop CPU: stem of stride 2, three stages, global average pool"
    def __init__(self, width=24, stages=3, stem_stride=2):
        super().__init__()
        self.n_features = width*2**(stages-1)
        self.stem = nn.Sequential(nn.Conv2d(3, width, 3, stem_stride, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True))
        self.stages = nn.Sequential(*[_Block(width*2**max(i-1, 0), width*2**i, 1 if i==0 else 2) for i in range(stages)])
    def forward(self, x): return self.stages(self.stem(x)).mean((2,3))

class _Block(nn.Module):
    def __init__(self, ni, nf, stride):
        super().__init__()
        self.conv1,self.bn1 = nn.Conv2d(ni, nf, 3, stride, 1, bias=False),nn.BatchNorm2d(nf)
        self.conv2,self.bn2 = nn.Conv2d(nf, nf, 3, 1, 1, bias=False),nn.BatchNorm2d(nf)
        self.skip = nn.Identity() if ni==nf and stride==1 else nn.Sequential(nn.Conv2d(ni, nf, 1, stride, bias=False), nn.BatchNorm2d(nf))
    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        return F.relu(self.bn2(self.conv2(y)) + self.skip(x), inplace=True)

def _small_stem(model):
    "A 3x3 convolution of stride 1 and no pooling in front, instead of the ImageNet stem that turns 32 pixels into 8"
    if not (hasattr(model, 'conv1') and hasattr(model, 'maxpool')): raise ValueError(f"small=True replaces the stem of ResNets only; {type(model).__name__} has none.")
    old = model.conv1 if isinstance(model.conv1, nn.Conv2d) else model.conv1[0]
    out = model.bn1.num_features
    model.conv1,model.maxpool = nn.Conv2d(old.in_channels, out, 3, 1, 1, bias=False),nn.Identity()
    return model

def create_encoder(
    arch:str='resnet18', # `'tiny'`, or a backbone of timm or torchvision
    small:bool|None=None, # Use a 3x3 stem without max-pool, for images of up to 64 pixels; `None` keeps the architecture's own
    pretrained:bool=False, # Start from ImageNet weights
)->nn.Module: # [B,3,H,W] -> [B,n_features]
    "A backbone without its classification head, with its width in `.n_features`"
    if arch=='tiny': return TinyResNet()
    if timm.is_model(arch):
        model = timm.create_model(arch, pretrained=pretrained, num_classes=0)
        model.n_features = model.num_features
    elif arch in tvm.list_models(tvm): model = _torchvision_backbone(arch, pretrained)
    else:
        near = difflib.get_close_matches(arch, ['tiny', *timm.list_models(), *tvm.list_models(tvm)], 3)
        raise ValueError(f"Architecture {arch!r} is neither 'tiny' nor known to timm or torchvision" + (f"; did you mean {' or '.join(map(repr, near))}?" if near else "."))
    return _small_stem(model) if small else model

def _torchvision_backbone(arch, pretrained):
    model = tvm.get_model(arch, weights='DEFAULT' if pretrained else None)
    for name in ('fc', 'classifier', 'heads', 'head'):
        head = getattr(model, name, None)
        if head is None: continue
        last = [m for m in head.modules() if isinstance(m, nn.Linear)]
        model.n_features = last[0].in_features
        setattr(model, name, nn.Identity())
        return model
    raise ValueError(f"The classification head of torchvision's {arch!r} was not found; use the model of that name in timm, or pass your own module with `.n_features`.")

def check_encoder(
    encoder:nn.Module, # [B,3,size,size] -> [B,n_features]
    size:int, # Side of a view, pixels
)->nn.Module: # The encoder, unchanged
    "Raise a sentence now if `encoder` cannot take images of `size` pixels, instead of a traceback in the middle of a fit"
    if not hasattr(encoder, 'n_features'): raise ValueError(f"The encoder {type(encoder).__name__} has no attribute `n_features`: set it to the length of the feature vector it returns.")
    p = next(encoder.parameters())
    was = encoder.training
    try:
        with torch.no_grad(): out = encoder.eval()(torch.zeros(2, 3, size, size, device=p.device))
    except Exception as e: raise ValueError(f"The encoder {type(encoder).__name__} cannot take images of {size} pixels: {str(e).splitlines()[0]}") from e
    finally: encoder.train(was)
    if tuple(out.shape)!=(2, encoder.n_features): raise ValueError(f"The encoder {type(encoder).__name__} turns [2, 3, {size}, {size}] into {list(out.shape)}, but should give [2, {encoder.n_features}]: one vector of `.n_features` numbers an image.")
    return encoder

class MLPHead(nn.Sequential):
    def __init__(self, n_in, n_hidden, n_out):
        super().__init__(nn.Linear(n_in, n_hidden), nn.BatchNorm1d(n_hidden), nn.ReLU(inplace=True), nn.Linear(n_hidden, n_out))

class BYOL(nn.Module):
    def __init__(self, encoder, n_hidden=4096, n_proj=256):
        super().__init__()
        self.encoder = encoder
        self.projector = MLPHead(encoder.n_features, n_hidden, n_proj)
        self.predictor = MLPHead(n_proj, n_hidden, n_proj)
        self.target = deepcopy(nn.Sequential(self.encoder, self.projector)).requires_grad_(False)
    def forward(self, v1, v2):
        z1,z2 = (self.projector(self.encoder(v)) for v in (v1, v2))
        self.projections = z1.detach(),z2.detach()
        return self.predictor(z1),self.predictor(z2)
    @torch.no_grad()
    def targets(self, v1, v2): return self.target(v1),self.target(v2)
    @torch.no_grad()
    def update_target(self, tau):
        online = [*self.encoder.parameters(), *self.projector.parameters()]
        torch._foreach_lerp_(list(self.target.parameters()), online, 1-tau)
