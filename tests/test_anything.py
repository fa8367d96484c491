"""Whatever goes in, out comes the right result or a sentence: wrong ranks, empty and strided tensors, all types, nan, infinite and huge numbers.

Each function of `byol_fastai.all` that takes tensors, arrays or numbers is compared with numpy in float64."""
import math
import numpy as np, pytest, torch
from fastai.vision.all import TensorImage
from hypothesis import given, settings, strategies as st
from sklearn.linear_model import LogisticRegression
from byol_fastai.all import (BYOL, RIVALS, AlbumentationsView, BatchView, MLPHead, TinyResNet, UserError, ViewPolicy, accuracy_of, byol_loss,
    byol_policies, condition_number, denormalise, effective_rank, eigenspectrum, embed, feature_std, feature_variance, knn_predict, linear_probe,
    make_shapes, tau_constant, tau_cosine, tau_linear, variance_terms)
from byol_fastai.evaluate import suitable_k

def answer(f, *args, **kwargs):
    "What `f` says, and `None` where it says why it cannot; any other exception is a fault"
    try: return f(*args, **kwargs)
    except UserError as e:
        assert len(str(e).split())>4 and str(e).rstrip()[-1] in '.:?', f'no sentence: {e}'

# --- what goes in

FLOATS = torch.float32, torch.float64, torch.float16, torch.bfloat16
DTYPES = *FLOATS, torch.int64, torch.uint8, torch.bool
def numbers(*shape, seed=0): return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))

def fill(shape, dtype, scale, content, seed):
    "A tensor of random numbers of about 10**`scale`, some of them of another kind"
    limit = 4 if dtype==torch.float16 else 30
    x = numbers(*shape, seed=seed)*10.**max(-limit, min(limit, scale))
    if not dtype.is_floating_point: x = (numbers(*shape, seed=seed)*50).abs()
    if content=='alike' and x.numel(): x = x[:1].expand(shape) if shape else x
    if content=='zeros': x = torch.zeros(shape)
    x = x.clone().to(dtype)
    if content in ('nan', 'inf') and dtype.is_floating_point and x.numel(): x.view(-1)[seed%x.numel()] = math.nan if content=='nan' else (-1)**seed*math.inf
    return x

def lay(x, layout):
    "The same numbers, otherwise in memory"
    if layout=='transposed' and x.ndim>1: return x.transpose(0, -1).contiguous().transpose(0, -1)
    if layout=='strided' and x.ndim: return torch.stack([x, x+1 if x.dtype!=torch.bool else ~x], -1).flatten(-2)[..., ::2]
    if layout=='gradient' and x.is_floating_point(): return x.clone().requires_grad_()
    return x.as_subclass(TensorImage) if layout=='of fastai' else x

LAYOUTS = 'plain', 'transposed', 'strided', 'gradient', 'of fastai'
def tensors(shape, dtypes=DTYPES, scales=(-30, -6, 0, 6, 15, 25, 30), contents=('numbers', 'numbers', 'numbers', 'alike', 'zeros', 'nan', 'inf')):
    made = st.builds(fill, shape, st.sampled_from(dtypes), st.sampled_from(scales), st.sampled_from(contents), st.integers(0, 99))
    return st.builds(lay, made, st.sampled_from(LAYOUTS))

sides = st.integers(0, 7)
any_shape = st.one_of(st.tuples(sides, sides), st.tuples(st.integers(2, 12), st.integers(1, 5)), st.tuples(sides), st.just(()), st.tuples(sides, sides, sides))
no_tensors = st.sampled_from([None, [[1., 2.], [3., 4.]], 3., np.ones((3, 2)), torch.complex(torch.ones(3, 2), torch.ones(3, 2))])
def plain(x): return x.detach().as_subclass(torch.Tensor).double().numpy()

# --- the loss

