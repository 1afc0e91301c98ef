# SPDX-License-Identifier: Apache-2.0
"""Tell a metric from a setting, an id, a time or a size by its name.

A result's metrics decide which model is put into service, so a wrong one is worse than a missing one: what is not known
counts only in a line that says which step or epoch it measures.
"""

from __future__ import annotations

import re
from enum import Enum
from functools import lru_cache
from itertools import pairwise

NAME_LIMIT = 100
"""Characters of a metric's name."""


def _these(words: str) -> frozenset[str]:
    return frozenset(words.split())


METRICS = _these(
    """
    loss losses acc accuracy accuracies auc auroc auprc aupr prauc rocauc f1 fscore mse rmse mae mape smape
    wape wmape rmsle msle logloss mlogloss binarylogloss multilogloss crossentropy perplexity ppl nll bce bleu
    sacrebleu rouge meteor chrf wer cer iou miou giou dice psnr ssim lpips fid mcc ndcg mrr kld elbo deviance
    brier inertia silhouette aic bic rsquared hinge logcosh bpc bpd top1 top3 top5 top10
    """
)
"""Words that make a name a metric, whatever its value."""

LIKELY_METRICS = _these(
    """
    error err merror errors cost score scores precision recall sensitivity specificity map ap aps apm apl ar r2 l1 l2 kl
    divergence entropy likelihood objective reward rew return returns gini kappa explained squared fbeta f2 correlation
    corr pearson spearman pearsonr spearmanr matthews em hitrate fitness regret wasserstein hamming jaccard ce huber
    quantile roc coherence mauc r likelihoods
    """
)
"""Words that make a name a metric where the value is no whole number, or the line names its step."""

COMPANIONS = frozenset({"lr", "learning", "grad", "gradient", "gnorm", "gradnorm", "momentum", "wd", "temperature"})
"""Words of what is measured beside a metric; alone, or among settings, it is a setting."""

NO_METRICS = _these(
    """
    time times dur timestamp sec secs second seconds ms msec mins minute minutes hour hours day days date eta
    elapsed remaining best duration runtime walltime wall latency speed throughput fps ips qps wps ups wpb bsz
    tps mfu hfu flops flos tflops samples sample examples example tokens images imgs instances rows row lines
    columns cols num nums n nb number count counts cnt size sizes length len dim dims shape width height
    channels layers layer heads hidden units neurons seed id ids idx index pid uid gid ppid tid rank port
    version ver gpu gpus cpu cpus device devices node nodes mem memory ram rss vram bytes kb mb gb kib mib gib
    disk workers worker threads thread processes params parameters param parameter accumulation warmup dropout
    patience threshold thresholds thresh thres thr limit limits year month user users account accounts code status exit
    retries retry attempt attempts ratio split folds trees leaves depth estimators clusters classes labels
    features vocab bins support freq frequency interval every offset stride kernel padding bs weight weights
    scale scaling scaler factor factors smoothing tolerance tol function fn func type name kind reduction
    decay steps epochs batches iters iterations rounds episodes timesteps estimator window budget quota
    request requests response host address file files page line col download upload cache queue checkpoint
    save saved logging progress done complete completed utilization util power reader
    hparam hparams config cfg arg args setting settings option options flags hyperparameter hyperparameters
    """
)
"""Words that make a name none, also beside one of a metric: ``loss_scale``, ``accuracy_threshold``."""

BOUNDS = _these(
    """
    max min target goal base init initial expected required desired baseline coef coefs coeff coefficient
    alpha beta beta1 beta2 betas gamma lambda eps epsilon pretrained sota reference published paper human chance
    dummy previous prev forward backward fwd bwd stop use default nms match
    """
)
"""Words of settings and of what others measured, which count only beside a metric's, in a line that names its step."""

PENALTIES = _these("l1 l2 huber quantile reg regularization regularizer regularisation penalty penalties lasso ridge")
"""Words of losses that are mostly settings: ``l2: 0.01`` is one, ``l2=0.01`` beside ``loss=0.5`` is measured."""

PLACES = frozenset({"step", "steps", "epoch", "iteration", "iter", "batch", "round", "globalstep", "global_step"})
"""Names that say where a training is."""

MODIFIERS = _these(
    """
    train training val valid validation test testing eval evaluation dev holdout out oob avg average mean
    median total running smoothed final current last epoch epochs batch step iter iteration set data dataset
    on of the for in at per weighted macro micro balanced binary categorical sparse squared absolute root
    percentage log cross negative positive policy value critic actor generator discriminator gen disc real
    fake reconstruction recon adversarial style content classification regression bbox box mask cls reg obj
    objectness rpn contrastive triplet auxiliary aux student teacher distillation mlm nsp ctc attention word
    char token sentence pixel class top under area pr curve adjusted adj explained norm normalized rate
    exact cumulative discounted gain intersection over union peak signal noise to index coefficient with
    euclidean distance overall global local mode model network net q td target ema
    """
)
"""Words that may stand around a metric's: ``Avg. training loss``, ``Area under ROC``, ``RMSE on test data``."""

