"Probes against a brute-force loop and scikit-learn, and the promise that looking at an encoder does not change it"
import json
import numpy as np, pytest, torch
from fastai.callback.tracker import SaveModelCallback
from hypothesis import given, strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from torch import nn
from byol_fastai.all import (KNNProbe, LinearEval, TinyResNet, embed, fine_tune_learner, knn_predict, label_efficiency, labelled_dls, linear_probe)
from byol_fastai.data import ImageArray, plain_dl
from byol_fastai import probes
from byol_fastai.evaluate import compare_features, label_subset, linear_eval_learner, probe_every, suitable_k
from byol_fastai.probes import EpochColumn, Rival, majority, network_name, stored_ceiling
from byol_fastai.rivals import RIVALS
from conftest import Do, same, state, tiny_learner

pytestmark = pytest.mark.filterwarnings('ignore:numpy.core is deprecated') # fastai loads what it saved

def silently(learn): learn.remove_cbs([cb for cb in learn.cbs if type(cb).__name__=='ProgressCallback']); learn.logger = lambda row: None; return learn
def dls(n=40, **kwargs): return labelled_dls('shapes', bs=16, n=n, size=16, **kwargs)
def points(n, q, d=5, n_classes=4, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=g), torch.randint(n_classes, (n,), generator=g), torch.randn(q, d, generator=g)

# --- kNN

def brute_force(feats, labels, queries, k, temperature, itself=False):
    "Wu et al. 2018, in loops and float64"
    feats,queries,pred = feats.double().numpy(), queries.double().numpy(), []
    for i,q in enumerate(queries):
        cos = np.array([q@f/np.linalg.norm(q)/np.linalg.norm(f) for f in feats])
        if itself: cos[i] = -np.inf
        votes = {}
        for j in np.argsort(-cos)[:k]: votes[int(labels[j])] = votes.get(int(labels[j]), 0) + np.exp(cos[j]/temperature)
        pred.append(max(sorted(votes), key=votes.get))
    return pred

@given(st.integers(2, 40), st.integers(1, 12), st.integers(1, 60), st.sampled_from([.05, .1, 1.]), st.integers(0, 9999))
def test_knn_is_the_brute_force_vote(n, q, k, temperature, seed):
    feats,labels,queries = points(n, q, seed=seed)
    assert knn_predict(feats, labels, queries, k, temperature).tolist()==brute_force(feats, labels, queries, min(k, n), temperature)
    itself = knn_predict(feats, labels, feats, k, temperature, n_classes=4).tolist()
    assert itself==brute_force(feats, labels, feats, min(k, n-1), temperature, itself=True)

@pytest.mark.parametrize('k', [1, 5, 20])
def test_without_weights_knn_is_scikit_learns(k):
    feats,labels,queries = points(300, 80, n_classes=3)
    theirs = KNeighborsClassifier(k, metric='cosine', algorithm='brute').fit(feats, labels).predict(queries)
    assert knn_predict(feats, labels, queries, k, temperature=float('inf')).tolist()==theirs.tolist()

def test_no_image_is_its_own_neighbour():
    feats,labels = points(50, 1)[0], torch.arange(50)
    assert (knn_predict(feats, labels, feats, k=1)!=labels).all()
    assert (knn_predict(feats, labels, feats.clone(), k=1)==labels).all(), 'other images may look exactly alike'

def test_many_queries_are_answered_as_each_would_be_alone():
    feats,labels,queries = points(60_000, 600, d=4, n_classes=9) # 279 queries fit into a chunk
    alone = torch.cat([knn_predict(feats, labels, q, k=3) for q in queries.split(75)])
    assert torch.equal(knn_predict(feats, labels, queries, k=3), alone)

def test_no_image_is_its_own_neighbour_in_any_chunk():
    n = 5000 # 3355 queries fit into a chunk
    feats = torch.randn(n, 6, generator=torch.Generator().manual_seed(0))
    pred = knn_predict(feats, torch.arange(n), feats, k=1)
    unit = torch.nn.functional.normalize(feats.double(), dim=1)
    for i in (0, 17, 3354, 3355, 3356, n-1):
        cos = unit@unit[i]; cos[i] = -2
        assert pred[i]==cos.argmax()

