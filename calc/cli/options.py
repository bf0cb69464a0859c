"""Options that verbs share: the same name means the same thing everywhere. Flags only build a scenario."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.shell_completion import CompletionItem

from calc.documents import Document
from calc.errors import CalcError, plain

if TYPE_CHECKING:
    from calc.scenario import Scenario

F = TypeVar("F", bound=Callable[..., Any])

Flags = dict[str, tuple[str, str, str]]
"""Flag -> path in the scenario, placeholder, help."""

DEVICE_FLAGS: Flags = {
    "--devices": ("devices", "N", "Devices used."),
    "--software": ("software", "NAME", "Framework or engine: generic, megatron-lm, fsdp, vllm, ..."),
    "--cluster": ("cluster", "NAME", "Node record; default the device's usual node."),
}
DEGREE_FLAGS: Flags = {
    "--tp": ("parallel.tensor", "N", "Tensor parallelism."),
    "--pp": ("parallel.pipeline", "N", "Pipeline parallelism."),
    "--ep": ("parallel.expert", "N", "Expert parallelism."),
    "--dp": ("parallel.data", "N", "Data parallelism (replicas)."),
    "--cp": ("parallel.context", "N", "Context parallelism."),
    "--etp": ("parallel.expert_tensor", "N", "Tensor parallelism inside an expert."),
}
MEMORY_FLAGS: Flags = {
    "--reserved": ("reserved", "BYTES", "Memory already in use on each device (2GiB)."),
    "--slice": ("slice", "PROFILE", "A slice (MIG profile) of the device in place of the whole."),
}
SCENARIO_FLAGS: Flags = {
    **DEVICE_FLAGS,
    "--weight-format": ("inference.weight_format", "NAME", "Format of the weights: bf16, fp8, q4_k_m, nf4, ..."),
    "--kv-format": ("inference.kv_format", "NAME", "Format of the KV cache: bf16, fp8, q8_0, ..."),
    "--context": ("inference.max_context", "TOKENS", "Tokens a sequence may reach (32k is 32768)."),
    "--batch": ("inference.batch_size", "N", "Sequences decoded together."),
    "--input": ("inference.input_length", "TOKENS", "Tokens of a prompt."),
    "--output": ("inference.output_length", "TOKENS", "Tokens generated."),
    **DEGREE_FLAGS,
    "--memory-utilization": ("inference.memory_utilization", "SHARE", "Share of the device the engine may take."),
    **MEMORY_FLAGS,
    "--gpu-layers": ("inference.gpu_layers", "N", "Layers kept on the device, the rest on the host."),
    "--cpu-moe-layers": ("inference.cpu_moe_layers", "N", "First layers whose experts stay on the host."),
    "--kv-budget": ("inference.kv_budget", "SHARE|N", "Share or number of tokens whose KV is kept."),
}
"""Flags of inference."""

TRAINING_SECTIONS: dict[str, Flags] = {
    "Plan": {
        **DEVICE_FLAGS,
        **DEGREE_FLAGS,
        "--sp/--no-sp": ("parallel.sequence", "", "Sequence parallelism in the tensor group; default on."),
        "--vpp": ("parallel.virtual_pipeline", "N", "Interleaved chunks per pipeline stage."),
        "--schedule": (
            "parallel.schedule",
            "NAME",
            "gpipe, 1f1b, interleaved, zero_bubble, zb-2p, zb-v, dualpipe, ...",
        ),
        "--zero": ("parallel.sharding", "0|1|2|3", "ZeRO stage (3 is FSDP's full shard); default the software's."),
        "--offload": ("parallel.offload", "WHAT,...", "Kept off the device: optimizer, parameters, activations."),
        "--offload-to": ("parallel.offload_to", "cpu|nvme", "Where that is kept."),
    },
    "Workload": {
        "--task": ("task", "NAME", "pretrain, finetune or infer; default what the other options mean."),
        "--seq": ("training.sequence_length", "TOKENS", "Tokens per sequence (8k is 8192)."),
        "--micro-batch": ("training.micro_batch_size", "N", "Sequences per forward pass of a replica."),
        "--global-batch": ("training.global_batch_size", "N", "Sequences per optimizer step."),
        "--tokens": ("training.tokens", "N", "Tokens of the whole run (15T)."),
        "--precision": ("training.precision", "NAME", "Matrix multiplications in bf16, fp16, fp8, mxfp8, nvfp4, ..."),
        "--recipe": ("training.recipe", "NAME", "What is stored of a weight: mixed, fp32-gradients, autocast, ..."),
        "--optimizer": ("training.optimizer", "NAME", "adamw, adamw-8bit, adafactor, lion, muon, ..."),
        "--recompute": ("training.recompute", "MODE", "none, selective, full, or modules: core_attn,mlp,..."),
        "--kernels": ("training.kernels", "NAME", "fused or eager; default the software's."),
        "--logits": ("training.loss", "NAME", "What logits and loss keep: full, fused or chunked."),
    },
    "Fine-tuning": {
        "--adapter": ("training.adapter.kind", "KIND", "lora, rslora, dora, qlora, nola, half, ...; default lora."),
        "--lora-rank": ("training.adapter.rank", "N", "Rank of the adapter."),
        "--lora-targets": ("training.adapter.targets", "NAMES", "Adapted matrices: q,k,v,o,... or all-linear."),
        "--base-format": ("training.base_format", "NAME", "Format of frozen weights: nf4, nf4-dq (QLoRA's), ..."),
    },
    "Run": {
        "--price": ("cost.price", "DOLLARS", "Price of a device-hour; default the hardware record's."),
        "--pue": ("cost.pue", "X", "Power of the site per power of its computers."),
        "--carbon": ("cost.carbon_intensity", "KG", "CO2 per kWh."),
        "--mtbf": ("reliability.mtbf", "TIME", "Mean time between failures of one device (5y)."),
    },
    "Memory": MEMORY_FLAGS,
}
"""Flags of training, by the part of the help that they stand in."""
TRAINING_FLAGS: Flags = {flag: row for flags in TRAINING_SECTIONS.values() for flag, row in flags.items()}
ALL_FLAGS: Flags = {**SCENARIO_FLAGS, **TRAINING_FLAGS}
ZERO_STAGES = {"0": "none", "1": "zero1", "2": "zero2", "3": "zero3"}
LISTS = ("--recompute", "--offload", "--lora-targets")
"""Flags that take several words, joined by commas."""

COMMAND_LINE = "command line"
"""Name of the document that flags describe."""
OUTPUT_FORMATS = ("table", "json", "csv", "markdown")


def parameter_name(flag: str) -> str:
    """The function parameter that click gives a flag's value to."""
    return flag.partition("/")[0].strip("-").replace("-", "_")