def bounds(p, z, of_64_bits):
    "What the loss of each pair lies between: by the equation, or 2 for the lengths that `byol_loss` names"
    with np.errstate(all='ignore'):
        lengths = [np.linalg.norm(o/np.maximum(np.abs(o).max(-1, keepdims=True), 1e-300), axis=-1)*np.abs(o).max(-1) for o in (p, z)]
        loss = 2-2*(p/lengths[0][..., None]*(z/lengths[1][..., None])).sum(-1)
    may = np.logical_or(*[(o<1.01e-12) | np.isfinite(o) & (o>.99e19) & (not of_64_bits) for o in lengths])
    loss = np.where((lengths[0]==0) & np.isfinite(lengths[1]) | (lengths[1]==0) & np.isfinite(lengths[0]), 2, loss)
    return (np.where(may, f(loss, 2), loss) for f in (np.minimum, np.maximum))

@settings(max_examples=100)
@given(st.one_of(tensors(any_shape), no_tensors), st.one_of(tensors(any_shape), no_tensors), st.sampled_from(['same shape']*4+['as they come']), st.sampled_from(['mean', 'none', 'sum', None]))
def test_the_loss(p, z, shapes, reduction):
    is_tensor = [isinstance(o, torch.Tensor) and not o.is_complex() for o in (p, z)]
    if shapes=='same shape' and all(is_tensor) and p.numel() and z.numel(): z = z.detach().as_subclass(torch.Tensor).flatten().repeat(p.numel())[:p.numel()].view(p.shape)
    loss = answer(byol_loss, p, z, reduction)
    if not all(is_tensor) or not p.numel() or p.shape!=z.shape or reduction not in ('mean', 'none'):
        assert loss is None
        return
    low,high = bounds(*[plain(o).reshape(p.shape or (1,)) for o in (p, z)], p.dtype==z.dtype==torch.float64)
    if reduction=='mean': low,high = low.mean(),high.mean()
    is_nan,found = np.isnan(low).reshape(loss.shape),plain(loss)
    assert (np.isnan(found)==is_nan).all() and ((low.reshape(found.shape)-1e-4<=found) & (found<=high.reshape(found.shape)+1e-4) | is_nan).all()

# --- collapse

@settings(max_examples=150)
@given(st.one_of(tensors(any_shape), no_tensors))
@pytest.mark.filterwarnings('ignore:condition_number')
def test_the_metrics_of_collapse(z):
    values = {f: answer(f, z) for f in (feature_variance, feature_std, eigenspectrum, condition_number, effective_rank)}
    if not isinstance(z, torch.Tensor) or z.is_complex() or z.ndim!=2 or len(z)<2 or z.shape[1]<1:
        assert set(values.values())=={None}
        return
    a = plain(z)
    if not np.isfinite(a).all():
        assert math.isnan(values[feature_variance]) and math.isnan(values[feature_std]) and values[eigenspectrum] is values[effective_rank] is None
        assert values[condition_number] is None or a.shape[0]<=a.shape[1]
        return
    close = lambda f, want, rtol=1e-6: np.testing.assert_allclose(np.asarray(values[f]), want, rtol=rtol, atol=1e-9*np.max(np.abs(want)), err_msg=f.__name__)
    lengths = np.linalg.norm(a, axis=1, keepdims=True)
    close(feature_variance, a.var(0, ddof=1).mean())
    np.testing.assert_allclose(values[feature_std], (a/np.where(lengths==0, 1, lengths)).std(0, ddof=1).mean()*a.shape[1]**.5, rtol=1e-6, atol=1e-9)
    spectrum,s = np.linalg.eigvalsh(np.atleast_2d(np.cov(a.T)))[::-1], np.linalg.svd(a, compute_uv=False)
    close(eigenspectrum, spectrum)
    share = (s/s.sum())[s>0] if s.sum() else np.ones(1)
    close(effective_rank, np.exp(-(share*np.log(share)).sum()), 1e-5)
    if len(a)<=a.shape[1]: assert values[condition_number]==math.inf
    elif spectrum[-1]>1e-8*spectrum[0]: close(condition_number, spectrum[0]/spectrum[-1], 1e-4)
    else: assert values[condition_number]>1e7