def test_a_very_cold_vote_does_not_overflow():
    feats,labels,queries = points(30, 6)
    assert knn_predict(feats, labels, queries, 30, temperature=1e-4).tolist()==knn_predict(feats, labels, queries, 1).tolist()

def test_no_neighbour_is_refused_in_a_sentence():
    with pytest.raises(ValueError, match='k=0: at least one neighbour'): knn_predict(*points(5, 2), k=0)

# --- looking without touching

def test_embed_gives_the_features_of_eval_mode_and_every_module_its_own_mode_back():
    encoder,data = TinyResNet(width=8).train(), dls()
    encoder.stages[1].eval()
    was,modes = state(encoder), [m.training for m in encoder.modules()]
    feats,labels = embed(encoder, data.train)
    assert same(state(encoder), was) and [m.training for m in encoder.modules()]==modes
    assert feats.dtype==torch.float32 and not feats.requires_grad and feats.shape==(40, encoder.n_features)
    assert torch.equal(labels, data.train.dataset.y.cpu())
    x = torch.cat([b[0].as_subclass(torch.Tensor) for b in data.train])
    with torch.no_grad(): torch.testing.assert_close(feats, encoder.eval()(x), rtol=1e-4, atol=1e-5)
    again = embed(encoder, data.train)[0]
    assert torch.equal(feats, again), 'the same order every pass'

def test_embed_gives_the_modes_back_even_after_an_error():
    class Broken(nn.Module):
        def forward(self, x): raise RuntimeError('broken')
    encoder = Broken().train()
    with pytest.raises(RuntimeError, match='broken'): embed(encoder, dls().train)
    assert encoder.training

def test_embed_takes_batches_without_labels():
    assert embed(nn.Flatten(), [(torch.zeros(2, 3, 4, 4),), (torch.ones(1, 3, 4, 4),)])[1] is None

def test_the_knn_probe_does_not_disturb_training_and_leaves_the_table_as_it_was():
    data,learns = dls(), []
    for cbs in [],[KNNProbe(data.train, data.valid, k=5)]:
        learn = tiny_learner(cbs=cbs)
        names = [m.name for m in learn.metrics]
        learn.fit_byol(2)
        assert [m.name for m in learn.metrics]==names
        learns.append(learn)
    assert same(state(learns[0].model), state(learns[1].model))
    assert 'knn' in learns[1].recorder.metric_names and 'knn' not in learns[0].recorder.metric_names
    train,(feats,labels) = embed(learns[1].model.encoder, data.train), embed(learns[1].model.encoder, data.valid)
    want = np.mean(np.array(brute_force(*train, feats, 5, .1))==labels.numpy())
    assert learns[1].knn_probe.values[-1]==(1, pytest.approx(want)) and learns[1].final_record[-1]==pytest.approx(want)

def test_the_knn_probe_can_look_only_now_and_then():
    data = dls()
    learn = tiny_learner(cbs=KNNProbe(data.train, data.valid, k=5, every=2))
    learn.fit_byol(4)
    assert [e for e,_ in learn.knn_probe.values]==[0, 2, 3], 'the last epoch is always looked at'

def test_epochs_without_a_look_hold_nan_and_save_the_best_all_the_same(tmp_path):
    data = dls()
    learn = tiny_learner(cbs=KNNProbe(data.train, data.valid, k=5, every=3), path=tmp_path)
    learn.fit_byol(5, cbs=SaveModelCallback(monitor='knn'))
    column = [o[list(learn.recorder.metric_names).index('knn')-1] for o in learn.recorder.values]
    assert [o==o for o in column]==[True, False, False, True, True] and learn.knn_probe.value==column[-1]

