from fastai.vision.all import *
def byol_loss(p, z):
    p,z = (F.normalize(o.float(), dim=-1) for o in (p, z.detach()))
    return 2 - 2*(p*z).sum(-1).mean()
class BYOLLoss(Module):
    def forward(self, preds, z1, z2): return byol_loss(preds[0], z2) + byol_loss(preds[1], z1)