@settings(max_examples=60)
@given(tensors(st.one_of(st.tuples(st.integers(0, 4), st.integers(0, 6), st.integers(1, 5)), st.tuples(sides, sides), st.just(())), scales=(-6, 0, 6, 15)))
def test_the_terms_of_the_variance(z):
    terms = answer(variance_terms, z)
    if z.ndim!=3 or len(z)<2 or z.shape[1]<2:
        assert terms is None
        return
    a = plain(z)
    with np.errstate(all='ignore'): want = dict(within=a.var(0).sum(-1).mean(), between=a.mean(0).var(0).sum(), total=a.reshape(-1, a.shape[2]).var(0).sum())
    for k,v in want.items(): np.testing.assert_allclose(terms[k], v, rtol=1e-4, atol=1e-5*want['total'] if np.isfinite(want['total']) else 0)

# --- schedules

steps = st.one_of(st.integers(-3, 20), st.integers(-10**30, 10**30), st.floats())
decays = st.one_of(st.floats(0, 1), st.floats())

@settings(max_examples=150)
@given(steps, st.integers(-3, 10**6), decays, decays)
def test_the_schedules(k, K, start, end):
    with np.errstate(all='ignore'): share = min(k/K, 1.) if K>0 else 1.
    wants = {tau_constant: ((k, start), start), tau_cosine: ((k, K, start), 1-(1-start)*(math.cos(math.pi*share)+1)/2 if math.isfinite(share) else None), tau_linear: ((k, K, start, end), start+(end-start)*share)}
    for f,(args,want) in wants.items():
        tau,taus = answer(f, *args), args[-1:] if f is not tau_linear else args[2:]
        if k>=0 and all(0<=o<=1 for o in taus): assert tau==pytest.approx(want, abs=1e-12) and 0<=tau<=1
        else: assert tau is None

# --- kNN, and the linear probe

@st.composite
def banks(draw):
    "Features, labels, queries and options, fit for `knn_predict` or not"
    n,q,d = draw(st.integers(1, 12)), draw(st.integers(0, 5)), draw(st.integers(1, 4))
    o = dict(feats=draw(tensors(st.just((n, d)))), queries=draw(tensors(st.just((q, d)))), k=draw(st.sampled_from([1, n, 10**12])), temperature=draw(st.sampled_from([.1, 1., math.inf])),
        labels=lay(torch.from_numpy(np.random.default_rng(n).integers(0, 3, n)).to(draw(st.sampled_from([torch.int64, torch.int32, torch.uint8]))), draw(st.sampled_from(LAYOUTS))))
    bad = [dict(k=0), dict(k=-1), dict(k=2.5), dict(k=math.nan), dict(temperature=0.), dict(temperature=math.nan), dict(n_classes=0), dict(n_classes=-4), dict(labels=o['labels'][1:]), dict(labels=o['labels'].float()),
        dict(labels=o['labels'][:, None]), dict(labels=o['labels'].long()-1-o['labels'].max()), dict(labels=o['labels'].long()+10**13), dict(queries=torch.ones(2, d+1)), dict(queries=torch.ones(d)),
        dict(feats=o['feats'][0]), dict(feats=o['feats'][:0]), dict(feats=o['feats'][:, :0]), dict(feats=draw(no_tensors)), dict(queries=draw(no_tensors))]
    change = draw(st.one_of(st.just({}), st.just({}), st.sampled_from(bad)))
    return o | change, bool(change)

def directions(a):
    with np.errstate(all='ignore'): a = a/np.abs(a).max(1, keepdims=True)
    return np.nan_to_num(a/np.linalg.norm(a, axis=1, keepdims=True))

