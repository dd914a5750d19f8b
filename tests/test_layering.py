"""Who may import whom (the layers of the design), private names, registry targets, and sizes.

Reads the sources and imports nothing of ours, so that a broken module is judged like any other.
"""

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("vxp_data", "vxp_model")
MAX_FUNCTION_LINES = 80
MAX_FILE_LINES = 400


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One row of the table: modules, and what they may import beside the standard library."""

    modules: str
    """Space-separated; a package stands for all it holds."""
    own: str = ""
    """Space-separated names of layers; a layer's own modules are always allowed."""
    third_party: str = ""


# Decoders, and the storage under them, are read by vxp_model.data, which must not see settings.
_VALUES = "foundation schemas core"
_ADAPTER = f"{_VALUES} settings-file settings storage"
_BELOW_PIPELINE = f"{_ADAPTER} decoders encoders neighbours manifests shards images datasets"
_BELOW_TRAIN = "model-root model-errors modules models model-data processor"

LAYERS = {
    "foundation": Layer(
        modules="vxp_data.errors vxp_data.extras vxp_data.records vxp_data.conversation "
        "vxp_data.media_markers vxp_data.strict_json vxp_data.shard_format vxp_data.shard_format_1 "
        "vxp_data.shard_index vxp_data.registry vxp_data.shipped_files vxp_data.option_groups"
    ),
    "schemas": Layer(
        modules="vxp_data.schemas vxp_data.lean_start", own="foundation", third_party="pyarrow"
    ),
    "core": Layer(modules="vxp_data.core", own="foundation", third_party="numpy"),
    "settings-file": Layer(
        modules="vxp_data.settings.file vxp_data.settings.safe_yaml vxp_data.settings.recipe_kinds",
        own="foundation",
        third_party="pydantic yaml",
    ),
    "settings": Layer(
        modules="vxp_data.settings",
        own="foundation core settings-file",
        third_party="pydantic",
    ),
    "storage": Layer(modules="vxp_data.storage", own=_VALUES, third_party="pyarrow fsspec"),
    "decoders": Layer(
        modules="vxp_data.decoders",
        own=f"{_VALUES} storage",
        third_party="numpy av decord torchcodec torch pebble",
    ),
    # What torch says of the machine, without torch where that can be told.
    "cuda": Layer(modules="vxp_data.cuda", third_party="torch"),
    "encoders": Layer(
        modules="vxp_data.encoders",
        own=f"{_ADAPTER} cuda",
        third_party="numpy torch onnxruntime open_clip timm transformers huggingface_hub "
        "safetensors",
    ),
    "neighbours": Layer(modules="vxp_data.neighbours", own=_ADAPTER, third_party="numpy faiss"),
    "manifests": Layer(modules="vxp_data.manifests", own=_ADAPTER, third_party="pyarrow yaml"),
    "datasets": Layer(
        modules="vxp_data.datasets", own=f"{_ADAPTER} manifests", third_party="pydantic pyarrow"
    ),
    "shards": Layer(modules="vxp_data.shards", own=_ADAPTER, third_party="numpy pyarrow PIL"),
    "images": Layer(modules="vxp_data.images", third_party="numpy PIL"),
    "engines": Layer(
        modules="vxp_data.engines",
        own=f"{_VALUES} settings cuda decoders",
        third_party="pyarrow numpy",
    ),
    "engine-ray": Layer(
        modules="vxp_data.engines.ray",
        own=f"{_VALUES} settings engines",
        third_party="ray pyarrow numpy",
    ),
    "pipeline": Layer(
        modules="vxp_data.pipeline",
        own=f"{_BELOW_PIPELINE} engines",
        third_party="pyarrow numpy",
    ),
    "report": Layer(
        modules="vxp_data.report",
        own=f"{_VALUES} settings",
        third_party="rich jinja2 matplotlib pyarrow numpy",
    ),
    "api": Layer(
        modules="vxp_data.api", own=f"{_BELOW_PIPELINE} pipeline report", third_party="pyarrow"
    ),
    "cli": Layer(
        modules="vxp_data.cli vxp_data.commands vxp_data.__main__",
        own=f"data-root {_BELOW_PIPELINE} engines pipeline report",
        third_party="typer click rich",
    ),
    "data-root": Layer(modules="vxp_data", own="foundation api pipeline"),
    "model-errors": Layer(modules="vxp_model.errors", own="foundation"),
    "model-registry": Layer(modules="vxp_model.registry", own="foundation"),
    "modules": Layer(modules="vxp_model.modules", own="model-errors", third_party="torch"),
    "models": Layer(
        modules="vxp_model.models",
        own="model-errors modules",
        third_party="torch transformers tokenizers numpy safetensors huggingface_hub",
    ),
    "model-data": Layer(
        modules="vxp_model.data",
        own="model-errors foundation core decoders storage",
        third_party="torch numpy pyarrow PIL",
    ),
    "model-settings": Layer(
        modules="vxp_model.settings",
        own="foundation settings-file",
        third_party="pydantic",
    ),
    # The processor reads what it is given as the loader does.
    "processor": Layer(
        modules="vxp_model.models.processor vxp_model.models.released_import",
        own="model-errors modules models model-data",
        third_party="torch transformers safetensors",
    ),
    "train": Layer(
        modules="vxp_model.train",
        own=f"{_BELOW_TRAIN} foundation settings-file model-settings",
        third_party="torch transformers numpy safetensors deepspeed peft PIL rich",
    ),
    "inference": Layer(
        modules="vxp_model.inference",
        own=f"{_BELOW_TRAIN} core cuda",
        third_party="torch transformers numpy",
    ),
    # Questions and scores: no model, no video.
    "benchmarks": Layer(
        modules="vxp_model.eval.benchmarks", own="model-errors", third_party="pyarrow"
    ),
    "eval": Layer(
        modules="vxp_model.eval",
        own=f"{_BELOW_TRAIN} foundation core decoders storage settings-file model-settings "
        "inference model-registry benchmarks",
        third_party="torch transformers numpy datasets PIL matplotlib pyarrow jinja2",
    ),
    # Imported by lmms-eval alone.
    "lmms-eval-plugin": Layer(
        modules="vxp_model.eval.lmms_eval_plugin",
        own="model-errors model-data inference",
        third_party="lmms_eval torch",
    ),
    "model-cli": Layer(
        modules="vxp_model.cli vxp_model.cli_check vxp_model.cli_eval vxp_model.cli_generate "
        "vxp_model.cli_needle vxp_model.cli_released vxp_model.__main__",
        own=f"{_BELOW_TRAIN} foundation settings-file model-settings train inference eval",
        third_party="typer click rich",
    ),
    "model-root": Layer(modules="vxp_model", own="model-errors model-data inference"),
}