def test_a_look_that_fails_costs_the_training_nothing_and_says_why():
    data = dls()
    def no(*args): raise torch.cuda.OutOfMemoryError('out of memory.')
    plain = tiny_learner()
    plain.fit_byol(2)
    learn = tiny_learner(cbs=(probe := KNNProbe(data.train, data.valid)))
    probe.look = no
    with pytest.warns(UserWarning, match='KNNProbe could not look at the encoder: out of memory') as told: learn.fit_byol(2)
    assert len([o for o in told if 'KNNProbe' in str(o.message)])==1 and probe.values==[] and np.isnan(learn.final_record[-1])
    assert same(state(plain.model), state(learn.model))

def test_a_column_of_ones_own_needs_a_name_and_a_look():
    class Steps(EpochColumn):
        column,every = 'steps',2
        def look(self): return float(self.learn.train_iter)
    learn = tiny_learner(cbs=Steps())
    learn.fit_byol(2)
    n = learn.train_iter//2
    assert learn.steps.values==[(0, n), (1, 2*n)] and learn.recorder.metric_names[-2:]==['steps', 'time']
    learn.validate()
    assert len(learn.steps.values)==2

def test_a_probe_looks_at_no_more_rows_than_it_may():
    data = dls(n=60)
    probe = KNNProbe(data.train, data.valid, max_rows=25)
    assert len(probe.train_dl.dataset)==len(probe.test_dl.dataset)==25 and len(data.train.dataset)==60
    assert probe.train_dl.bs==data.train.bs
    again = KNNProbe(data.train, data.valid, max_rows=25)
    assert torch.equal(embed(nn.Flatten(), probe.train_dl)[0], embed(nn.Flatten(), again.train_dl)[0])
    assert len(embed(nn.Flatten(), probe.train_dl)[1].unique())>5, 'drawn, not the first'
    with pytest.raises(ValueError, match='every=0'): KNNProbe(data.train, data.valid, every=0)

@given(st.integers(1, 10**6), st.integers(0, 10**6), st.floats(.01, 1))
def test_looks_cost_at_most_their_share(n_train, n, share):
    every = probe_every(n_train, n, share)
    assert every>=1 and n <= 8*share*n_train*every*(1+1e-6)
    assert every==1 or n > 8*share*n_train*(every-1)*(1-1e-6), 'and not more seldom than needed'

@given(st.lists(st.integers(0, 5), min_size=1, max_size=400), st.integers(1, 300))
def test_k_suits_the_classes(labels, k):
    res = suitable_k(torch.tensor(labels), k)
    assert 1<=res<=k and (res==1 or res<=len(labels)/len(set(labels)))

# --- linear probes

def test_the_linear_probe_is_scikit_learns_on_features_standardised_by_the_training_set():
    g = torch.Generator().manual_seed(0)
    y,yt = torch.randint(3, (150,), generator=g), torch.randint(3, (90,), generator=g)
    scale = torch.tensor([1, 10, 100, .1, .01, 1]) # standardising must undo it
    x,xt = ((torch.randn(len(o), 6, generator=g) + torch.nn.functional.one_hot(o, 6))*scale for o in (y, yt))
    m,s = x.numpy().mean(0), x.numpy().std(0)
    theirs = LogisticRegression(max_iter=1000).fit((x.numpy()-m)/s, y).score((xt.numpy()-m)/s, yt)
    ours = linear_probe((x, y), (xt, yt))
    assert isinstance(ours, float) and ours==pytest.approx(theirs, abs=.012) and ours>.5

def test_linear_eval_stays_in_eval_mode_and_only_its_head_learns():
    encoder = TinyResNet(width=8)
    model = LinearEval(encoder, 10)
    for mode in (True, False):
        model.train(mode)
        assert not any(m.training for m in model.encoder.modules()) and model.head.training==mode
    assert [n for n,p in model.named_parameters() if p.requires_grad]==['head.weight', 'head.bias']
    assert model.encoder is not encoder and all(p.requires_grad for p in encoder.parameters())

