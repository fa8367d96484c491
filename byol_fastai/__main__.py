"`python -m byol_fastai` is `byol_pretrain`, and `python -m byol_fastai evaluate RUN` is `byol_evaluate`."
import sys
from .cli import byol_evaluate, byol_pretrain

if __name__=='__main__':
    args = sys.argv[1:]
    if args[:1]==['evaluate']: byol_evaluate(args[1:])
    else: byol_pretrain(args[1:] if args[:1]==['pretrain'] else args)