# Tighter than their layer: of the foundation, training may read the shard contract, conversations
# and the errors.
ONLY = {
    "vxp_model.errors": {"foundation": {"vxp_data.errors"}},
    "vxp_model.registry": {"foundation": {"vxp_data.registry"}},
    "vxp_data.engines": {"decoders": {"vxp_data.decoders.child_process"}},
    "vxp_model.data": {
        "foundation": {
            "vxp_data.conversation",
            "vxp_data.errors",
            "vxp_data.extras",
            "vxp_data.media_markers",
            "vxp_data.records",
            "vxp_data.shard_format",
            "vxp_data.shard_index",
        }
    },
    "vxp_model.train": {"foundation": {"vxp_data.conversation", "vxp_data.shipped_files"}},
    "vxp_model.settings": {"foundation": {"vxp_data.extras"}},
    "vxp_model.eval": {"foundation": {"vxp_data.errors", "vxp_data.records"}},
    "vxp_model.cli vxp_model.cli_check vxp_model.cli_eval vxp_model.cli_generate "
    "vxp_model.cli_needle vxp_model.cli_released vxp_model.__main__": {
        "foundation": {"vxp_data.errors", "vxp_data.extras", "vxp_data.option_groups"}
    },
}

# Private names of others that are used all the same: nothing public does it.
PRIVATE = {
    "os._exit": "documented, and ends a process without its parent's clean-up",
    "vxp_data/decoders/child_process.py: _config": "whether a process is a daemon, to be hidden",
    "vxp_data/engines/ray/session.py: _raylet": "what Ray keeps of a session before",
    "vxp_data/storage/object_store.py: _call_s3": "a range with a condition; s3fs's own has none",
    "vxp_data/engines/ray/capacity.py: _private": "Ray's public ones ask a dashboard, or tell less",
    "vxp_model/data/loader.py: _iterator": "torch ends persistent workers by this alone",
    "tests/pipelines/test_cluster_files.py: ray.autoscaler._private.util": "Ray's own check",
}

