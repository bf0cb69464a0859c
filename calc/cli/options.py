"""Options that verbs share: the same name means the same thing everywhere. Flags only build a scenario."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from calc.documents import Document
from calc.errors import CalcError, plain

F = TypeVar("F", bound=Callable[..., Any])

SCENARIO_FLAGS: dict[str, tuple[str, str, str]] = {
    "--devices": ("devices", "N", "Devices used."),
    "--software": ("software", "NAME", "Engine profile: generic, vllm, llama.cpp, ..."),
    "--cluster": ("cluster", "NAME", "Node record; default the device's usual node."),
    "--weight-format": ("inference.weight_format", "NAME", "Format of the weights: bf16, fp8, q4_k_m, nf4, ..."),
    "--kv-format": ("inference.kv_format", "NAME", "Format of the KV cache: bf16, fp8, q8_0, ..."),
    "--context": ("inference.max_context", "TOKENS", "Tokens a sequence may reach (32k is 32768)."),
    "--batch": ("inference.batch_size", "N", "Sequences decoded together."),
    "--input": ("inference.input_length", "TOKENS", "Tokens of a prompt."),
    "--output": ("inference.output_length", "TOKENS", "Tokens generated."),
    "--tp": ("parallel.tensor", "N", "Tensor parallelism."),
    "--pp": ("parallel.pipeline", "N", "Pipeline parallelism."),
    "--ep": ("parallel.expert", "N", "Expert parallelism."),
    "--dp": ("parallel.data", "N", "Data parallelism (replicas)."),
    "--cp": ("parallel.context", "N", "Context parallelism."),
    "--etp": ("parallel.expert_tensor", "N", "Tensor parallelism inside an expert."),
    "--memory-utilization": ("inference.memory_utilization", "SHARE", "Share of the device the engine may take."),
    "--reserved": ("reserved", "BYTES", "Memory already in use on each device (2GiB)."),
    "--slice": ("slice", "PROFILE", "A slice (MIG profile) of the device in place of the whole."),
    "--gpu-layers": ("inference.gpu_layers", "N", "Layers kept on the device, the rest on the host."),
    "--cpu-moe-layers": ("inference.cpu_moe_layers", "N", "First layers whose experts stay on the host."),
    "--kv-budget": ("inference.kv_budget", "SHARE|N", "Share or number of tokens whose KV is kept."),
}
"""Flag -> path in the scenario, placeholder, help."""

OUTPUT_FORMATS = ("table", "json", "csv", "markdown")


def parameter_name(flag: str) -> str:
    """The function parameter that click gives a flag's value to."""
    return flag.strip("-").replace("-", "_")


def scenario_options(function: F) -> F:
    """All flags that describe a scenario."""
    function = click.option("--set", "settings", multiple=True, metavar="KEY=VALUE",
                            help="Any scenario key by its path: inference.output_length=512.")(function)  # fmt: skip
    function = click.option("--text-only", is_flag=True, help="Leave vision and audio towers out.")(function)
    for flag, (_path, metavar, text) in reversed(SCENARIO_FLAGS.items()):
        completer = {"--software": complete_software, "--cluster": complete_cluster,
                     "--weight-format": complete_format, "--kv-format": complete_format}.get(flag)  # fmt: skip
        function = click.option(flag, metavar=metavar, help=text, shell_complete=completer)(function)
    return function


def output_options(function: F) -> F:
    """How the answer is written."""
    function = click.option("-o", "--output-file", type=click.Path(dir_okay=False, writable=True),
                            help="Write the answer to a file.")(function)  # fmt: skip
    function = click.option("--units", type=click.Choice(["GiB", "GB"]), default="GiB", show_default=True,
                            help="Binary or decimal units in tables.")(function)  # fmt: skip
    return click.option("--format", "form", type=click.Choice(OUTPUT_FORMATS), default="table", show_default=True,
                        help="How the answer is written.")(function)  # fmt: skip


def scenario_document(model: str, hardware: str, flags: dict[str, Any]) -> Document:
    """The scenario document that flags describe; errors in it name the flag."""
    data: dict[str, Any] = {"schema": 1, "task": "infer", "model": model, "hardware": hardware}
    labels: dict[tuple[str, ...], str] = {("model",): "MODEL", ("hardware",): "HARDWARE"}
    for flag, (path, _metavar, _help) in SCENARIO_FLAGS.items():
        value = flags.get(parameter_name(flag))
        if value is not None:
            place(data, path, value)
            labels[tuple(path.split("."))] = flag
    if flags.get("text_only"):
        data["text_only"] = True
    for setting in flags.get("settings", ()):
        name, equals, text = setting.partition("=")
        if not equals or not name:
            raise CalcError(
                "expected KEY=VALUE, for example inference.output_length=512", f"--set {plain(setting[:60])}"
            )
        place(data, name, parsed(text))
        labels[tuple(name.split("."))] = f"--set {plain(name[:60])}"
    return Document(data, "command line", labels=labels)


def place(data: dict[str, Any], path: str, value: Any) -> None:
    """Put a value at a dotted path, making the mappings on the way."""
    *outer, last = path.split(".")
    for step in outer:
        inner = data.setdefault(step, {})
        if not isinstance(inner, dict):
            raise CalcError(f"{step} holds a value, so it can't have {last}", f"--set {plain(path[:60])}")
        data = inner
    data[last] = value


def parsed(text: str) -> Any:
    """A value as YAML reads it."""
    from calc.documents import load_yaml

    documents = load_yaml(text, "--set")
    return documents[0].data if documents else None


def write(text: str, output_file: str | None) -> None:
    """The answer, to a file or to standard output."""
    if output_file is None:
        click.echo(text)
        return
    try:
        with open(output_file, "w", encoding="utf-8") as file:
            file.write(text + "\n")
    except OSError as error:
        raise CalcError(f"can't write it: {error.strerror}", output_file) from None


def told(name: str, error: CalcError) -> dict[str, Any]:
    """One of several inputs was wrong: said at once on standard error, and the object that stands for its answer."""
    message = " ".join(str(error).split())
    click.echo(f"Error: {message}", err=True)
    return {"name": name, "error": message}


def _items(names: list[str], incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(name) for name in names if name.startswith(incomplete.lower())]


def complete_model(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Model names, then files."""
    from calc import load

    return _items(load.names("models"), incomplete) or [CompletionItem(incomplete, type="file")]


def complete_hardware(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Device names, then files."""
    from calc import load

    return _items(load.names("hardware"), incomplete) or [CompletionItem(incomplete, type="file")]


def complete_cluster(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Node names."""
    from calc import load

    return _items(load.names("clusters"), incomplete)


def complete_software(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Engine names."""
    from calc import load

    return _items(load.software_names(), incomplete)


def complete_format(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Format names."""
    from calc.specs.formats import format_names

    return _items(format_names(), incomplete)
