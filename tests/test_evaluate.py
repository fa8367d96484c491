"Probes against a brute-force loop and scikit-learn, and the promise that looking at an encoder does not change it"
import numpy as np, pytest, torch
from hypothesis import given, strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from torch import nn
from byol_fastai.all import (KNNProbe, LinearEval, TinyResNet, embed, fine_tune_learner, knn_predict, label_efficiency, labelled_dls, linear_probe)
from byol_fastai.evaluate import compare_features, label_subset, linear_eval_learner
from conftest import Do, same, state, tiny_learner

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
    encoder,data = TinyResNet(width=4).train(), dls()
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
    encoder = TinyResNet(width=4)
    model = LinearEval(encoder, 10)
    for mode in (True, False):
        model.train(mode)
        assert not any(m.training for m in model.encoder.modules()) and model.head.training==mode
    assert [n for n,p in model.named_parameters() if p.requires_grad]==['head.weight', 'head.bias']
    assert model.encoder is not encoder and all(p.requires_grad for p in encoder.parameters())

def test_a_linear_evaluation_leaves_weights_and_batchnorm_statistics_as_they_were_to_the_bit():
    encoder = TinyResNet(width=4)
    was = state(encoder)
    learn = silently(linear_eval_learner(dls(), encoder, bs=16))
    head = state(learn.model.head)
    learn.fit(2)
    assert same(state(learn.model.encoder), was) and same(state(encoder), was) and not same(state(learn.model.head), head)

def test_fine_tuning_changes_a_copy():
    encoder = TinyResNet(width=4)
    was = state(encoder)
    learn = silently(fine_tune_learner(dls(), encoder, bs=16))
    learn.fit_one_cycle(1, 1e-2)
    assert same(state(encoder), was) and not same(state(learn.model[0]), was)
    assert learn.model[1].out_features==10 and len(learn.opt.param_lists)==2

def test_evaluation_data_are_not_augmented_and_training_data_are():
    learn,seen = silently(fine_tune_learner(dls(), TinyResNet(width=4), bs=16)), {True: [], False: []}
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
    encoder,other = TinyResNet(width=4), TinyResNet(width=4)
    was = state(encoder), state(other)
    table = label_efficiency(encoder, other, dls(), shares=(.5, 1.), n_epoch=1, bs=16)
    assert list(table.index)==[.5, 1.] and list(table.columns)==['images', 'linear', 'fine-tuned', 'from scratch']
    assert table.images.iloc[1]==40 and table.images.iloc[0]<30 and table.iloc[:,1:].stack().between(0, 1).all()
    assert same(state(encoder), was[0]) and same(state(other), was[1])

def test_the_comparison_has_a_row_for_pixels_for_luck_and_for_byol():
    table = compare_features(TinyResNet(width=4), TinyResNet(width=4), dls(), k=5)
    assert list(table.index)==['raw pixels', 'random encoder', 'BYOL'] and list(table.columns)==['kNN', 'linear']
    assert table.stack().between(0, 1).all()