# Modules that must load at once: `--help` waits for them.
QUICK = ("vxp_data.cli", "vxp_model.cli")
QUICK_DIRECT = {"typer", "click"}
QUICK_INDIRECT = QUICK_DIRECT | {"rich", "numpy", "pydantic", "yaml"}


@dataclass(frozen=True)
class Import:
    target: str
    line: int
    at_load: bool
    """Executed when the module is imported: not in a function, not for the type checker alone."""


def modules_in(root: Path) -> dict[str, Path]:
    found = {}
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports_of(module: str, modules: dict[str, Path]) -> list[Import]:
    """Every import of a module, also within functions and by a literal `import_module`."""
    path = modules[module]
    found: list[Import] = []

    def visit(node: ast.AST, at_load: bool) -> None:
        found.extend(
            Import(target, node.lineno, at_load) for target in targets_of(node, module, modules)
        )
        inside = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) or (
            isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
        )
        for child in ast.iter_child_nodes(node):
            visit(child, at_load and not inside)

    visit(ast.parse(path.read_text(encoding="utf-8"), path), True)
    return found


def targets_of(node: ast.AST, module: str, modules: dict[str, Path]) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            is_package = modules[module].name == "__init__.py"
            up = node.level - is_package
            parents = module.split(".")
            base = ".".join([*parents[: len(parents) - up], *([base] if base else [])])
        names = [f"{base}.{alias.name}" for alias in node.names]
        return list(dict.fromkeys(name if name in modules else base for name in names))
    if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        if name in ("import_module", "__import__") and isinstance(node.args[0].value, str):
            return [node.args[0].value]
    return []


def layer_of(module: str) -> str | None:
    """The layer whose entry is the module or a package around it; the longest entry wins."""
    best, best_length = None, 0
    for name, layer in LAYERS.items():
        for entry in layer.modules.split():
            is_root = entry in PACKAGES  # stands for its __init__ alone: the rest must be placed
            inside = module == entry or (not is_root and module.startswith(f"{entry}."))
            if inside and len(entry) > best_length:
                best, best_length = name, len(entry)
    return best


def violations(root: Path) -> list[str]:
    modules = modules_in(root)
    found = []
    for module, path in modules.items():
        name = layer_of(module)
        where = path.relative_to(root)
        if name is None:
            found.append(f"{where}: in no layer; give {module} a place in LAYERS of {__name__}")
            continue
        for item in imports_of(module, modules):
            if problem := problem_of(name, item.target):
                found.append(f"{where}:{item.line}: {problem}")
        if module in QUICK:
            found += [f"{where}: {problem}" for problem in slow_imports(module, modules)]
    return found


