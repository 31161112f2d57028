"""Nothing that is read can run code: no pickle, no YAML of Python objects, and modules only under `load:`."""

import ast
from importlib.resources import files
from pathlib import Path

import pytest

import medrobust

PACKAGE = Path(str(files(medrobust)))
SOURCES = sorted(PACKAGE.rglob("*.py"))
UNSAFE_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
UNSAFE_CALLS = {
    "eval", "exec", "__import__", "os.system",
    "yaml.load", "yaml.load_all", "yaml.full_load", "yaml.full_load_all", "yaml.unsafe_load",
    "yaml.unsafe_load_all", "yaml.Loader", "yaml.FullLoader", "yaml.UnsafeLoader", "pd.read_pickle",
}  # fmt: skip
REQUIRED = {
    "torch.load": "weights_only=True",
    "fabric.load": "weights_only=True",
    "np.load": "allow_pickle=False",
}
"""What these calls must say."""

IMPORTS_CODE = "catalogue.py"
"""The one file that may import a module whose name stands in a study (not those of that name in folders)."""


def faults(source: str, name: str) -> list[str]:
    """What in a source file could run code that somebody else wrote."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names if not alias.name.endswith("Error")]  # run nothing
            modules = [node.module or ""] * bool(names) if isinstance(node, ast.ImportFrom) else names
            found += [module for module in modules if module.partition(".")[0] in UNSAFE_MODULES]
        if isinstance(node, ast.Call):
            call, keywords = ast.unparse(node.func), {ast.unparse(keyword) for keyword in node.keywords}
            unsafe = call in UNSAFE_CALLS or "shell=True" in keywords or "allow_pickle=True" in keywords
            if unsafe or REQUIRED.get(call, "") not in {"", *keywords}:
                found.append(call)
            if call.endswith("import_module") and name != IMPORTS_CODE:
                found.append(call)
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_source_file_can_run_what_it_reads(path: Path) -> None:
    assert not faults(path.read_text(encoding="utf-8"), str(path.relative_to(PACKAGE)))


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import PicklingError, loads",
        "from joblib import load",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "np.load(path)",
        "np.load(path, allow_pickle=True)",
        "yaml.load(text, Loader=yaml.SafeLoader)",
        "subprocess.run(text, shell=True)",
        "importlib.import_module(name)",
        "eval(text)",
    ],
)
def test_the_check_itself(source: str) -> None:
    assert faults(source, "any.py")
    sound = "from pickle import PicklingError; torch.load(path, weights_only=True)"
    assert not faults(f"{sound}; np.load(path, allow_pickle=False)", "any.py")
