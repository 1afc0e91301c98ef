# SPDX-License-Identifier: Apache-2.0
"""Which checkpoints of a folder are whole, by names, sentinels and neighbours."""

from __future__ import annotations

import pytest

from airflow_provider_jobapi.training import checkpoint_rules as rules

WRITING = """
ckpt.pt.tmp .tmp-ckpt tmp-checkpoint-500 checkpoint-500.incomplete 100.orbax-checkpoint-tmp
100.orbax-checkpoint-tmp-1699 model.part model.pt.part model.partial ckpt_temp ckpt-5_temp
ckpt-5_temp_0a1b2c3d4e _tmp_ckpt .ckpt.pt.swp ckpt.pt.writing temp_ckpt.pt checkpoint.tmpa1b2c3d4e5f6
ckpt-1.index.tempstate123456 tmpk3j_9x2a tmpk3j_9x2a.pt ckpt.pt~ .incomplete _in_progress step-5.in_progress
step_5_inprogress ckpt.pt.tmp.1234 ckpt.1234.tmp .nfs000001 checkpoint-5-tmp tmp_model.pt model.tmp.pt
.metadata.tmp state.npz.temp ckpt.tmp123 INCOMPLETE state.tmp-3-99 tmp
""".split()  # noqa: SIM905 -- a list of words

NOT_WRITING = """
ckpt.pt checkpoint checkpoint-500 latest.weights.h5 latest.weights.h5.bkp temp-0.5.npz temp_scaling.npz
part-0.npy part-00000-of-00001.bin model_part1.bin partition.npy temperature.npy temple.pt tmpl.pt
attempt-1.pt prompt_tmpl.json best.pt .metadata __0_0.distcp _SUCCESS epoch=3-step=40.ckpt
events.out.tfevents.1 template.json writing_style.pt handwriting.pt model-00001-of-00002.safetensors
compartment.pt partial_fit.pkl ckpt-5.data-00000-of-00001
""".split()  # noqa: SIM905 -- a list of words


@pytest.mark.parametrize("name", WRITING)
def test_a_name_says_that_it_is_being_written(name):
    assert rules.says_writing(name)


@pytest.mark.parametrize("name", NOT_WRITING)
def test_another_name_does_not(name):
    assert not rules.says_writing(name)


def selected(*paths: str) -> tuple[list[str], bool]:
    """What is kept of some paths and whether that is trusted: a path that ends with ``!`` is torn, with ``+`` whole."""
    marks = {"!": False, "+": True}
    files = {path.rstrip("!+"): marks.get(path[-1]) for path in paths}
    selection = rules.select(files)
    return selection.kept, selection.trusted


def unit(number: int, *more: str) -> list[str]:
    return [
        f"checkpoint-{number}/{name}" for name in ("model.safetensors", "optimizer.pt", "trainer_state.json", *more)
    ]