def problem_of(name: str, target: str) -> str | None:
    layer = LAYERS[name]
    top = target.partition(".")[0]
    if top not in PACKAGES:
        if top in sys.stdlib_module_names or top in layer.third_party.split():
            return None
        allowed = ", ".join(layer.third_party.split()) or "the standard library alone"
        return f"layer '{name}' may not import {target}; third party allowed: {allowed}"
    theirs = layer_of(target)
    if theirs == name:
        return None
    if theirs in layer.own.split():
        only = ONLY.get(layer.modules, {}).get(theirs)
        if only is None or target in only:
            return None
        return f"layer '{name}' may import of layer '{theirs}' only {', '.join(sorted(only))}"
    allowed = ", ".join(layer.own.split()) or "none"
    return f"layer '{name}' may not import {target} (layer '{theirs}'); layers allowed: {allowed}"


def slow_imports(start: str, modules: dict[str, Path]) -> list[str]:
    """What loading a module loads that `--help` should not wait for, each with one way there."""
    found: dict[str, str] = {}
    ways = {start: start}
    queue = [start]
    for module in queue:
        allowed = QUICK_DIRECT if module == start else QUICK_INDIRECT
        for item in imports_of(module, modules):
            if not item.at_load:
                continue
            top = item.target.partition(".")[0]
            way = f"{ways[module]} -> {item.target}"
            if top not in PACKAGES:
                if top not in sys.stdlib_module_names and top not in allowed:
                    message = f"loads {top} at once ({way}); import it inside the function"
                    found.setdefault(top, message)
                continue
            parts = item.target.split(".")
            for length in range(1, len(parts) + 1):  # the packages around it are loaded too
                loaded = ".".join(parts[:length])
                if loaded in modules and loaded not in ways:
                    ways[loaded] = way
                    queue.append(loaded)
    return list(found.values())


def registry_targets(source: str) -> list[str]:
    """Every 'module:attribute' of every `Registry(...)` in a source."""
    return [
        value.value
        for call in ast.walk(ast.parse(source))
        if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "Registry"
        for table in [*call.args, *(keyword.value for keyword in call.keywords)]
        if isinstance(table, ast.Dict)
        for value in table.values
        if isinstance(value, ast.Constant) and isinstance(value.value, str)
    ]


def is_defined(target: str, modules: dict[str, Path]) -> bool:
    module, _, attribute = target.partition(":")
    if module not in modules:
        return False
    names: set[str] = set()
    for node in ast.parse(modules[module].read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names |= {name.id for name in node.targets if isinstance(name, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
    return attribute in names


def too_long(root: Path) -> Iterator[str]:
    for folder in (*PACKAGES, "pipelines"):
        for path in sorted((root / folder).rglob("*.py")):
            source = path.read_text(encoding="utf-8")
            where = path.relative_to(root)
            num_lines = len(source.splitlines())
            if num_lines > MAX_FILE_LINES:
                yield f"{where}: {num_lines} lines; at most {MAX_FILE_LINES}"
            for node in ast.walk(ast.parse(source)):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    length = (node.end_lineno or node.lineno) - node.lineno + 1
                    if length > MAX_FUNCTION_LINES:
                        yield (
                            f"{where}:{node.lineno}: {node.name} has {length} lines; "
                            f"at most {MAX_FUNCTION_LINES}"
                        )


def private_names(path: Path, root: Path) -> Iterator[str]:
    """Every private name that a file takes from elsewhere: neither its own nor its base's."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    where = path.relative_to(root)
    own = names_defined(tree)
    for node in ast.walk(tree):
        for name in names_taken(node):
            if any(is_private(part) and part not in own for part in name.split(".")):
                exact = f"{where}: {name}"
                yield name if name in PRIVATE else exact


def names_defined(tree: ast.AST) -> set[str]:
    """Names that a file defines: functions, classes, variables, and attributes of `self`."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and is_self(node):
            names.add(node.attr)
    return names


def names_taken(node: ast.AST) -> list[str]:
    """Names that an import, an attribute or a name in a string takes from something else."""
    if isinstance(node, ast.ImportFrom):
        private = [alias.name for alias in node.names if is_private(alias.name)]
        return private or [node.module or ""]
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.Attribute) and not is_self(node):
        return ["os._exit" if ast.unparse(node) == "os._exit" else node.attr]
    if isinstance(node, ast.Call):
        function = getattr(node.func, "attr", getattr(node.func, "id", ""))
        if function in ("getattr", "setattr", "delattr", "hasattr"):
            values = [arg.value for arg in node.args[:2] if isinstance(arg, ast.Constant)]
            return [value for value in values if isinstance(value, str)]
    return []


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def is_self(node: ast.Attribute) -> bool:
    """Whether it is of the object or class itself, or of its base."""
    return ast.unparse(node.value) in ("self", "cls", "super()")


def all_private_names(root: Path) -> list[str]:
    folders = (*PACKAGES, "tests")
    paths = [path for folder in folders for path in sorted((root / folder).rglob("*.py"))]
    return [name for path in paths for name in private_names(path, root)]


def test_private_names_stay_private():
    assert set(all_private_names(ROOT)) == set(PRIVATE)


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("from vxp_data.core.b import _x", "_x"),
        ("from vxp_data._b import x", "vxp_data._b"),
        ("import vxp_data._b", "vxp_data._b"),
        ("import b\nb._x", "_x"),
        ("def f(patch):\n    patch.setattr(b, '_x', 1)", "_x"),
        ("def f(patch):\n    patch.setattr('vxp_data.b._x', 1)", "vxp_data.b._x"),
        ("class A:\n    def f(self, b):\n        self._b = b\n        return self._b._x", "_x"),
    ],
)
def test_a_private_name_of_another_is_found(tmp_path, source, name):
    tree(tmp_path, {"tests/test_a.py": source})
    assert all_private_names(tmp_path) == [f"tests/test_a.py: {name}"]