@settings(max_examples=150)
@given(banks())
def test_knn(o):
    o,is_bad = o
    found = answer(knn_predict, **o)
    if is_bad or not all(np.isfinite(plain(o[k])).all() for k in ('feats', 'queries')):
        assert found is None
        return
    bank,queries = (directions(plain(o[k])) for k in ('feats', 'queries'))
    labels = np.asarray(o['labels'].as_subclass(torch.Tensor)).astype(int)
    assert found.dtype==torch.int64 and found.shape==(len(queries),)
    for q,label in zip(queries@bank.T, found.tolist()):
        if o['k']==1: assert q[labels==label].max()>=q.max()-1e-4
        else:
            votes = np.bincount(labels, np.exp((q-q.max())/o['temperature']))
            assert votes[label]>=votes.max()*(1-1e-3)

labels_of = st.builds(lambda shape, dtype, layout, seed: lay(torch.from_numpy(np.random.default_rng(seed).integers(0, 2, shape)).to(dtype), layout),
    st.one_of(st.tuples(st.integers(0, 4)), st.tuples(st.integers(1, 3), st.just(1))), st.sampled_from(DTYPES), st.sampled_from(LAYOUTS), st.integers(0, 9))

@settings(max_examples=100)
@given(st.one_of(labels_of, no_tensors), st.one_of(labels_of, no_tensors))
def test_accuracy(pred, labels):
    share = answer(accuracy_of, pred, labels)
    if not isinstance(pred, torch.Tensor) or not isinstance(labels, torch.Tensor) or pred.shape!=labels.shape or not pred.numel(): assert share is None
    elif not pred.is_complex() and not labels.is_complex(): assert share==pytest.approx((plain(pred)==plain(labels)).mean(), abs=1e-6)

@given(labels_of, st.integers(-2, 10**12))
def test_the_number_of_neighbours(labels, k):
    n = answer(suitable_k, labels, k)
    assert n is None if not len(labels) else 1<=n<=max(1, min(k, len(labels)))

@st.composite
def probed(draw):
    "Two well separated classes of any type and layout, and perhaps something wrong with them"
    n,d,dtype = 40, draw(st.integers(1, 4)), draw(st.sampled_from(DTYPES[:-2]))
    y = torch.arange(n)%2
    scale = draw(st.sampled_from([-3, 0, 3] if dtype==torch.float16 else [0, 3] if dtype==torch.int64 else [-30, -6, 0, 6, 30]))
    x = ((numbers(n, d, seed=draw(st.integers(0, 9)))+8*y[:, None]+draw(st.sampled_from([0, 20])))*10.**scale).to(dtype)
    train,test = ((lay(x[i::2], draw(st.sampled_from(LAYOUTS))), y[i::2].clone()) for i in (0, 1))
    train = (lay(x, draw(st.sampled_from(LAYOUTS))), y)
    odd = [lambda a,b: (a[1:], b), lambda a,b: (a[0], b), lambda a,b: (a[:, :0], b), lambda a,b: (a[:0], b[:0]), lambda a,b: (a, b[:, None]), lambda a,b: (a, b+.5), lambda a,b: (a, b*math.nan),
        lambda a,b: (torch.where(numbers(*a.shape)>1, math.nan, a.double()), b), lambda a,b: (torch.where(numbers(*a.shape)>1, math.inf, a.double()), b), lambda a,b: (a.double()*1e200, b), lambda a,b: (torch.complex(a.float(), a.float()), b)]
    change = draw(st.one_of(st.none(), st.sampled_from(odd)))
    if change: train = change(*train)
    options = draw(st.sampled_from([{}]*3+[dict(C=0), dict(C=-1.), dict(C=math.nan), dict(max_iter=-1), dict(tol=math.nan)]))
    return train,test,options,bool(change or options)

@settings(max_examples=60)
@given(probed())
@pytest.mark.filterwarnings('ignore')
def test_the_linear_probe(o):
    train,test,options,is_bad = o
    accuracy = answer(linear_probe, train, test, **options)
    if is_bad: assert accuracy is None
    else:
        m,s = plain(train[0]).mean(0), plain(train[0]).std(0)
        want = LogisticRegression(max_iter=1000).fit((plain(train[0])-m)/s, train[1]).score((plain(test[0])-m)/s, test[1])
        assert accuracy==pytest.approx(want, abs=.051)

