"""numpy, pandas, scikit-learn, scipy and matplotlib work behind the walls, and print no warning."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec
import pytest

from tests.support.rehearsal import write_spec
from tests.support.walls import machine_walls, run_program, without

ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has walls")
NO_NAMESPACE = ("namespaces.leave_network",)
NO_MOUNTS = ("namespaces.freeze_all_but",)
DEADLINE_S = 300.0

# Behind some walls, each of these lines failed, or printed a warning.
FAILED = """
import warnings
warnings.simplefilter("error")
import joblib
import matplotlib.pyplot as plt
from sklearn.cluster import KMeans
from sklearn.datasets import load_iris
from sklearn.linear_model import Ridge
from sklearn.model_selection import cross_val_score
rows, classes = load_iris(return_X_y=True)
KMeans(3, n_init=1, random_state=0).fit(rows)
assert len(cross_val_score(Ridge(), rows, classes, cv=2, n_jobs=2)) == 2
assert joblib.cpu_count() >= 1
plt.plot(classes)
plt.savefig("figure.svg")
"""
ALL = """
import os, warnings
warnings.simplefilter("error")
from pathlib import Path

import numpy as np
square = np.random.default_rng(1).normal(size=(300, 300))
u, s, v = np.linalg.svd(square)
assert np.allclose(u * s @ v, square)

import pandas as pd
table = pd.read_csv("rows.csv", parse_dates=["day"])
table["day"] = table["day"].dt.tz_localize("Europe/Berlin")
table.groupby("ward")["minutes"].mean().to_csv("means.csv")
assert Path("means.csv").read_text() == "ward,minutes\\neye,24.0\\nskin,12.0\\n"

import joblib, threadpoolctl
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
rows, classes = load_digits(return_X_y=True)
rows, classes = rows[:400], classes[:400]
models = (
    make_pipeline(StandardScaler(), LogisticRegression(max_iter=200)),
    RandomForestClassifier(10, n_jobs=2, random_state=0),
    KNeighborsClassifier(n_jobs=2),
    HistGradientBoostingClassifier(max_iter=3, random_state=0),
)
for model in models:
    assert model.fit(rows, classes).score(rows, classes) > 0.9
KMeans(10, n_init=1, random_state=0).fit(rows)
scores = [cross_val_score(models[0], rows, classes, cv=3, n_jobs=jobs) for jobs in (1, 2, -1)]
assert np.allclose(scores[0], scores[1]) and np.allclose(scores[0], scores[2])
for large in joblib.Parallel(n_jobs=2, max_nbytes=1000)(joblib.delayed(np.sum)(square) for _ in range(2)):
    assert np.isclose(large, square.sum())
with joblib.parallel_config(backend="threading"):
    assert joblib.Parallel(n_jobs=2)(joblib.delayed(abs)(-number) for number in range(4)) == [0, 1, 2, 3]
remembered = joblib.Memory(os.environ["TMPDIR"], verbose=0).cache(abs)
assert (remembered(-1), remembered(-1)) == (1, 1)
joblib.dump(models[0], "model.joblib")
assert (joblib.load("model.joblib").predict(rows) == models[0].predict(rows)).all()
with threadpoolctl.threadpool_limits(1):
    assert {pool["num_threads"] for pool in threadpoolctl.threadpool_info()} == {1}
assert all(pool["num_threads"] <= 8 for pool in threadpoolctl.threadpool_info())

from scipy import fft, optimize, sparse, stats
assert optimize.minimize(lambda x: (x - 1) @ (x - 1), np.zeros(3)).success
assert fft.fft(np.ones((8, 64)), workers=2).shape == (8, 64)
assert sparse.linalg.spsolve(sparse.eye_array(3, format="csc"), np.ones(3)).sum() == 3
assert stats.norm.cdf(0) == 0.5