def test_own_private_names_pass(tmp_path):
    source = (
        "import os\n_X = 1\nclass A:\n    _y: int\n    def _f(self, other):\n"
        "        self._z = os.environ\n        return self._base + other._f(other._y) + other._z\n"
    )
    tree(tmp_path, {"vxp_data/core/a.py": source})
    assert all_private_names(tmp_path) == []


def test_imports_point_down_only():
    assert not (found := violations(ROOT)), "\n" + "\n".join(found)


@pytest.mark.parametrize(
    ("registry", "num_tables"), [("vxp_data/registry.py", 12), ("vxp_model/registry.py", 1)]
)
def test_registry_targets_exist(registry, num_tables):
    source = (ROOT / registry).read_text(encoding="utf-8")
    targets = registry_targets(source)
    assert source.count("Final = Registry(") == num_tables
    assert targets or registry == "vxp_model/registry.py"
    modules = modules_in(ROOT)
    assert [target for target in targets if not is_defined(target, modules)] == []


def test_functions_and_files_are_short():
    assert not (found := list(too_long(ROOT))), "\n" + "\n".join(found)


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, source in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
    return root


@pytest.mark.parametrize(
    ("file", "source", "message"),
    [
        ("vxp_data/core/a.py", "import torch", "'core' may not import torch"),
        (
            "vxp_data/core/a.py",
            "def f():\n    from vxp_data.settings import prune",
            "(layer 'settings')",
        ),
        ("vxp_data/core/a.py", "from ..settings.prune import X", "(layer 'settings')"),
        ("vxp_data/records.py", "import numpy.typing", "the standard library alone"),
        ("vxp_data/decoders/a.py", "from vxp_data.settings.prune import X", "(layer 'settings')"),
        ("vxp_data/decoders/a.py", "import vxp_data.encoders.base", "(layer 'encoders')"),
        ("vxp_data/storage/a.py", "from vxp_data.manifests import b", "(layer 'manifests')"),
        ("vxp_data/pipeline/a.py", "from vxp_data.cli import app", "(layer 'cli')"),
        ("vxp_data/report/a.py", "import vxp_data.pipeline.b", "(layer 'pipeline')"),
        ("vxp_data/core/a.py", "from importlib import import_module as i\nimport ray", "ray"),
        ("vxp_data/core/a.py", "import importlib\nimportlib.import_module('ray')", "a.py:2"),
        ("vxp_data/pipeline/a.py", "import vxp_model.cli", "(layer 'model-cli')"),
        ("vxp_model/train/a.py", "from vxp_data.core import b", "(layer 'core')"),
        ("vxp_model/modules/a.py", "import vxp_data.core.b", "(layer 'core')"),
        ("vxp_model/modules/a.py", "import transformers", "'modules' may not import transformers"),
        ("vxp_model/models/a.py", "import deepspeed", "'models' may not import deepspeed"),
        ("vxp_model/data/a.py", "import vxp_data.pipeline.b", "(layer 'pipeline')"),
        (
            "vxp_model/data/a.py",
            "import vxp_data.shipped_files",
            "only vxp_data.conversation, vxp_data.errors, vxp_data.extras, vxp_data.media_markers",
        ),
        ("vxp_model/registry.py", "import vxp_data.records", "only vxp_data.registry"),
        ("vxp_model/eval/benchmarks/a.py", "import torch", "'benchmarks' may not import torch"),
        ("vxp_model/eval/benchmarks/a.py", "import vxp_model.inference.b", "(layer 'inference')"),
        ("vxp_data/helpers.py", "", "in no layer"),
        ("vxp_data/cli.py", "import rich", "loads rich at once"),
    ],
)
def test_a_bad_import_is_found(tmp_path, file, source, message):
    root = tree(tmp_path, {"vxp_data/settings/prune.py": "", file: source})
    found = violations(root)
    assert len(found) == 1
    assert found[0].startswith(file)
    assert message in found[0]