def test_one_class_and_another_number_of_features_are_sentences():
    x,y = numbers(8, 3), torch.arange(8)%2
    assert answer(linear_probe, (x, y*0), (x, y)) is answer(linear_probe, (x, y), (x[:, :2], y)) is None

# --- images

image_contents = st.sampled_from(['numbers']*5+['nan', 'inf', 'normalised', 'bytes as floats', 'integers', 'booleans'])
def picture(shape, dtype, content, seed):
    "Pixels in [0, 1], or in another way than they should be"
    x = torch.from_numpy(np.random.default_rng(seed).random(shape))
    if content=='normalised': x = x*4-2
    if content=='bytes as floats': x = x*255
    x = (x*255).byte() if dtype==torch.uint8 else x.to(dtype)
    if content in ('nan', 'inf') and dtype!=torch.uint8 and x.numel(): x.view(-1)[seed%x.numel()] = math.nan if content=='nan' else math.inf
    return {'integers': x.long(), 'booleans': x>.5}.get(content, x),content

image_shapes = st.one_of(st.tuples(st.integers(1, 4), st.sampled_from([1, 3]), st.integers(1, 40), st.integers(1, 40)), st.tuples(st.integers(0, 2), st.integers(0, 4), st.integers(0, 9), st.integers(0, 9)), any_shape)
pictures = st.builds(picture, image_shapes, st.sampled_from((*FLOATS, torch.uint8)), image_contents, st.integers(0, 99))

def is_batch(x, content):
    "Is it floats in [0, 1] or bytes? What is drawn outside is far outside, where there is anything"
    fine = content=='numbers' or x.dtype==torch.uint8
    return x.ndim==4 and x.numel()>0 and (fine or content in ('normalised', 'bytes as floats', 'nan', 'inf') and None)

@settings(max_examples=80)
@given(pictures, st.sampled_from(LAYOUTS[:3]), st.integers(1, 24), st.integers(0, 9))
def test_batchview(o, layout, size, seed):
    (x,content),policy = o,ViewPolicy(size, blur_p=.5 if size>1 else 0, solarize_p=.5)
    torch.manual_seed(seed)
    views,ok = answer(BatchView(policy), lay(x, layout)),is_batch(x, content)
    if views is None: assert not ok or x.shape[1] not in (1, 3)
    else:
        assert ok is not False and views.shape==(len(x), x.shape[1], size, size) and views.dtype==torch.float32
        lo,hi = ((v-np.array(policy.mean).reshape(-1, 1, 1))/np.array(policy.std).reshape(-1, 1, 1) for v in (0, 1))
        if x.shape[1]==3: assert (plain(views)>=lo-1e-4).all() and (plain(views)<=hi+1e-4).all()

@settings(max_examples=40)
@given(st.tuples(st.integers(1, 3), st.sampled_from([1, 3])), st.integers(1, 50), st.sampled_from((*FLOATS, torch.uint8)), st.sampled_from(LAYOUTS), st.integers(0, 99))
def test_a_view_of_the_whole_image_is_the_image(shape, side, dtype, layout, seed):
    x,_ = picture((*shape, side, side), dtype, 'numbers', seed)
    policy = ViewPolicy(side, scale=(1., 1.), ratio=(1., 1.), flip_p=0., jitter_p=0., gray_p=0., mean=.4, std=.3)
    views = BatchView(policy)(lay(x.as_subclass(torch.Tensor), layout))
    pixels = plain(x)/(255 if dtype==torch.uint8 else 1)
    np.testing.assert_allclose(plain(views), (pixels-.4)/.3, atol=1e-5)
    if shape[1]==3 and dtype==torch.uint8: np.testing.assert_allclose(plain(AlbumentationsView(policy)(x[0].permute(1, 2, 0).numpy())), (pixels[0]-.4)/.3, atol=1e-5)