_TOKEN = re.compile(r"[^\W_]+")
_CAMEL = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_BETWEEN = frozenset({"with", "of", "at", "in", "on", "for", "to", "by", "from"})
"""Words with which no name begins: what stands before them belongs to it."""

_AROUND = MODIFIERS | BOUNDS | {"s"}
_ALL = METRICS | PENALTIES | LIKELY_METRICS | COMPANIONS | NO_METRICS | BOUNDS | PLACES | MODIFIERS
_SURE = re.compile(r".*(?:loss|accuracy|acc)|loss(?:es|.)?[0-9]{0,3}")
_ASIDE = re.compile(r" \([^()]{0,60}\)")
_FILE = re.compile(r"\.(?:py|cc|cpp|cu|c|h|hpp|rs|java|scala|js|json|ya?ml|txt|csv|h5|keras|pt|pth|ckpt|bin|log)\b")


class Kind(Enum):
    """What a name says of its value."""

    METRIC = "a metric"
    LIKELY = "a metric, unless the value is whole and the line names no step"
    COMPANION = "measured, beside a metric"
    PLACE = "where the training is"
    NONE = "a setting, an id, a time or a size"
    UNKNOWN = "a metric only where the line names its step"


@lru_cache(maxsize=2048)
def spelled(name: str) -> str:
    """The name of a metric as it is kept: spaces become underscores.

    Behind an apostrophe the space stays, as LightGBM writes it: ``valid_1's l2``.
    """
    words = name.split()
    joined = "".join(f"{' ' if before.endswith(chr(39) + 's') else '_'}{word}" for before, word in pairwise(words))
    return (words[0] + joined)[:NAME_LIMIT] if words else ""


@lru_cache(maxsize=2048)
def kind_of(name: str) -> Kind:
    """What a name says of its value."""
    lowered = name.lower().strip()
    if lowered in PLACES:
        return Kind.PLACE
    if lowered in {"v_num", "data"} or lowered.endswith(("/s", "/sec")):
        return Kind.NONE
    words = _words(name)
    if words & NO_METRICS or _FILE.search(lowered):
        return Kind.NONE
    known = _metric_of(_words(_ASIDE.sub("", name)) if "(" in name else words)
    if (known is Kind.UNKNOWN and words & PLACES) or (known is Kind.LIKELY and "clip" in words):
        return Kind.NONE
    if not words & BOUNDS:
        return known
    return Kind.UNKNOWN if known in (Kind.METRIC, Kind.LIKELY) else Kind.NONE


def _metric_of(words: frozenset[str]) -> Kind:
    if words & METRICS or any(_SURE.fullmatch(word) for word in words):
        return Kind.METRIC
    if words & COMPANIONS or (words and words <= PENALTIES):
        return Kind.COMPANION
    return Kind.LIKELY if words & LIKELY_METRICS and words != {"r"} else Kind.UNKNOWN


@lru_cache(maxsize=2048)
def is_phrase(name: str, strangers: int) -> bool:
    """Whether words with spaces between them are the name of a metric and no sentence.

    :param strangers: How many words before the metric's may be unknown: one of ``decoder loss``, none of ``loss fell``.
    """
    words = _ASIDE.sub("", name).split() if "(" in name else name.split()
    if len(words) <= 1:
        return True
    if words[0].lower() in _BETWEEN:
        return False
    known = [bool(_words(word) & (METRICS | LIKELY_METRICS | COMPANIONS)) or not _words(word) for word in words]
    if True not in known:
        return False
    first = known.index(True)
    around = [
        each or all(part in _AROUND or part.isdigit() for part in _words(word))
        for word, each in zip(words, known, strict=True)
    ]
    unknown = [word for word, each in zip(words, around[:first], strict=False) if not each]
    named = 1 if strangers and all(word[0].isupper() for word in unknown) else 0  # Random Forest accuracy
    return all(around[first:]) and len(unknown) <= strangers + named


@lru_cache(maxsize=2048)
def _words(name: str) -> frozenset[str]:
    found: set[str] = set()
    for token in _TOKEN.findall(name):
        found.update(_parts(token))
    return frozenset(found)


def _parts(token: str) -> list[str]:
    lowered = token.lower()
    for word in (lowered, lowered.rstrip("0123456789"), lowered.lstrip("0123456789")):
        if word in _ALL:
            return [word]
    return parts_of_word(token) or [lowered]


def parts_of_word(word: str) -> list[str]:
    """The words that are written as one: ``val`` and ``loss`` of ``valLoss``."""
    return [part.lower() for part in _CAMEL.findall(word)]