class Sectioned(click.Command):
    """A command whose help lists the flags of training by what they are about."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Sections of flags, then all others."""
        options = [param for param in self.get_params(ctx) if isinstance(param, click.Option)]
        records = {option.name: record for option in options if (record := option.get_help_record(ctx))}
        for title, flags in TRAINING_SECTIONS.items():
            rows = [record for flag in flags if (record := records.pop(parameter_name(flag), None))]
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)
        with formatter.section("Options"):
            formatter.write_dl(list(records.values()))


def with_flags(function: F, flags: Flags) -> F:
    """Some flags, and `--set` for all other keys."""
    completers = {"--software": complete_software, "--cluster": complete_cluster, "--weight-format": complete_format,
                  "--kv-format": complete_format, "--base-format": complete_format, "--optimizer": complete_optimizer,
                  "--recipe": complete_recipe}  # fmt: skip
    function = click.option("--set", "settings", multiple=True, metavar="KEY=VALUE",
                            help="Any scenario key by its path: inference.output_length=512.")(function)  # fmt: skip
    function = click.option("--text-only", is_flag=True, help="Leave vision and audio towers out.")(function)
    for flag, (_path, metavar, text) in reversed(flags.items()):
        kind = click.Choice(list(ZERO_STAGES)) if flag == "--zero" else None
        if "/" in flag:
            function = click.option(flag, parameter_name(flag), default=None, help=text)(function)
        else:
            function = click.option(flag, metavar=metavar, help=text, type=kind,
                                    shell_complete=completers.get(flag))(function)  # fmt: skip
    return function


def scenario_options(function: F) -> F:
    """All flags that describe a scenario of inference."""
    return with_flags(function, SCENARIO_FLAGS)


def training_options(function: F) -> F:
    """All flags that describe a scenario of training."""
    return with_flags(function, TRAINING_FLAGS)