def test_a_linear_evaluation_leaves_weights_and_batchnorm_statistics_as_they_were_to_the_bit():
    encoder = TinyResNet(width=8)
    was = state(encoder)
    learn = silently(linear_eval_learner(dls(), encoder, bs=16))
    head = state(learn.model.head)
    learn.fit(2)
    assert same(state(learn.model.encoder), was) and same(state(encoder), was) and not same(state(learn.model.head), head)

def test_fine_tuning_changes_a_copy():
    encoder = TinyResNet(width=8)
    was = state(encoder)
    learn = silently(fine_tune_learner(dls(), encoder, bs=16))
    learn.fit_one_cycle(1, 1e-2)
    assert same(state(encoder), was) and not same(state(learn.model[0]), was)
    assert learn.model[1].out_features==10 and len(learn.opt.param_lists)==2

def test_evaluation_data_are_not_augmented_and_training_data_are():
    learn,seen = silently(fine_tune_learner(dls(), TinyResNet(width=8), bs=16)), {True: [], False: []}
    learn.add_cb(Do(99, before_batch=lambda cb: seen[cb.training].append(cb.xb[0].clone())))
    learn.fit(2)
    per = len(seen[False])//2
    assert all(torch.equal(a, b) for a,b in zip(seen[False][:per], seen[False][per:]))
    plain = torch.cat([b[0].as_subclass(torch.Tensor) for b in dls().valid])
    assert torch.equal(torch.cat([o.as_subclass(torch.Tensor) for o in seen[False][:per]]), plain)
    train = torch.cat([b[0].as_subclass(torch.Tensor) for b in dls().train])
    assert all((o.as_subclass(torch.Tensor)[0]-train).abs().amax((1, 2, 3)).min()>1e-3 for o in seen[True])

# --- few labels

@given(st.integers(1, 6), st.integers(1, 40), st.floats(.01, 1), st.integers(0, 99))
def test_a_label_subset_is_the_same_share_of_every_class(n_classes, per, share, seed):
    labels = torch.arange(n_classes).repeat(per)
    idx = label_subset(labels, share, seed)
    assert idx==sorted(set(idx)) and idx==label_subset(labels, share, seed)
    assert torch.bincount(labels[idx], minlength=n_classes).tolist()==[max(1, round(share*per))]*n_classes

def test_a_share_of_nothing_is_refused_in_a_sentence():
    for share in (0, 1.5, -.1):
        with pytest.raises(ValueError, match=rf'share={share} must lie in \(0, 1\]'): label_subset(torch.arange(4), share)

def test_label_efficiency_compares_three_ways_at_every_share():
    encoder,other = TinyResNet(width=8), TinyResNet(width=8)
    was = state(encoder), state(other)
    table = label_efficiency(encoder, other, dls(), shares=(.5, 1.), n_epoch=1, bs=16)
    assert list(table.index)==[.5, 1.] and list(table.columns)==['images', 'linear', 'fine-tuned', 'from scratch']
    assert table.images.iloc[1]==40 and table.images.iloc[0]<30 and table.iloc[:,1:].stack().between(0, 1).all()
    assert same(state(encoder), was[0]) and same(state(other), was[1])

# --- the comparison

ROWS = [*RIVALS, 'random encoder', 'BYOL']
def compared(data, encoder=None, **kwargs): return compare_features(encoder or TinyResNet(width=8), TinyResNet(width=8), data, **kwargs)

def test_the_comparison_has_a_row_for_every_rival_for_luck_and_for_byol():
    table = compared(dls(), k=5)
    assert list(table.index)==ROWS==['raw pixels', 'grey pixels', 'Fourier magnitudes', 'random encoder', 'BYOL'] and list(table.columns)==['kNN', 'linear']
    assert table.stack().between(0, 1).all() and table.attrs==dict(failed={}, stored={})