def test_what_help_waits_for_is_found_through_other_modules(tmp_path):
    files = {
        "vxp_data/cli.py": "import typer\nfrom vxp_data.report import page",
        "vxp_data/report/__init__.py": "import pyarrow",
        "vxp_data/report/page.py": "import rich",
    }
    (found,) = violations(tree(tmp_path, files))
    assert "loads pyarrow at once (vxp_data.cli -> vxp_data.report.page -> pyarrow)" in found


def test_good_imports_pass(tmp_path):
    files = {
        "vxp_data/cli.py": "import typer\ndef f():\n    import rich, vxp_data.pipeline.a",
        "vxp_data/engines/ray/a.py": "import ray",
        "vxp_data/pipeline/a.py": "import pyarrow\nfrom vxp_data.decoders import b",
        "vxp_data/decoders/b.py": "import os, av\nfrom vxp_data.storage.digest import c",
        "vxp_model/data/a.py": "from vxp_data.shard_format import S\nimport vxp_data.core.plans",
    }
    assert violations(tree(tmp_path, files)) == []


def test_a_misspelt_registry_target_is_found(tmp_path):
    modules = modules_in(tree(tmp_path, {"vxp_data/core/a.py": "X: int = 1\ndef f(): ..."}))
    source = "T: Final = Registry('t', 't', {'x': 'vxp_data.core.a:X', 'y': 'vxp_data.core.a:g'})"
    targets = registry_targets(source)
    assert [is_defined(target, modules) for target in targets] == [True, False]
    assert not is_defined("vxp_data.core.b:X", modules)


def test_long_functions_and_files_are_found(tmp_path):
    body = "    x = 1\n"
    tree(
        tmp_path,
        {
            "vxp_data/a.py": f"def f():\n{body * MAX_FUNCTION_LINES}",
            "vxp_data/b.py": f"def f():\n{body * (MAX_FUNCTION_LINES - 1)}",
            "pipelines/c.py": "x = 1\n" * (MAX_FILE_LINES + 1),
            "pipelines/d.py": "x = 1\n" * MAX_FILE_LINES,
        },
    )
    assert list(too_long(tmp_path)) == [
        "vxp_data/a.py:1: f has 81 lines; at most 80",
        "pipelines/c.py: 401 lines; at most 400",
    ]