import matplotlib
import matplotlib.pyplot as plt
from matplotlib import font_manager
assert matplotlib.get_cachedir().startswith(os.environ["TMPDIR"])
assert font_manager.findfont("DejaVu Sans").startswith(matplotlib.get_data_path())
figure, axes = plt.subplots()
axes.plot([1, 2], label="ü")
axes.set_title("$x^2$")
axes.legend()
for kind, first in (("png", b"\\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")):
    figure.savefig(f"figure.{kind}")
    assert Path(f"figure.{kind}").read_bytes().startswith(first)
"""
PROCESSES = """
import warnings
warnings.simplefilter("error")
import joblib, os
import numpy as np
from sklearn.datasets import load_iris
from sklearn.linear_model import Ridge
from sklearn.model_selection import cross_val_score
if __name__ == "__main__":
    rows, classes = load_iris(return_X_y=True)
    with joblib.parallel_config(BACKEND):
        assert len(set(joblib.Parallel(n_jobs=2)(joblib.delayed(os.getpid)() for _ in range(4))) - {os.getpid()})
        sums = joblib.Parallel(n_jobs=2, max_nbytes=1000)(joblib.delayed(np.sum)(np.ones(1000)) for _ in range(4))
        assert sums == [1000.0] * 4
        assert len(cross_val_score(Ridge(), rows, classes, cv=2, n_jobs=2)) == 2
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "here").mkdir()
    (tmp_path / "program").mkdir()
    (tmp_path / "here" / "rows.csv").write_text(
        "ward,day,minutes\neye,2026-01-02,20\neye,2026-01-03,28\nskin,2026-01-03,12\n"
    )
    monkeypatch.chdir(tmp_path / "here")
    for name in ("OMP_NUM_THREADS", "JOBLIB_MULTIPROCESSING"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MPLCONFIGDIR", str(tmp_path / "out of reach"))
    return tmp_path / "here"


def prints(here: Path, script: str, capfd: pytest.CaptureFixture[str], *, allow_subprocess: bool = False) -> str:
    """Run a script, which has to succeed; return what it printed."""
    spec = write_spec(here.parent / "program", script, parties=1)
    spec = msgspec.structs.replace(spec, walls=machine_walls(), allow_subprocess=allow_subprocess)
    ended = run_program(spec, DEADLINE_S)
    printed = "".join(capfd.readouterr())
    assert ended.status == 0, printed
    return printed


# Most of it failed without a namespace. A test of docs/howto/data.md runs a session of three parties with one.
@ON_LINUX
def test_what_failed_behind_the_walls_works_and_prints_nothing(
    here: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    without(monkeypatch, here.parent / "less", *NO_NAMESPACE)
    assert prints(here, FAILED, capfd) == ""
    assert (here / "figure.svg").exists()


@ON_LINUX
@pytest.mark.weekly
@pytest.mark.parametrize("functions", [(), NO_NAMESPACE, NO_MOUNTS])
def test_data_libraries_work_behind_all_walls_and_without_some(
    here: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], functions: tuple[str, ...]
) -> None:
    without(monkeypatch, here.parent / "less", *functions)
    assert prints(here, ALL, capfd) == ""
    assert {path.name for path in here.iterdir()} == {
        *("rows.csv", "means.csv", "model.joblib", "figure.png", "figure.svg", "figure.pdf")
    }


@ON_LINUX
@pytest.mark.weekly
@pytest.mark.parametrize("backend", ["loky", "multiprocessing"])
def test_joblib_starts_processes_if_the_program_may(
    here: Path, capfd: pytest.CaptureFixture[str], backend: str
) -> None:
    if not machine_walls().network:
        pytest.skip("the next test is for a machine without namespaces")
    script = PROCESSES.replace("BACKEND", repr(backend))
    assert prints(here, script, capfd, allow_subprocess=True) == ""


@ON_LINUX
@pytest.mark.weekly
def test_without_a_namespace_joblib_does_one_job_after_another(
    here: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    without(monkeypatch, here.parent / "less", *NO_NAMESPACE)
    assert prints(here, FAILED, capfd, allow_subprocess=True) == ""