def test_rows_of_rivals_are_scikit_learns():
    "Features from the images as they are stored, not from the loader; the best of centred and standardised, of 20 and 200 neighbours"
    from sklearn.preprocessing import StandardScaler
    data = dls(300)
    images = [o.dataset.x.float()/255 for o in data.loaders]
    y,yt = (o.dataset.y.numpy() for o in data.loaders)
    table = compared(data)
    for name,rival in RIVALS.items():
        x,xt = (rival(o).double().numpy() for o in images)
        found = []
        for std in (False, True):
            scale = StandardScaler(with_std=std).fit(x)
            a,b = scale.transform(x),scale.transform(xt)
        
            for k in (20, 30): # 200 are more than a class has images
                vote = KNeighborsClassifier(k, metric='cosine', algorithm='brute', weights=lambda d: np.exp((1-d)/.1)).fit(a, y)
                found.append(vote.score(b, yt))
        assert table.loc[name, 'kNN']==pytest.approx(max(found), abs=.011), name
        scale = StandardScaler().fit(x)
        theirs = LogisticRegression(max_iter=1000, tol=1e-2).fit(scale.transform(x), y).score(scale.transform(xt), yt)
        assert table.loc[name, 'linear']==pytest.approx(theirs, abs=.04), name

def uneven(n=(60, 20, 10), test=(20, 10, 10), size=16):
    x = torch.randint(0, 256, (sum(n)+sum(test), 3, size, size), dtype=torch.uint8)
    y = [torch.cat([torch.full((k,), i) for i,k in enumerate(o)]) for o in (n, test)]
    return two_loaders((x[:sum(n)], y[0]), (x[sum(n):], y[1]), list('abc'))

def test_where_classes_are_uneven_there_is_a_row_for_the_largest():
    table = compared(uneven())
    assert list(table.index)==['majority class', *ROWS] and table.loc['majority class'].tolist()==[.5, .5]

@given(st.lists(st.integers(1, 400), min_size=2, max_size=9), st.integers(0, 99))
def test_the_majority_is_the_most_frequent_class_of_the_training_images(n, seed):
    labels = torch.cat([torch.full((k,), i) for i,k in enumerate(n)])
    truth = torch.randint(len(n), (50,), generator=torch.Generator().manual_seed(seed))
    found = majority(labels, truth)
    assert found is None or found==pytest.approx((truth==n.index(max(n))).float().mean().item())
    assert majority(torch.arange(len(n)).repeat(30), truth) is None and (found is not None or max(n)<1.7*np.mean(n) or sum(n)<60)

@pytest.mark.parametrize('name', [*RIVALS])
def test_a_rival_that_fails_costs_nothing_else(name, monkeypatch):
    def broken(x): raise RuntimeError('no such wave')
    whole = compared(dls(), encoder := TinyResNet(width=8))
    monkeypatch.setitem(RIVALS, name, broken)
    with pytest.warns(UserWarning, match=f'{name}: RuntimeError: no such wave'): table = compared(dls(), encoder)
    rest = [o for o in ROWS if o not in (name, 'random encoder')]
    assert table.loc[name].isna().all() and list(table.attrs['failed'])==[name] and table.loc[rest].equals(whole.loc[rest])

def test_a_rival_that_fails_at_the_test_images_alone_has_an_empty_row(monkeypatch):
    calls = []
    def tired(x): calls.append(1); return x.flatten(1) if len(calls)<4 else x.nothing
    monkeypatch.setitem(RIVALS, 'grey pixels', tired)
    with pytest.warns(UserWarning, match='AttributeError'): table = compared(dls())
    assert table.loc['grey pixels'].isna().all() and table.drop('grey pixels').notna().all().all()