CASES = {
    "nothing": ((), [], True),
    "one file": (("state.npz+",), ["state.npz"], True),
    "a writer's temporary file": (("ckpt-1.pt", "ckpt-2.pt.tmp"), ["ckpt-1.pt"], True),
    "a torn file of a series": (("ckpt-1.pt+", "ckpt-2.pt!"), ["ckpt-1.pt"], True),
    "what belongs to a torn file": (("m-1.pt", "o-1.pt", "m-2.pt", "o-2.pt!"), ["m-1.pt", "o-1.pt"], True),
    "the same value in two names": (
        ("epoch=9-loss=0.25.ckpt+", "epoch=10-loss=0.25.ckpt!"),
        ["epoch=9-loss=0.25.ckpt"],
        True,
    ),
    "a value before the number": (
        ("0.25-s9/a", "0.25-s9/b", "0.05-s10/a"),
        ["0.25-s9/a", "0.25-s9/b"],
        True,
    ),
    "a torn file of its own": (("latest.weights.h5!", "training_metadata.json+"), ["training_metadata.json"], False),
    "the only one of a series": (("ckpt-1.pt!",), [], False),
    "Trainer, killed before its last file": (
        (*unit(5), "checkpoint-10/model.safetensors", "checkpoint-10/optimizer.pt"),
        unit(5),
        True,
    ),
    "the first of the Trainer": (("checkpoint-5/model.safetensors", "checkpoint-5/optimizer.pt"), [], False),
    "Trainer's staging folder": ((*unit(5), "tmp-checkpoint-10/model.safetensors"), unit(5), True),
    "a file that all others have": (
        ("s-1/a", "s-1/done", "s-2/a", "s-2/done", "s-3/a"),
        ["s-1/a", "s-1/done", "s-2/a", "s-2/done"],
        True,
    ),
    "a file that only some have": (
        ("s-1/a", "s-1/best", "s-2/a", "s-3/a"),
        ["s-1/a", "s-1/best", "s-2/a", "s-3/a"],
        True,
    ),
    "orbax": (("1/_METADATA", "2.orbax-checkpoint-tmp-17/_METADATA"), ["1/_METADATA"], True),
    "a sentinel in a folder": (("s-1/a", "s-2/a", "s-2/.incomplete"), ["s-1/a"], True),
    "a sentinel beside a folder": (("s-1/a", "s-2/a", "s-2.incomplete"), ["s-1/a"], True),
    "a sentinel beside a file": (("a-1.bin", "a-2.bin", "a-2.bin.incomplete"), ["a-1.bin"], True),
    "no sentinel, but what takes its place": (("a.pt+", "a.pt.tmp"), ["a.pt"], True),
    "a sentinel of the whole folder": (("model.bin", "optimizer.bin", "_in_progress"), [], False),
    "a temporary file in a folder": (("s-1/a", "s-2/a", "s-2/b.tmp"), ["s-1/a"], True),
    "a temporary file in a folder beside what it replaces": (
        ("s-1/a", "s-2/a", "s-2/a.tmp"),
        ["s-1/a", "s-2/a"],
        True,
    ),
    "TensorFlow": (
        (
            "checkpoint",
            "ckpt-1.index+",
            "ckpt-1.data-00000-of-00001",
            "ckpt-2.data-00000-of-00001",
            "ckpt-2_temp/part-00000-of-00001.index",
        ),
        ["checkpoint", "ckpt-1.data-00000-of-00001", "ckpt-1.index"],
        True,
    ),
    "missing shards": (
        ("model-00001-of-00002.safetensors+", "config.json+"),
        ["config.json"],
        False,
    ),
    "distributed torch": (("1/__0_0.distcp", "1/.metadata", "2/__0_0.distcp"), ["1/.metadata", "1/__0_0.distcp"], True),
    "a folder of folders": (
        ("runs/version_0/ckpt-1.pt", "runs/version_1/ckpt-1.pt!"),
        ["runs/version_0/ckpt-1.pt"],
        True,
    ),
    "the model of an end": (("best/model.safetensors", "best/training_args.bin"), None, True),
    "Keras's two": (("w.h5!", "w.h5.bkp+", "m.json+"), ["m.json", "w.h5.bkp"], False),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_whole_is_kept(case):
    paths, kept, trusted = CASES[case]
    assert selected(*paths) == (sorted(paths) if kept is None else kept, trusted)


def test_what_is_torn_and_older_than_something_whole_is_of_no_importance():
    files = {"junk.json": False, "weights.h5": True, "log.csv": None}
    assert not rules.select(files, {"junk.json": 5, "weights.h5": 4, "log.csv": 3}).trusted
    assert rules.select(files, {"junk.json": 3, "weights.h5": 4, "log.csv": 3}).trusted


def test_paths_of_earlier_folders_are_corrected():
    places, now = rb"/[a-z/]+/jobs/[0-9]/state/checkpoints", b"/x/jobs/2/state/checkpoints"
    text = b'{"best": "/srv/jobs/1/state/checkpoints/checkpoint-5", "other": "/srv/jobs/1/state/checkpoints-old"}'
    assert rules.moved(text, places, now) == text.replace(b"/srv/jobs/1/state/checkpoints/", now + b"/")
    assert rules.moved(b"path: /srv/jobs/1/state/checkpoints", places, now) == b"path: " + now


def test_the_index_of_tensorflow_names_what_is_there():
    index = (
        b'model_checkpoint_path: "ckpt-3"\nall_model_checkpoint_paths: "ckpt-1"\n'
        b'all_model_checkpoint_paths: "/a/b/ckpt-2"\nall_model_checkpoint_paths: "ckpt-3"\n'
    )
    assert rules.without_missing(index, {"ckpt-1", "ckpt-2", "ckpt-3"}) == index
    assert rules.without_missing(index, {"ckpt-1", "ckpt-2"}).splitlines()[:1] == [
        b'model_checkpoint_path: "/a/b/ckpt-2"'
    ]
    assert rules.without_missing(index, {"ckpt-9"}) is None
    timed = index + b"".join(b"all_model_checkpoint_timestamps: %d.5\n" % number for number in (1, 2, 3)) + b"last: 4\n"
    assert rules.without_missing(timed, {"ckpt-2"}).splitlines() == [
        *(b'model_checkpoint_path: "/a/b/ckpt-2"', b'all_model_checkpoint_paths: "/a/b/ckpt-2"'),
        *(b"all_model_checkpoint_timestamps: 2.5", b"last: 4"),
    ]
    assert rules.prefixes_of(["a/ckpt-1.index", "ckpt-2.index", "ckpt-2.data-00000-of-00001"], "") == {"ckpt-2"}