def any_scenario_options(function: F) -> F:
    """The flags of inference and of training."""
    return with_flags(function, ALL_FLAGS)


def overlay_option(function: F) -> F:
    """Whose calibration is used."""
    return click.option("--overlay", metavar="FILE", type=click.Path(dir_okay=False),
                        help="Constants of your own (llm-calc calibrate).")(function)  # fmt: skip


def calibrated(scenario: Scenario, overlay: str | None) -> Scenario:
    """A scenario with the constants of an overlay file in place of those that ship."""
    if overlay is None:
        return scenario
    from calc.overlay import load_overlay

    return load_overlay(overlay).on(scenario)


def save_option(function: F) -> F:
    """Where the scenario is written."""
    return click.option("--save", metavar="FILE", type=click.Path(dir_okay=False),
                        help="Write the scenario to a file.")(function)  # fmt: skip


def output_options(function: F) -> F:
    """How the answer is written."""
    function = click.option("-o", "--output-file", type=click.Path(dir_okay=False, writable=True),
                            help="Write the answer to a file.")(function)  # fmt: skip
    function = click.option("--units", type=click.Choice(["GiB", "GB"]), default="GiB", show_default=True,
                            help="Binary or decimal units in tables.")(function)  # fmt: skip
    return click.option("--format", "form", type=click.Choice(OUTPUT_FORMATS), default="table", show_default=True,
                        help="How the answer is written.")(function)  # fmt: skip


def scenario_document(model: str, hardware: str, flags: dict[str, Any], task: str = "infer") -> Document:
    """The scenario document that flags describe; errors in it name the flag."""
    data: dict[str, Any] = {"schema": 1, "task": task, "model": model, "hardware": hardware}
    document = Document(data, COMMAND_LINE, labels={("model",): "MODEL", ("hardware",): "HARDWARE"})
    put_flags(document, flags)
    return document


def put_flags(document: Document, flags: dict[str, Any]) -> None:
    """What flags say, put into a document in place of what it says."""
    data, labels = document.data, document.labels
    for flag, (path, _metavar, _help) in ALL_FLAGS.items():
        value = flags.get(parameter_name(flag))
        if value is not None:
            place(data, path, _written(flag, value))
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


def _written(flag: str, value: Any) -> Any:
    """A flag's value as a scenario file has it."""
    if flag == "--zero":
        return ZERO_STAGES[value]
    if flag in LISTS and "," in value:
        return [word.strip() for word in value.split(",")]
    return value


def training_document(model: str, hardware: str, flags: dict[str, Any]) -> Document:
    """The training scenario that flags describe: fine-tuning where they name an adapter or a format of frozen weights,
    which needs one."""
    document = scenario_document(model, hardware, flags, "pretrain")
    complete_training(document, flags)
    return document


def complete_training(document: Document, flags: dict[str, Any]) -> None:
    """Task and kind of adapter, where flags leave them open."""
    training = document.data.get("training")
    if not isinstance(training, dict):
        return
    if training.get("base_format") is not None and training.get("adapter") is None:
        training["adapter"] = {}
    adapter = training.get("adapter")
    if isinstance(adapter, dict):
        adapter.setdefault("kind", "lora")
        if flags.get("task") is None and document.data.get("task") == "pretrain":
            document.data["task"] = "finetune"


def in_flags(error: CalcError, document: Document) -> CalcError:
    """An error about what flags say, its scenario keys as the flags that set them."""
    if document.name != COMMAND_LINE:
        return error if error.where else type(error)(error.message, document.place())
    message = error.message.replace("; devices could be", "; --devices could be")
    where = error.where or ("--adapter" if message.startswith("unknown adapter kind") else "")
    for flag, (path, _metavar, _help) in ALL_FLAGS.items():
        if "." in path:
            message = re.sub(rf"(?<![\w.]){re.escape(path)}(?![\w.]\w)", flag.partition("/")[0], message)
    return type(error)(message, where)


def save(documents: Sequence[Document], path: str) -> None:
    """Scenarios as a file that `report` reads, one document each."""
    import yaml

    write(yaml.safe_dump_all([document.data for document in documents], sort_keys=False).rstrip(), path)


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


def complete_optimizer(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Optimizer names."""
    from calc import load

    return _items(load.optimizer_names(), incomplete)


def complete_recipe(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of precision recipes."""
    from calc import load

    return _items(load.recipe_names(), incomplete)