@pytest.mark.parametrize('channels', [1, 13])
def test_images_of_any_number_of_channels_are_compared(channels):
    x,y = torch.randint(0, 256, (80, channels, 16, 16), dtype=torch.uint8), torch.arange(80)%2
    stats = dict(mean=(.4,)*channels, std=(.2,)*channels)
    data = two_loaders((x[:40], y[:40]), (x[40:], y[40:]), list('ab'), **stats)
    back = Rival(RIVALS['raw pixels'], data.train)(next(iter(data.train))[0].as_subclass(torch.Tensor))
    torch.testing.assert_close(back, x[:len(back)].float().flatten(1)/255, atol=1e-5, rtol=0)
    table = compare_features(TinyResNet(width=8, in_chans=channels), TinyResNet(width=8, in_chans=channels), data)
    assert table.notna().all().all() and not table.attrs['failed']

def test_loaders_of_fastai_that_normalise_are_brought_back_to_the_unit_range():
    from fastai.vision.all import IntToFloatTensor, Normalize, Pipeline
    class Loader(list): after_batch = Pipeline([IntToFloatTensor(), Normalize.from_stats([.5]*3, [.1]*3, cuda=False)])
    x = torch.rand(4, 3, 8, 8)
    torch.testing.assert_close(Rival(lambda o: o, Loader())((x-.5)/.1), x)
    assert torch.equal(Rival(lambda o: o, [])(x), x), 'where nobody normalises, nothing is undone'

def test_the_images_are_read_once_for_all_rows(monkeypatch):
    data,passes = dls(),[]
    whole = type(data.train).__iter__
    monkeypatch.setattr(type(data.train), '__iter__', lambda self: passes.append(1) or whole(self))
    compared(data)
    assert len(passes)==2

# --- the ceiling

def entry(tmp_path, monkeypatch, images, network, value=.99):
    "A ledger of its own, with two seeds of the supervised network"
    run = dict(knn=value, linear=value+.005, images=images, network=network)
    (tmp_path/'results').mkdir()
    (tmp_path/'results'/'supervised.json').write_text(json.dumps(dict(figures=dict(runs=dict(supervised={'0': run, '1': run})))))
    monkeypatch.setattr(probes, 'files', lambda name: tmp_path)

def test_the_ceiling_comes_from_the_ledger_for_the_same_images_and_network_only(tmp_path, monkeypatch):
    data,net = dls(), TinyResNet(width=8)
    assert stored_ceiling(data, net) is None
    entry(tmp_path, monkeypatch, data.source.fingerprint['hash'], network_name(net))
    table = compared(data)
    assert list(table.index)==[*ROWS, 'supervised'] and table.loc['supervised'].tolist()==pytest.approx([.99, .995])
    assert list(table.attrs['stored'])==['supervised'] and 'benchmarks/supervised.py' in table.attrs['stored']['supervised']
    assert stored_ceiling(data, TinyResNet(width=12)) is None, 'another network'
    assert stored_ceiling(dls(44), net) is None, 'other images'
    assert stored_ceiling(uneven(), net) is None, 'images that nobody knows'

def test_the_ceiling_is_computed_where_it_is_asked_for():
    net = TinyResNet(width=8)
    was = state(net)
    table = compare_features(TinyResNet(width=8), net, dls(80), supervised=True, epochs=1)
    assert list(table.index)==[*ROWS, 'supervised'] and table.loc['supervised'].between(0, 1).all() and not table.attrs['stored']
    assert same(state(net), was)

def two_loaders(train, test, classes, bs=16, **kwargs):
    from fastai.vision.all import DataLoaders
    res = DataLoaders(*[plain_dl(ImageArray(*o), o[0].shape[-1], bs, 'cpu', classes=classes, **kwargs) for o in (train, test)], device='cpu')
    res.size,res.classes = train[0].shape[-1],classes
    return res

def loaders(x, y, classes): return two_loaders(*[(x[i::2], y[i::2]) for i in (0, 1)], classes)