@settings(max_examples=60)
@given(st.one_of(st.tuples(st.integers(0, 30), st.integers(0, 30), st.sampled_from([1, 3, 4])), st.tuples(st.integers(0, 30), st.integers(0, 30)), st.tuples(sides), st.just(())), st.sampled_from([np.uint8]*4+[np.float32, np.int64, bool]), st.booleans())
def test_the_reference_view(shape, dtype, backwards):
    a = np.random.default_rng(0).integers(0, 256, shape).astype(dtype)
    view = answer(AlbumentationsView(ViewPolicy(8), seed=0), a[::-1] if backwards and a.ndim else a)
    if dtype==np.uint8 and a.size and (a.ndim==2 or a.ndim==3 and a.shape[2]==3): assert view.shape==(3, 8, 8) and view.isfinite().all()
    else: assert view is None

odd_values = st.one_of(st.floats(), st.floats(0, 1), st.integers(-3, 40), st.integers(-10**400, 10**400), st.booleans(), st.none(), st.just('32'), st.tuples(st.floats(), st.floats()),
    st.tuples(st.floats(.01, 1), st.floats(.01, 1)).map(sorted), st.tuples(st.integers(0, 20), st.integers(0, 20)), st.just(()), st.lists(st.floats(0, 1), min_size=1, max_size=4), st.just(np.zeros((2, 2))), st.just(torch.ones(3)))

@settings(max_examples=300)
@given(st.sampled_from([*ViewPolicy.__dataclass_fields__]), odd_values)
def test_policies(field, value):
    fields = {'size': 8, 'blur_p': 1., field: value}
    policy,pair = answer(ViewPolicy, **fields),answer(byol_policies, **fields)
    assert (policy is None)==(pair is None)
    if policy is None: return
    numbers = [o for v in vars(policy).values() for o in (v if isinstance(v, tuple) else (v,))]
    assert all(math.isfinite(o) for o in numbers), 'nothing is drawn from what is no number'
    channels = max([3, *(len(o) for o in (policy.mean, policy.std) if isinstance(o, tuple))])
    if channels!=3 or max(policy.hw)>64 or field in ('mean', 'std') or policy.ratio[0]<.1 or policy.ratio[1]>10: return
    views = BatchView(policy)(torch.rand(4, 3, 12, 10))
    assert views.shape==(4, 3, *policy.hw) and views.isfinite().all()

@settings(max_examples=100)
@given(pictures, st.sampled_from([*RIVALS]), st.sampled_from(LAYOUTS))
def test_the_rivals(o, name, layout):
    x,content = o
    feats = answer(RIVALS[name], lay(x, layout))
    if x.ndim!=4 or not x.numel() or not x.is_floating_point():
        assert feats is None
        return
    a = plain(x)
    if np.isnan(a).any(): assert feats is None or feats.isnan().any()
    elif a.min()<-.01 or a.max()>1.01: assert feats is None
    else:
        assert feats.shape[0]==len(x) and feats.ndim==2 and feats.isfinite().all()
        grey = (a*np.array([.299, .587, .114])[:, None, None]).sum(1) if a.shape[1]==3 else a.mean(1)
        if max(a.shape[2:])<=32:
            want = {'raw pixels': a, 'grey pixels': grey, 'Fourier magnitudes': np.log1p(np.abs(np.fft.rfft2(grey)))}[name]
            np.testing.assert_allclose(plain(feats), want.reshape(len(a), -1), rtol=1e-4, atol=1e-4)

@settings(max_examples=60)
@given(tensors(st.tuples(st.integers(0, 2), st.integers(1, 4), st.integers(0, 5), st.integers(0, 5)), (*FLOATS[:2], torch.uint8), (-6, 0, 3)), st.lists(st.floats(-2, 2), min_size=1, max_size=4), st.lists(st.floats(.01, 2), min_size=1, max_size=4))
def test_denormalise(x, mean, std):
    res,n = answer(denormalise, x, mean, std),x.shape[1]
    fit = [len(o)==1 or len(o)==n or n==1 for o in (mean, std)]
    if not all(fit) or x.dtype==torch.uint8: assert res is None
    else:
        m,s = ((np.full(n, np.mean(o)) if n==1 or len(o)==1 else np.array(o)).reshape(-1, 1, 1) for o in (mean, std))
        np.testing.assert_allclose(plain(res), plain(x)*s+m, rtol=1e-5, atol=1e-5)

