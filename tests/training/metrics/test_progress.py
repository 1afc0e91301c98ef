# SPDX-License-Identifier: Apache-2.0
"""How far a training is, from the lines of its log: each kind of loop, and what must not be taken for one."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_jobapi.training.metrics.progress import SILENCE, Estimate, Progress, time_left
from airflow_provider_jobapi.training.metrics.progress_pace import MOST_SAMPLES
from tests.harness.work import seconds_of

Lines = Iterator[tuple[float, str]]
"""The lines of a training, each with the second at which it is written. The last one is written at its end."""


def bar(done: int, total: int, title: str = "", postfix: str = "") -> str:
    percent = done * 100 // total
    title = f"{title}: " if title else ""
    return f"{title}{percent:3d}%|{'█' * (percent // 10):<10}| {done}/{total} [00:01<00:02, 4.50it/s{postfix}]"


def tqdm(count: int = 500, title: str = "", postfix: str = "", first: float = 1.0) -> Lines:
    """A bar of ``count`` steps of a second, of which the first one takes longer."""
    for done in range(count + 1):
        yield (0 if done == 0 else done - 1 + first), bar(done, count, title, postfix)


def keras(
    epochs: int = 10, batches: int = 20, style: str = "3", first: float = 1.0, evaluation: float = 0.0, start: int = 0
) -> Lines:
    """``fit`` with a bar, or with a line an epoch (``quiet``)."""
    now = 0.0
    for epoch in range(start, epochs):
        yield now, f"Epoch {epoch + 1}/{epochs}"
        for batch in range(1, batches + 1):
            now += first if batch == 1 and epoch == start else 1.0
            drawn = {
                "2": f"{batch:3d}/{batches} [=====>....] - ETA: 2s - loss: 0.25",
                "3": f"\x1b[1m{batch:3d}/{batches}\x1b[0m \x1b[32m━━━━\x1b[0m \x1b[1m2s\x1b[0m 1ms/step - loss: 0.4",
            }.get(style)
            if drawn:
                yield now, drawn
        now += evaluation
        yield now, f"{batches}/{batches} - 20s - 1s/step - accuracy: 0.9 - loss: 0.4"


def epoch_lines(text: str, epochs: int = 20, seconds: float = 30.0, first: float | None = None) -> Lines:
    """A line at the end of each epoch."""
    for epoch in range(1, epochs + 1):
        yield (first or seconds) + (epoch - 1) * seconds, text.format(epoch, epochs, epoch - 1)


def step_lines(text: str, steps: int = 1000, every: int = 50) -> Lines:
    """A line every so many steps, each of which takes a second."""
    for step in range(every, steps + 1, every):
        yield float(step), text.format(step, steps, round(step / every))


def pytorch(text: str, epochs: int = 5, steps: int = 600, every: int = 100) -> Lines:
    """A line every so many steps of an epoch."""
    for epoch in range(epochs):
        for step in range(every, steps + 1, every):
            yield float(epoch * steps + step), text.format(epoch + 1, epochs, step, steps)


def nested_bars(outer: str = "Epochs", inner: str = "Batches", epochs: int = 8, batches: int = 25) -> Lines:
    """Two bars, the outer one drawn when an epoch is over."""
    yield 0.0, bar(0, epochs, outer)
    for epoch in range(epochs):
        for batch in range(batches + 1):
            yield float(epoch * batches + batch), bar(batch, batches, inner)
        yield float((epoch + 1) * batches), bar(epoch + 1, epochs, outer)


def trainer(*, drawn: bool = True, told: bool = False, epochs: int = 3, steps: int = 900, resumed: int = 0) -> Lines:
    """The Trainer of transformers, with a validation of 15 seconds every 100 steps."""
    now, left = 0.0, 0.0
    if told:
        yield 0.0, f"  Num Epochs = {epochs:,}"
        yield 0.0, f"  Total optimization steps = {steps:,}"
    if drawn:
        yield 0.0, bar(0, steps)
    for step in range(resumed + 1, steps + 1):
        now = step - resumed + left
        if drawn:
            yield now, bar(step, steps)
        if step % 100 == 0:
            yield (
                now,
                f"{{'loss': 0.41, 'grad_norm': 1.2, 'learning_rate': 4.5e-05, 'epoch': {step * epochs / steps:.2f}}}",
            )
            for done in range(6) if drawn else ():
                yield now + done * 3, bar(done, 5)
            left += 15
            yield now + 15, f"{{'eval_loss': 0.2911, 'eval_runtime': 15.0, 'epoch': {step * epochs / steps:.2f}}}"
    yield now + 15, "{'train_runtime': 12.1, 'train_loss': 0.356, 'epoch': 3.0}"


def catboost(rounds: int = 400) -> Lines:
    for done in range(1, rounds + 1):
        total, left = done * 0.5, (rounds - done) * 0.5
        remaining = f"{left // 60:.0f}m {left % 60:g}s"
        yield total, f"{done - 1}:\tlearn: 0.68\tbest: 0.69 (0)\ttotal: {total:g}s\tremaining: {remaining}"


def after(lines: Lines, *before: str) -> Lines:
    """A training before which something else is printed."""
    for text in before:
        yield -45.0, text
    yield from lines


STEADY: dict[str, Callable[[], Lines]] = {
    "tqdm": tqdm,
    "tqdm with metrics": lambda: tqdm(postfix=", loss=0.25"),
    "tqdm whose first step compiles": lambda: tqdm(first=120.0),
    "tqdm, scaled": lambda: ((t, text.replace("500 [", "0.50k [")) for t, text in tqdm(title="train")),
    "tqdm without counts": lambda: ((t, re.sub(r"\| \d+/\d+.*", "|", text)) for t, text in tqdm()),
    "Keras 2": lambda: keras(style="2"),
    "Keras 3": keras,
    "Keras without bars": lambda: keras(style="quiet"),
    "Keras whose first epoch compiles": lambda: keras(first=60.0),
    "Keras without bars whose first epoch compiles": lambda: keras(style="quiet", first=60.0),
    "Keras that validates": lambda: keras(evaluation=10.0),
    "Keras that validates, three epochs": lambda: keras(epochs=3, batches=60, evaluation=18.0),
    "Keras that validates and compiles": lambda: keras(epochs=5, batches=60, evaluation=18.0, first=60.0),
    "Keras that goes on at epoch 6": lambda: keras(start=5, epochs=15),
    "Epoch 3/10": lambda: epoch_lines("Epoch {}/{}, Train Loss: 0.5, Val Loss: 0.6"),
    "Epoch [3/10]": lambda: epoch_lines("Epoch [{}/{}], Loss: 0.5"),
    "epoch 3 of 10": lambda: epoch_lines("2026-01-05 10:00:00,123 INFO epoch {} of {} took 30 s"),
    "Epoch 3/10 whose first one is slow": lambda: epoch_lines("Epoch {}/{} loss=0.5", first=150.0),
    "Epoch 2/10, counted from 0": lambda: epoch_lines("Epoch {2}/{1} | loss 0.5"),
    "epoch=3/10": lambda: epoch_lines("epoch={}/{} loss=0.5"),
    "step 200/1000": lambda: step_lines("step {}/{} loss 0.25"),
    "Step 1,200/10,000": lambda: step_lines("Step {:,}/{:,} | loss 0.25", steps=2000),
    "[3/10]": lambda: step_lines("[{}/{}] loss: 0.25"),
    "iteration 5 of 100": lambda: step_lines("iteration {} of {}: reward -3"),
    "Progress: 45%": lambda: step_lines("Progress: {2:.1f}% words/sec: 12 lr: 0.05", steps=5000),
    "a logger's step": lambda: step_lines("[2026-01-05T10:00:00Z] INFO train.loop - step {}/{}"),
    "Epoch [1/5], Step [100/600]": lambda: pytorch("Epoch [{}/{}], Step [{}/{}], Loss: 0.25"),
    "Epoch 1/5 with a bar": lambda: pytorch("Epoch {}/{}:  50%|█████     | {}/{} [00:10<00:12, 4.5it/s, loss=0.2]"),
    "Train Epoch: 1 [600/6000 (11%)], told --epochs": lambda: after(
        pytorch("Train Epoch: {0} [{2}/{3} (11%)]\tLoss: 0.873"), "Namespace(batch_size=64, epochs=5, lr=1.0)"
    ),
    "PyTorch's quick start, told epochs": lambda: after(quick_start(), "{'epochs': 5, 'batch_size': 64}"),
    "YOLO": lambda: pytorch("      {}/{}      2.5G      1.21      640:  50%|█████     | {}/{} [00:10<00:12, 4.5it/s]"),
    "Lightning's rich bar": lambda: pytorch("Epoch {}/{} ━━━━━━━━━━╸━━━━━ {}/{} 0:00:10 • 0:00:12 4.5it/s v_num: 0"),
    "Lightning, told max_epochs": lambda: after(
        ((t, f"Epoch {int(t - 1) // 40}: {text}") for t, text in zip(range(1, 401), cycle_of_bars(40), strict=False)),
        "trainer: {'max_epochs': 10, 'max_steps': -1}",
    ),
    "bars in bars": nested_bars,
    "bars without words in bars": lambda: nested_bars("", ""),
    "folds with epochs": lambda: folds(5),
    "the Trainer": trainer,
    "the Trainer without a bar": lambda: trainer(drawn=False, told=True),
    "the Trainer that goes on at step 400": lambda: trainer(resumed=400, steps=1200),
    "XGBoost, told num_boost_round": lambda: after(
        step_lines("[{}]\tvalidation_0-rmse:0.85123\tvalidation_1-rmse:0.90211"), "{'num_boost_round': 1000}"
    ),
    "LightGBM, told n_estimators": lambda: after(
        step_lines("[{}]\ttraining's l2: 0.204\tvalid_1's l2: 0.311"), "LGBMRegressor(n_estimators=1000)"
    ),
    "nanoGPT, told max_iters": lambda: after(
        step_lines("iter {}: loss 4.26, time 10ms"), "Overriding: max_iters = 1000"
    ),
    "CatBoost": catboost,
    "joblib": lambda: step_lines("[Parallel(n_jobs=1)]: Done  {} out of {} | elapsed: 10.2s remaining:  12.0s"),
    "a search of scikit-learn": lambda: after(
        step_lines("[CV] END ...................C=1, gamma=0.1; total time=   0.5s", steps=100, every=1),
        "Fitting 5 folds for each of 20 candidates, totalling 100 fits",
    ),
    "the helper": lambda: step_lines('{{"jobapi_metrics": 1, "progress": {{"done": {}, "total": {}}}}}'),
    "after downloads and a map": lambda: after(
        tqdm(title="Training"),
        bar(100, 100, "Downloading model.safetensors").replace("it/s", "MB/s"),
        *(bar(done, 100, "Map").replace("it/s", " examples/s") for done in range(0, 101, 10)),
    ),
    "after another bar": lambda: after(keras(), *(bar(done, 100) for done in range(0, 101, 10))),
}


def quick_start() -> Lines:
    for epoch in range(5):
        yield epoch * 610.0, f"Epoch {epoch + 1}"
        yield epoch * 610.0, "-------------------------------"
        for step in range(0, 600, 100):
            yield epoch * 610.0 + step, f"loss: 2.301233  [{step:5d}/  600]"
        yield epoch * 610.0 + 610, "Test Error: "
        yield epoch * 610.0 + 610, " Accuracy: 51.3%, Avg loss: 2.151320 "


def cycle_of_bars(total: int) -> Iterator[str]:
    while True:
        for done in range(1, total + 1):
            yield bar(done, total, postfix=", v_num=0, train_loss=0.3")


def folds(count: int) -> Lines:
    now = 0.0
    for fold in range(count):
        yield now, f"Fold {fold + 1}/{count}"
        for time, text in keras(epochs=4, batches=10):
            yield now + time, text
        now += 40


@pytest.mark.parametrize("kind", STEADY)
def test_at_half_time_the_error_is_less_than_15_percent(kind):
    lines = list(STEADY[kind]())
    end = lines[-1][0]
    progress, seen = Progress(), 0.0
    for time, text in lines:
        if time > end / 2:
            break
        progress.read(text, time)
        if time >= 0 and (estimate := progress.estimate(time)):
            assert estimate.progress >= seen, "it went back"
            seen = estimate.progress
    estimate = progress.estimate(end / 2)
    assert estimate is not None
    assert estimate.remaining == pytest.approx(end / 2, rel=0.15)
    if not re.search("compiles|slow|goes on|without a bar", kind):
        assert estimate.progress == pytest.approx(0.5, abs=0.075)


@pytest.mark.parametrize("kind", STEADY)
def test_at_the_end_it_is_done(kind):
    estimate = read(STEADY[kind]()).estimate(1e5)
    if "quick start" in kind:  # whose last line of an epoch is not that of its end
        assert estimate == Estimate(pytest.approx(0.967, abs=0.01), None)
    else:
        assert estimate == Estimate(1.0, 0.0)


def read(lines: Lines, **options) -> Progress:
    progress = Progress(**options)
    for time, text in lines:
        progress.read(text, time)
    return progress


def of(*texts: str, seconds: float = 10.0, **options) -> Progress:
    """Lines that are written every ten seconds."""
    return read(((number * seconds, text) for number, text in enumerate(texts)), **options)


def done(*texts: str, **options) -> float | None:
    estimate = of(*texts, **options).estimate(10.0 * len(texts))
    return None if estimate is None else estimate.progress


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["Epoch 3/10", " 50/100 [====>....] - ETA: 2s - loss: 0.25"], 0.25),
        (["Epoch [3/10], Batch [50/100], loss 0.2"], 0.25),
        (["Epoch 3/10", "batch 50/100: loss 0.2"], 0.25),
        (["Epoch 3/10:  50%|█████     | 50/100 [00:10<00:12,  4.5it/s, loss=0.2]"], 0.25),
        (["Epoch 3/10:  50%|█████     | 50/100 [00:10<05:12,  4.50s/it, loss=0.2]"], 0.25),
        (["Fold 2/5", "Epoch 3/10", "batch 50/100: loss 0.2"], 0.25),
        (["Epoch 3/10"], 0.2),
        (["Starting epoch 3/10"], 0.2),
        (["Epoch 3/10 lr=0.001"], 0.2),
        (["2026-01-05T10:00:00.123Z | INFO | Epoch 3/10"], 0.2),
        (["Finished epoch 3/10"], 0.3),
        (["Epoch 3/10 dice=0.7"], 0.3),
        (["epoch 3 of 10 - loss 0.4"], 0.3),
        (["Epoch 0/24", "----------", "Epoch 5/24"], 0.2),
        (["Epoch 0/25", "Epoch 5/25"], 0.2),
        (["epoch 003/010 loss 0.4"], 0.3),
        (["EPOCH 3 / 10: loss 0.4"], 0.3),
        ([bar(0, 10, "Epochs"), bar(3, 10, "Epochs"), bar(5, 10, "Batches")], 0.35),
        (["[2/10][50/100] Loss_D: 0.3 Loss_G: 2.1"], 0.15),
        (["[2/10]  [ 50/100]  loss 0.3"], 0.15),
        (["[Epoch 3/10] [Batch 50/100] [D loss: 0.3]"], 0.25),
        (["Epoch: [3/10][  50/100]\tTime 0.3\tLoss 6.9"], 0.25),
        (["Epochs completed: 3/10"], 0.3),
        (["30/100 loss=0.2"], 0.3),
        (["30/100 | train loss 0.2"], 0.3),
        (["building tree 30 of 100"], 0.3),
        (["Generation 3/10", "step 30/100 loss 0.2"], 0.23),
        ([bar(0, 10).replace("it/s", "epoch/s"), bar(3, 10).replace("it/s", "s/epoch"), bar(50, 100)], 0.35),
        (['{"args": {"epochs": 10}}', '{"epoch": 3, "loss": 0.2}'], 0.3),
        (['time=2026-01-05T10:00:00Z level=info msg="epoch 3/10 loss=0.3"'], 0.3),
        (["2026/01/05 10:00:00 step 30/100"], 0.3),
        (["3/10 epochs"], 0.3),
        (["3 of 10 epochs done, loss 0.3"], 0.3),
        (["30/100 steps"], 0.3),
        (["Progress: 30/100"], 0.3),
        (["Training: 30.0% complete"], 0.3),
        ([" 30% (30 of 100) |####      | Elapsed Time: 0:00:10 ETA:  0:00:12"], 0.3),
        ([bar(50, 100, "Train 3/10")], 0.25),
        ([bar(50, 100, "[3/10]")], 0.25),
        ([bar(50, 100, "Fold 2/5 Epoch 3/10")], 0.25),
        ([bar(2, 10, "Epoch 3/10"), bar(3, 10, "Epoch 3/10"), bar(3, 10, "Epoch 4/10")], 0.3),
        (["      3/10      2.5G      1.21      640: 50% ━━━━━━╸───── 50/100 4.5it/s 0:10<0:12"], 0.25),
        (["Scheduled epochs: 10. LR stepped per epoch.", "Train: 2 [  50/100 ( 50%)]  Loss: 4.2"], 0.15),
        (["Epoch 1/10\r" + bar(20, 100) + "\r" + bar(50, 100)], 0.05),
        (
            ["Epoch 1/10", "\x08" * 30 + "\r 20/100 [=>...] - ETA: 1s" + "\x08" * 30 + "\r 50/100 [=>...] - ETA: 1s"],
            0.05,
        ),
        (["[rank1]: step 30/100 loss 0.2", "[rank0]: step 29/100 loss 0.2"], 0.3),
        (["\x1b[32mstep\x1b[0m 30/100 loss 0.2"], 0.3),
    ],
)
def test_loops_within_loops_are_combined(texts, expected):
    assert done(*texts) == pytest.approx(expected)


@pytest.mark.parametrize(
    "texts",
    [
        ["[1,  2000] loss: 2.214", "[1,  4000] loss: 1.871"],
        ["Epoch 1", "-----", "loss: 2.301233  [   64/60000]", "loss: 2.287120  [ 6464/60000]"],
        ["Train Epoch: 1 [0/60000 (0%)]\tLoss: 2.290", "Train Epoch: 1 [6400/60000 (11%)]\tLoss: 0.873"],
        ["Epoch: [0][  10/5005]\tTime  0.312 ( 0.870)\tLoss 6.9912e+00 (7.0131e+00)"],
        ["Test set: Average loss: 0.0512, Accuracy: 9831/10000 (98%)"],
        ["Epoch 0:  45%|████▌     | 45/100 [00:10<00:12,  4.40it/s, v_num=0, train_loss=0.3]"],
        ["Training: |          | 0/? [00:00<?, ?it/s]", "45it [00:10,  4.50it/s, loss=0.3]"],
        ["Sanity Checking DataLoader 0: 100%|██████████| 2/2 [00:00<00:00,  4.50it/s]"],
        [bar(50, 100, "Training (epoch 3)"), bar(60, 100, "Training (epoch 3)")],
        ["Train: 0 [  50/1251 (  4%)]  Loss: 6.9", "Test: [  10/196]  Loss: 0.9"],
        ["Epoch(train)  [3][ 50/100]  lr: 1e-3  eta: 0:10:20  loss: 0.3"],
        ["     17/Unknown 2s 30ms/step - loss: 0.25"],
        ["[0]\tvalidation_0-rmse:0.85123", "[1]\tvalidation_0-rmse:0.75412"],
        ["[10]\ttraining's l2: 0.204\tvalid_1's l2: 0.311"],
        ["Iteration 1, loss = 2.30511", "Iteration 2, loss = 1.30218"],
        ["INFO:tensorflow:loss = 17.2011, step = 101 (0.606 sec)"],
        ["step 250: train loss 1.9630, val loss 2.0577"],
        ["{'loss': 0.3021, 'grad_norm': 1.02, 'learning_rate': 4e-05, 'epoch': 1.0}"],
        ["Step 1/4: loading the data", "Step 2/4: training"],
        ["[3/10] Building CXX object", "[4/10] Linking"],
        [
            "01/05 10:00:00 started",
            "Processing file 3/10",
            "01/05 10:00:00 loss 0.3",
            "2026/01/05 loss 0.3",
            "3/10 files",
        ],
        [bar(30, 100, "Downloading data"), bar(40, 100, "Downloading data")],
        [bar(30, 100, "Map"), bar(99, 100, "Filter"), bar(1, 2, "Loading checkpoint shards")],
        [bar(30, 100, "model.safetensors"), bar(30, 100).replace("it/s", "MB/s")],
        [bar(30, 100, "Validation DataLoader 0"), bar(30, 100, "Evaluating"), bar(30, 100, "Predicting DataLoader 0")],
        ["   ━━━━━━━━━━━━━━ 45.0/100.0 MB 5.0 MB/s eta 0:00:10", "   ━━━━━━━━━━╸━━━━ 3/10 [torch]"],
        ["Validation: batch 30/100 loss 0.3", "Upload progress: 45%"],
        ["warmup_epochs=5", "eval_steps: 100", "Epoch 3: val_loss improved from inf to 0.5", "Epoch 4: the same"],
        ['{"jobapi_metrics": 1, "progress": {"done": 5, "total": 0}}', '{"jobapi_metrics": 1, "progress": 5}'],
        ["Epoch 1/1", "100/100 - 1s - loss: 0.52", "Epoch 1/1", "50/100 [===>...] - ETA: 1s"],
        [*(bar(step, 100, postfix=", loss=0.5") for step in (1, 50, 100, 1, 50)), "loss 0.3"],
        [f"Epoch {epoch}/3 loss 0.5" for epoch in (1, 2, 3, 1, 2, 3)],
        [f"Epoch {epoch}/10 loss 0.5" for epoch in (1, 2, 3, 4, 1, 2)],
        [bar(100, 100), bar(30, 100, "again")],
        [
            "step 110/100 loss 0.5",
            "nothing",
            "",
            "{",
            '{"jobapi_metrics"',
            "%|",
            "Epoch 3/0 loss 1",
            "9" * 2_000,
        ],
    ],
)
def test_nothing_is_said_where_it_is_not_known(texts):
    assert of(*texts).estimate(10.0 * len(texts)) is None


@pytest.mark.parametrize(
    ("texts", "command", "expected"),
    [
        (["Epoch 4:  50%|█████     | 50/100 [00:10<00:12,  4.40it/s]"], "python train.py --epochs=10", 0.35),
        (["Epoch 0: 100%|██| 10/10 [00:10<]", "Epoch 4:  50%|██   | 5/10 ["], "train --trainer.max_epochs 10", 0.45),
        (["Epoch 0: 100%|██| 10/10 [00:10<]", "Epoch 2:  50%|██   | 5/10 ["], "train --max_epochs=4", 0.625),
        (["Epoch 4 loss 0.5"], "python3 train.py --num-epochs=10 --warmup-epochs=3 --epochs-per-save=2", 0.4),
        (["Training for 10 epochs", "Epoch 4 loss 0.5"], "", 0.4),
        (["***** Running training *****", "  Num Epochs = 10", "{'loss': 0.4, 'epoch': 2.5}"], "", 0.25),
        (["max_steps: 400", "global step 100: loss 0.5"], "", 0.25),
        (["[0]\ttrain-rmse:0.8", "[24]\ttrain-rmse:0.7"], "train.py --num_boost_round=100", 0.25),
        (["Epoch 4 loss 0.5"], "train.py --epochs=3", None),
        (["Epoch 4 loss 0.5"], "train.py --epochs=0", None),
    ],
)
def test_a_total_may_be_known_from_elsewhere(texts, command, expected):
    assert done(*texts, command=command) == (None if expected is None else pytest.approx(expected))


def test_several_loops_do_not_make_it_go_back():
    progress, seen, now = Progress(), 0.0, 0.0
    trained = [bar(step, 40, "Training", ", loss=0.2") for step in range(41)]
    tested = [bar(step, 20, title) for title in ("Validating", "", "Testing") for step in range(21)]
    evaluated = [f"{step:2d}/30 ━━━━━━━━━ 2s 1ms/step - loss: 0.3" for step in range(1, 31)]
    for number, text in enumerate([*trained, *tested, *evaluated]):
        now += 1.0
        progress.read(text, now)
        estimate = progress.estimate(now)
        assert estimate is not None
        assert estimate.progress >= seen
        seen = estimate.progress
        assert (seen == 1) == (number >= 40)


def test_what_keras_evaluates_is_not_the_training():
    lines = [*keras(epochs=3), (70.0, "20/20 ━━━━━ 1s 3ms/step"), (71.0, "5/50 ━━━━━ 1s 3ms/step - loss: 0.3")]
    assert read(lines).estimate(72.0) == Estimate(1.0, 0.0)


def test_a_validation_within_each_epoch_does_not_count():
    progress, now = Progress(), 0.0
    for epoch in range(1, 4):
        progress.read(f"Epoch {epoch}/4", now)
        for title, batches in (("", 40), (" ", 10)):
            for step in range(batches + 1):
                now += 1.0
                progress.read(bar(step, batches, title), now)
                estimate = progress.estimate(now)
                assert estimate is not None
                at = step / batches if title == "" else 1.0
                assert estimate.progress == pytest.approx((epoch - 1 + at) / 4)


def test_a_training_after_a_short_one_is_the_one_that_counts():
    assert done("Epoch 1/2 loss 0.5", "Epoch 2/2 loss 0.5", "Epoch 1/20 loss 0.5", "Epoch 5/20 loss 0.4") == 0.25


def test_epochs_that_go_on_where_a_fit_ended():
    fits = [
        "Epoch 9/10",
        "40/40 - 5s - loss: 1",
        "Epoch 10/10",
        "40/40 - 5s - loss: 1",
        "Epoch 11/20",
        "40/40 - 5s - loss: 1",
    ]
    assert done(*fits) == 0.55


def test_folds_that_are_told_when_they_are_over():
    fold = [f"Epoch {epoch}/2 loss 0.5" for epoch in (1, 2)]
    assert done(*fold, "Fold 1/5 accuracy 0.9", *fold, "Fold 2/5 accuracy 0.9", fold[0]) == 0.5


def test_folds_without_their_number_say_nothing():
    fold = [f"Epoch {epoch}/2 loss 0.5" for epoch in (1, 2)]
    assert done("--- Fold 1 ---", *fold) is None
    assert done(*fold, "Fold 2", *fold) is None


def test_bars_whose_epoch_is_told_at_its_end():
    epoch = [bar(step, 40) for step in (1, 20, 40)]
    assert done(*epoch, "Epoch 1/4 loss 0.5", *epoch[:2]) == 0.375


def test_the_pace_of_a_training_that_goes_on_is_its_own():
    estimate = of(*(f"Epoch {epoch}/10 loss 0.5" for epoch in (6, 7, 8))).estimate(20.0)
    assert estimate == Estimate(0.8, pytest.approx(20.0))


def test_with_one_line_the_pace_is_not_known():
    compiled = (0.0, bar(0, 100)), (90.0, bar(1, 100)), (91.0, bar(2, 100))
    assert read(compiled[:2]).estimate(90.0) == Estimate(0.01, None)
    assert read(compiled).estimate(91.0) == Estimate(0.02, pytest.approx(98.0))
    assert of("Epoch 6/10 loss 0.5").estimate(0.0) == Estimate(0.6, None)
    assert read([(5.0, "Epoch 6/10 loss 0.5"), (5.0, "Epoch 7/10 loss 0.5")]).estimate(9.0) == Estimate(0.7, None)


def test_a_late_line_makes_it_neither_shorter_nor_longer():
    progress = of(*(f"step {step}/100 loss 0.5" for step in (10, 20, 30)))
    left = [progress.estimate(20.0 + late).remaining for late in (0, 5, 10, 100, SILENCE)]
    assert left == pytest.approx([70, 65, 60, 60, 60])
    assert progress.estimate(21.0 + SILENCE) == Estimate(0.3, None)


def test_a_clock_that_goes_back_is_no_pace():
    progress = read([(100.0, "step 10/100 loss 1"), (50.0, "step 20/100 loss 1"), (110.0, "step 30/100 loss 1")])
    assert progress.estimate(110.0).remaining == pytest.approx(70)


def test_lines_that_came_together_are_no_pace():
    lines = [(5.0, f"Epoch {epoch}/10 loss 0.5") for epoch in range(1, 6)]
    assert read(lines).estimate(5.0) == Estimate(0.5, None)
    assert read([*lines, (15.0, "Epoch 6/10 loss 0.5"), (25.0, "Epoch 7/10 loss 0.5")]).estimate(25.0).remaining == (
        pytest.approx(30)
    )


def test_where_the_beginning_of_the_log_is_missing_a_bar_may_be_within_an_epoch():
    assert done(" 50/100 ━━━━ 3s 12ms/step - loss: 0.5", whole=False) is None
    assert done(" 50/100 ━━━━ 3s 12ms/step - loss: 0.5", "Epoch 3/10", " 50/100 ━━━━ 3s", whole=False) == 0.25


def test_the_helper_says_it_better_than_any_bar():
    told = '{"jobapi_metrics": 1, "progress": {"done": 30, "total": 120}}'
    assert done("Epoch 3/10 loss 0.5", bar(50, 100) + told, "Epoch 4/10 loss 0.5", bar(60, 100)) == 0.25
    assert done(told, told.replace("30", "6")) == 0.05


def test_what_is_kept_is_bounded():
    progress = read((step, f"step {step}/1000000 loss 0.5") for step in range(20_000))
    assert len(progress._all._kept) <= MOST_SAMPLES
    assert progress.estimate(20_000.0).remaining == pytest.approx(980_000, rel=0.01)
    many = read((number, bar(1, 100 + number, chr(97 + number % 26) * 3)) for number in range(1_000))
    assert len(many._top.inners) <= 8


@given(st.lists(st.text("Epoch 0123456789/[]%|━ stepofBatch:,.-loss=\r\x1b\n{}'\"", max_size=60), max_size=30))
@settings(max_examples=300)
def test_no_line_is_an_error_and_what_is_said_is_possible(texts):
    progress = Progress()
    for now, text in enumerate(texts):
        progress.read(text, now)
        if estimate := progress.estimate(now):
            assert 0 <= estimate.progress <= 1
            assert estimate.remaining is None or estimate.remaining >= 0


@pytest.mark.parametrize(
    "piece",
    [
        "Epoch ",
        "epoch 3/",
        "9",
        "9,",
        " ",
        "1/",
        "[1/1",
        "━",
        "100%|",
        "|",
        "a=",
        "a:1 ",
        "num_",
        "--x",
        "total: 1",
        "1m ",
        "[",
    ],
)
def test_the_time_is_linear_in_the_length_of_a_line(piece):
    begins = ("", "Epoch 1/2", "  1%|", "━", "[0]\t", "total: 1 remaining: ", "INFO ", "max_steps")

    def work(size: int) -> None:
        progress = Progress("--num_boost_round=10")
        for begin in begins:
            progress.read(begin + piece * (size // len(piece)), 1.0)

    work(100)
    assert seconds_of(lambda: work(100_000)) < 0.1
    assert seconds_of(lambda: work(1_000)) < 0.05


def test_the_time_is_linear_in_the_number_of_lines():
    lines = [text for _, text in keras(epochs=40, batches=100)]

    def work() -> None:
        progress = Progress()
        for now, text in enumerate(lines):
            progress.read(text, now)

    assert seconds_of(work) / len(lines) < 0.0002


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "less than a minute left"),
        (49, "less than a minute left"),
        (50, "about 1 min left"),
        (12 * 60 + 20, "about 12 min left"),
        (59.6 * 60, "about 1 h left"),
        (2 * 3600 + 11 * 60, "about 2 h 10 min left"),
        (26 * 3600, "about 1 d 2 h left"),
        (48 * 3600, "about 2 d left"),
    ],
)
def test_a_time_is_as_exact_as_it_can_be_known(seconds, text):
    assert time_left(seconds) == text


def test_for_people():
    assert str(Estimate(0.459, 720.0)) == "45 %, about 12 min left"
    assert str(Estimate(0.459, None)) == "45 %"
    assert str(Estimate((1 + 45 / 100) / 5, None)) == "29 %"