def test_raw_pixels_are_shrunk_and_rows_are_bounded():
    x,y = torch.randint(0, 256, (120, 3, 64, 64), dtype=torch.uint8), torch.arange(120)//2%3
    sizes = []
    class Spy(TinyResNet):
        def forward(self, x): sizes.append(len(x)); return super().forward(x)
    import byol_fastai.evaluate as e
    seen,probe = [],e.linear_probe
    try:
        e.linear_probe = lambda train, test, tol: seen.append((tuple(train[0].shape), tuple(test[0].shape))) or .5
        compare_features(Spy(width=8), TinyResNet(width=8), loaders(x, y, list('abc')), max_rows=40)
    finally: e.linear_probe = probe
    assert seen[0]==((40, 3*32*32), (40, 3*32*32)) and sum(sizes)==80 and max(sizes)<=16, 'each image goes through the encoder once, in batches of the loader'

def test_a_probe_that_fails_leaves_nan_and_a_reason_and_the_others_their_numbers():
    class Broken(nn.Module):
        def forward(self, x): raise RuntimeError('CUDA out of memory')
    class Infinite(nn.Module):
        def forward(self, x): return x.flatten(1)/0
    with pytest.warns(UserWarning) as told: table = compare_features(Infinite(), Broken(), dls(), k=5)
    assert table.loc[[*RIVALS]].stack().between(0, 1).all() and table.loc[['random encoder', 'BYOL']].isna().all().all()
    failed = table.attrs['failed']
    assert 'CUDA out of memory' in failed['random encoder'] and 'no finite numbers' in failed['BYOL'] and len(told)>=2

def test_hundreds_of_tiny_classes_get_no_logistic_regression():
    x,y = torch.randint(0, 256, (400, 3, 16, 16), dtype=torch.uint8), torch.arange(400)//2%150
    with pytest.warns(UserWarning, match='too many and too small for a logistic regression'): table = compare_features(TinyResNet(width=8), TinyResNet(width=8), loaders(x, y, list(range(150))))
    assert table.kNN.notna().all() and table.linear.isna().all()

def test_the_linear_probe_says_what_it_cannot_do():
    feats = torch.randn(20, 3)
    with pytest.raises(ValueError, match='nothing to tell apart'): linear_probe((feats, torch.zeros(20)), (feats, torch.zeros(20)))
    with pytest.raises(ValueError, match='no finite numbers'): linear_probe((feats/0, torch.arange(20)%2), (feats, torch.arange(20)%2))

@pytest.mark.parametrize('make', [linear_eval_learner, fine_tune_learner])
def test_training_images_too_are_evaluated_as_they_are(make):
    "The loader of a supervised learner gives crops in training; get_preds over it must see what `plain_dl` gives"
    data,encoder = dls(), TinyResNet(width=8)
    learn = silently(make(data, encoder, bs=16))
    preds,targs = learn.get_preds(ds_idx=0)
    with torch.no_grad(): want = learn.model.eval()(torch.cat([b[0].as_subclass(torch.Tensor) for b in data.train]))
    torch.testing.assert_close(torch.as_tensor(preds).as_subclass(torch.Tensor), want.softmax(1), rtol=1e-3, atol=1e-5)
    assert torch.equal(targs.as_subclass(torch.Tensor), data.train.dataset.y.cpu())

@pytest.mark.parametrize('ds_idx', [0, 1])
def test_a_batch_without_its_loader_is_seen_the_same_way(ds_idx):
    "So `show_results` asks for predictions"
    learn = silently(fine_tune_learner(dls(), TinyResNet(width=8), bs=16))
    dl = learn.dls[ds_idx].new(shuffle=False, drop_last=False)
    want = torch.cat([learn.get_preds(dl=[b])[0] for b in dl])
    torch.testing.assert_close(want, learn.get_preds(ds_idx=ds_idx)[0], rtol=1e-4, atol=1e-6)

def test_a_supervised_learner_takes_what_a_learner_takes(tmp_path):
    learn = silently(fine_tune_learner(dls(), TinyResNet(width=8), bs=16, path=tmp_path, metrics=[], cbs=Do(3), lr=.01, wd=.1))
    assert learn.path==tmp_path and learn.lr==.01 and learn.wd==.1 and len(learn.metrics)==0 and any(type(o) is Do for o in learn.cbs)