@settings(max_examples=25)
@given(st.integers(1, 8), st.integers(1, 40), st.integers(0, 2**70))
def test_the_embedded_shapes(n, size, seed):
    x,y = make_shapes(n, size, seed)
    assert x.shape==(n, 3, size, size) and x.dtype==torch.uint8 and y.dtype==torch.int64 and 0<=y.min()<=y.max()<=9
    assert torch.equal(make_shapes(1, size, seed)[0], x[:1])

# --- networks

@settings(max_examples=40)
@given(tensors(st.tuples(st.integers(2, 8), st.just(5)), FLOATS[:1], (-6, 0, 3), ('numbers', 'zeros', 'nan')))
def test_a_head_is_the_formula(x):
    torch.manual_seed(0)
    head = MLPHead(5, 7, 3)
    out = plain(head(x))
    with torch.no_grad(): (w,b),(v,c) = ([plain(o) for o in m.parameters()] for m in (head[0], head[3]))
    h = plain(x)@w.T+b
    h = np.maximum((h-h.mean(0))/np.sqrt(h.var(0)+1e-5), 0)
    np.testing.assert_allclose(out, h@v.T+c, rtol=1e-2, atol=1e-2)

ENCODER = TinyResNet(width=8)

@settings(max_examples=20)
@given(st.integers(2, 4), st.integers(1, 20), st.integers(1, 20), st.sampled_from(LAYOUTS), st.sampled_from(LAYOUTS))
def test_byol_does_not_care_how_images_lie_in_memory(b, h, w, layout, other):
    torch.manual_seed(0)
    model = BYOL(ENCODER, 8, 4).eval()
    v1,v2 = (torch.rand(b, 3, h, w) for _ in range(2))
    for f in model,model.targets:
        for a,c in zip(f(v1, v2), f(lay(v1, layout), lay(v2, other))): torch.testing.assert_close(a, c.as_subclass(torch.Tensor), rtol=1e-4, atol=1e-5)
    assert not answer(byol_loss, model(v1, v2)[0], model.targets(v1, v2)[1]).isnan()

@st.composite
def loaders(draw):
    "Batches of images of one size, with or without labels, and perhaps too few of them"
    sizes = draw(st.lists(st.integers(0, 3), max_size=4))
    xs = [lay(torch.rand(n, 3, 9, 7), draw(st.sampled_from(LAYOUTS))) for n in sizes]
    ys = [torch.arange(n) for n in sizes]
    kind = draw(st.sampled_from(['labelled', 'labelled', 'bare', 'too few', 'now and then']))
    if kind=='bare': return [(x,) for x in xs],kind
    if kind=='too few': ys = [y[1:] for y in ys]
    return [(x, y) if kind!='now and then' or i%2 else (x,) for i,(x,y) in enumerate(zip(xs, ys))],kind

@settings(max_examples=60)
@given(loaders())
def test_embed(o):
    batches,kind = o
    res = answer(embed, ENCODER, batches)
    n,m = sum(len(b[0]) for b in batches), sum(len(b[1]) for b in batches if len(b)>1)
    if not batches or (n!=m and any(len(b)>1 for b in batches)):
        assert res is None
        return
    feats,labels = res
    assert feats.shape==(n, ENCODER.n_features) and feats.dtype==torch.float32 and (labels is None)==(not any(len(b)>1 for b in batches))
    if n:
        with torch.no_grad(): alone = ENCODER.eval()(torch.cat([b[0].as_subclass(torch.Tensor).contiguous() for b in batches]))
        torch.testing.assert_close(feats, alone, rtol=1e-4, atol=1e-5)
