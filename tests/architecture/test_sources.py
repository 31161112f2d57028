"""What no source file may do.

Nothing that is read can run code: no pickle, no YAML of Python objects, and modules only under `load:`.
Nothing is printed, and no global generator is seeded outside of training.
"""

import ast
from importlib.resources import files
from pathlib import Path

import pytest

import medrobust

PACKAGE = Path(str(files(medrobust)))
UNSAFE_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
UNSAFE_CALLS = {
    "eval", "exec", "__import__", "os.system",
    "yaml.load", "yaml.load_all", "yaml.full_load", "yaml.full_load_all", "yaml.unsafe_load",
    "yaml.unsafe_load_all", "yaml.Loader", "yaml.FullLoader", "yaml.UnsafeLoader", "pd.read_pickle",
}  # fmt: skip
PRINTS = {"print", "breakpoint"}
SEEDS = {"np.random.seed", "random.seed", "torch.manual_seed", "torch.cuda.manual_seed_all"}
REQUIRED = {
    "torch.load": "weights_only=True",
    "fabric.load": "weights_only=True",
    "np.load": "allow_pickle=False",
}
"""What these calls must say."""

IMPORTS_CODE = {
    "catalogue.py",
    "metrics/__init__.py",  # only parts of itself, on first use
    "models/formats/loaded.py",  # only libraries that adapters name
}
"""The first is the one file that may import a module whose name stands in a study."""


TRAINS = {"running/train.py", "running/setup.py"}
"""They fork and seed the global generator, which libraries' initialisation and dropout read."""


def faults(source: str, name: str) -> list[str]:
    """Imports and calls in a source file that are not to be there."""
    banned = UNSAFE_CALLS | PRINTS | (set() if name in TRAINS else SEEDS)
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names if not alias.name.endswith("Error")]  # run nothing
            modules = [node.module or ""] * bool(names) if isinstance(node, ast.ImportFrom) else names
            found += [module for module in modules if module.partition(".")[0] in UNSAFE_MODULES]
        if isinstance(node, ast.Call):
            call, keywords = ast.unparse(node.func), {ast.unparse(keyword) for keyword in node.keywords}
            unsafe = call in banned or "shell=True" in keywords or "allow_pickle=True" in keywords
            if unsafe or REQUIRED.get(call, "") not in {"", *keywords}:
                found.append(call)
            if call.endswith("import_module") and name not in IMPORTS_CODE:
                found.append(call)
    return found


def test_no_source_file_holds_any_of_it() -> None:
    names = {path.relative_to(PACKAGE).as_posix(): path for path in PACKAGE.rglob("*.py")}
    found = {name: faults(path.read_text(encoding="utf-8"), name) for name, path in names.items()}
    assert not {name: calls for name, calls in found.items() if calls}


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
        "print(text)",
        "torch.manual_seed(0)",
    ],
)
def test_the_check_itself(source: str) -> None:
    assert faults(source, "any.py")
    sound = "from pickle import PicklingError; torch.load(path, weights_only=True)"
    assert not faults(f"{sound}; np.load(path, allow_pickle=False)", "any.py")
