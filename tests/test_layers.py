"""Data flows one way: the imports are read and compared with the layers of the design."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FILES = [ROOT / "app.py", *sorted((ROOT / "lily").rglob("*.py"))]

# Rooms in the order of their dependencies: a module imports only from its own room and from rooms
# of a lower layer. The room of a module is the first name below lily.
LAYERS = (
    ("errors", "version"),
    ("config",),
    ("audio",),
    ("dsp",),
    ("bandwidth",),
    ("diffusion",),
    ("model",),
    ("checkpoints",),
    ("certify",),
    ("inference",),
    ("lily",),  # lily/__init__.py: the public names
    ("training",),
    ("evaluation",),
    ("batch", "publish"),
    ("cli", "ui"),
    ("__main__", "app"),
)

# Who may import an outside library: files, or folders that end in a slash.
IMPORTERS = {
    "gradio": {"app.py", "lily/ui/"},
    "ray": {"lily/batch/cluster.py"},
    "fsspec": {"lily/batch/storage.py"},
    "yaml": {"lily/config/presets.py"},
    "pydantic": {"lily/config/", "lily/certify/metadata.py"},
    "spaces": {"lily/inference/zerogpu.py"},
    "huggingface_hub": {
        "lily/checkpoints/hub.py",
        "lily/publish/model_card.py",
        "lily/publish/upload.py",
    },
    "safetensors": {
        "lily/checkpoints/files.py",
        "lily/checkpoints/model_folder.py",
        "lily/checkpoints/reader.py",
    },
    "soundfile": {
        "lily/audio/libsndfile.py",
        "lily/dsp/codec.py",
        "lily/audio/mix.py",
        "lily/audio/write.py",
    },
    "av": {
        "lily/audio/encode.py",
        "lily/audio/ffmpeg.py",
        "lily/audio/frames.py",
        "lily/audio/tags.py",
        "lily/dsp/degrade.py",
    },
    "zimtohrli": {"lily/evaluation/judges.py"},
    "visqol": {"lily/evaluation/judges.py"},
    "diffusers": set(),  # the tests hold the samplers to it; importing it takes seconds
}
FILE_LINES = 340
FUNCTION_LINES = 60


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def room_of(module: str) -> str:
    """The room of a dotted module: lily.dsp.mel is in dsp; lily itself is in lily."""
    parts = module.split(".")
    return "lily" if parts == ["lily"] else parts[0] if parts[0] != "lily" else parts[1]


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def layer_of(room: str) -> int:
    found = [layer for layer, rooms in enumerate(LAYERS) if room in rooms]
    assert found, f"lily/{room} has no layer: add it to LAYERS where it belongs"
    return found[0]


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=name_of(path))


def imported(path: Path) -> Iterator[str]:
    """Every dotted module a file imports, wherever in the file."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{name_of(path)}: relative import; write the whole name"
            assert node.module
            if node.module != "lily":
                yield node.module
                continue
            for alias in node.names:  # `from lily import config` imports lily.config.presets
                is_module = any((ROOT / "lily").glob(f"{alias.name}*"))
                yield f"lily.{alias.name}" if is_module else "lily"


@pytest.fixture(params=FILES, ids=name_of)
def path(request) -> Path:
    return request.param


def test_a_module_imports_only_from_lower_layers_and_its_own_room(path):
    room = room_of(module_of(path))
    layer = layer_of(room)
    for module in imported(path):
        if module.split(".")[0] != "lily":
            continue
        other = room_of(module)
        allowed = other == room or layer_of(other) < layer
        assert allowed, f"{name_of(path)} (layer {layer}) imports {module} ({layer_of(other)})"


def test_outside_libraries_have_their_one_importer(path):
    for module in imported(path):
        places = IMPORTERS.get(module.split(".")[0])
        allowed = places is None or any(
            name_of(path) == place or (place.endswith("/") and name_of(path).startswith(place))
            for place in places
        )
        assert allowed, f"{name_of(path)} imports {module}; only {sorted(places)} may"


def test_no_print_outside_the_command_line(path):
    if name_of(path).startswith("lily/cli/"):
        return
    calls = [
        node.lineno
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "print"
    ]
    assert not calls, f"{name_of(path)} prints in lines {calls}; raise, log or yield instead"


def test_files_and_functions_stay_short(path):
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= FILE_LINES, f"{name_of(path)} has {lines} lines"
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= FUNCTION_LINES, f"{name_of(path)}: {node.name} has {length} lines"


def test_every_module_says_what_it_decides(path):
    assert ast.get_docstring(tree_of(path)), f"{name_of(path)} has no docstring"


def test_no_exception_is_swallowed(path):
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.ExceptHandler):
            silent = all(isinstance(line, ast.Pass) for line in node.body)
            assert node.type is not None, f"{name_of(path)}:{node.lineno}: bare except"
            assert not silent, f"{name_of(path)}:{node.lineno}: swallowed exception"


def test_nobody_seeds_the_global_generators(path):
    tree = tree_of(path)
    forked = {  # initial weights have no other source; inside fork_rng nobody else notices
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.With) and "fork_rng" in ast.unparse(node.items[0])
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            call = ast.unparse(node.func)
            seeds = call in {"torch.manual_seed", "random.seed", "np.random.seed"}
            allowed = not seeds or id(node) in forked
            assert allowed, f"{name_of(path)}:{node.lineno}: {call}; pass a torch.Generator"


def test_the_reader_of_imports_sees_what_it_should():
    seen = set(imported(Path(__file__)))
    assert {"ast", "pathlib", "pytest"} <= seen
    assert room_of("lily.dsp.mel") == "dsp"
    assert room_of("lily") == "lily"
    assert room_of("app") == "app"
    assert len(FILES) > 20
