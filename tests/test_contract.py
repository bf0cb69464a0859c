"""What others rely on: keys and names of the contract, what every part and every model of the catalogue declares."""

import importlib
import inspect
import pkgutil
from dataclasses import fields, is_dataclass, replace
from functools import lru_cache

import pytest
from click import Option
from strategies import FULL, NOTHING, PATHS, device, document, node, scenario, software

import calc.architecture
from calc import load, scenario_file
from calc.architecture.part import Part
from calc.cli.app import VERBS, app
from calc.errors import LayoutError
from calc.formulas.kv_cache import cached_tokens
from calc.formulas.parameters import parameters
from calc.formulas.sharding import shard
from calc.importers.hf_config import read_config
from calc.memory import InferenceMemory, deploy
from calc.specs.format_records import ROLES
from calc.specs.plan import Layout, Parallel
from calc.specs.run import Cost, Reliability
from calc.specs.workload import Inference, Training

# keys and names


@pytest.mark.parametrize(
    ("section", "spec"),
    [
        ("parallel", Parallel),
        ("inference", Inference),
        ("training", Training),
        ("cost", Cost),
        ("reliability", Reliability),
    ],
)
def test_the_contracts_keys_are_the_specs_fields(section, spec):
    assert set(FULL[section]) == {field.name for field in fields(spec)}


def test_top_level_keys():
    assert set(FULL) == set(scenario_file.TOP_KEYS)
    assert ("training", "adapter", "rank") in PATHS


OPTIONS = [
    "--devices",
    "--tp",
    "--pp",
    "--cp",
    "--ep",
    "--dp",
    "--etp",
    "--cluster",
    "--reserved",
    "--units",
    "--weight-format",
    "--kv-format",
    "--context",
    "--batch",
    "--input",
    "--output",
    "--software",
    "--set",
    "--format",
    "-o",
    "--output-file",
]
"""The contract's option names, those that inference takes."""


TRAINING_OPTIONS = [
    "--devices", "--tp", "--pp", "--cp", "--ep", "--dp", "--vpp", "--zero", "--schedule", "--seq", "--micro-batch",
    "--global-batch", "--tokens", "--sp", "--etp", "--cluster", "--precision", "--recipe", "--optimizer", "--recompute",
    "--reserved", "--units", "--lora-rank", "--base-format", "--offload", "--offload-to", "--software", "--task",
    "--set", "--format", "-o", "--output-file", "--price",
]  # fmt: skip
"""Those that training takes."""


@pytest.mark.parametrize("verb", ["train", "explain"])
def test_option_names_of_training(verb):
    command = app.get_command(None, verb)
    names = {name for option in command.params if isinstance(option, Option) for name in option.opts}
    assert set(TRAINING_OPTIONS) <= names
    if verb == "train":
        assert "--save" in names


@pytest.mark.parametrize("verb", ["fit", "explain"])
def test_option_names(verb):
    command = app.get_command(None, verb)
    names = {name for option in command.params if isinstance(option, Option) for name in option.opts}
    assert set(OPTIONS) <= names
    if verb == "fit":
        assert {"--save", "--top"} <= names


def test_the_same_option_means_the_same_on_every_verb():
    seen = {}
    for verb in VERBS:
        for option in app.get_command(None, verb).params:
            if isinstance(option, Option):
                for name in option.opts:
                    meaning = (option.help, option.metavar, option.is_flag)
                    assert seen.setdefault(name, meaning) == meaning, f"{verb} {name}"


# parts


def part_classes():
    for module in pkgutil.iter_modules(calc.architecture.__path__):
        for kind in vars(importlib.import_module(f"calc.architecture.{module.name}")).values():
            if (
                inspect.isclass(kind)
                and issubclass(kind, Part)
                and kind is not Part
                and kind.__module__.endswith(module.name)
            ):
                yield kind


CLASSES = sorted(set(part_classes()), key=lambda kind: kind.__name__)
UNCOMMON = (
    {"model_type": "jetmoe", "hidden_size": 2048, "num_hidden_layers": 2, "num_key_value_heads": 16, "kv_channels": 128,
     "intermediate_size": 5632, "num_local_experts": 8, "num_experts_per_tok": 2, "vocab_size": 32000},
    {"model_type": "rwkv", "hidden_size": 768, "num_hidden_layers": 2, "vocab_size": 50277},
)  # fmt: skip
"""Configurations with parts that no model of the catalogue has."""


@lru_cache(maxsize=1)
def catalogue():
    return {name: load.model(name) for name in load.names("models")}


@lru_cache(maxsize=1)
def instances():
    """Distinct parts of all models, by class."""
    found = {}
    others = [read_config(document(config, "config.json"), config["model_type"]) for config in UNCOMMON]
    for model in [*catalogue().values(), *others]:
        for stack in model.stacks:
            for part in (*stack.before, *stack.after, *(part for run in stack.runs for part in run.layer.parts)):
                found.setdefault(type(part), {})[part] = None
    return {kind: list(parts) for kind, parts in found.items()}


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_a_part_declares_what_formulas_need(kind):
    assert is_dataclass(kind)
    assert kind.__dataclass_params__.frozen
    assert "__slots__" in kind.__dict__
    assert all(field.kw_only for field in fields(kind)), "keyword-only"
    assert kind.__doc__
    assert kind.group in {"attention", "feed_forward", "experts", "embedding", "head", "norms", "recurrent", "other",
                          "shared",
                          "patches"}  # fmt: skip
    parts = instances().get(kind, [])
    assert parts, "no model of the catalogue has it: add one, or a configuration to UNCOMMON"
    for part in parts:
        names = [(weight.name, weight.role, weight.inputs, weight.outputs) for weight in part.weights()]
        assert names or part.cache() or part.saved(), part
        assert part.weights() == part.weights(), "the same answer each time"
        assert part.width() >= 0
        for weight in part.weights():
            assert weight.name
            assert weight.role in ROLES
            assert weight.inputs >= 1
            assert weight.outputs >= 1
            assert weight.copies >= 1
            assert 0 <= weight.used <= weight.copies
            assert weight.elements == weight.copies * weight.outputs * (weight.inputs + weight.bias) > 0
            if weight.units:
                size = weight.outputs if weight.split == "column" else weight.inputs
                assert weight.split != "replicated"
                assert size % weight.units == 0, f"{part}: {weight}"
        for cache in part.cache():
            assert cache.name
            assert cache.heads >= 1
            assert cache.width >= 1
            assert cache.stride >= 1
            assert cache.window is None or cache.window >= 1
            entries = [cached_tokens(tokens, cache.window, cache.stride) for tokens in (cache.stride, 8 * cache.stride)]
            assert entries == [1, 8] or cache.window


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_shards_of_a_part_cover_it(kind):
    for part in instances()[kind]:
        for weight in part.weights():
            for tensor in (2, 4, 8, 3):
                inputs, outputs, copies = shard(weight, Layout(tensor=tensor, expert_tensor=tensor))
                whole = weight.inputs * weight.outputs * weight.copies
                held = inputs * outputs * copies * tensor
                assert held >= whole, (part, weight)
                if weight.split == "replicated":
                    assert held == whole * tensor
                else:
                    units = weight.units or (weight.outputs if weight.split == "column" else weight.inputs)
                    assert held <= whole * -(-units // tensor) * tensor / units, "no more than whole pieces"


def test_classes_are_final():
    for kind in CLASSES:
        subclasses = [other for other in kind.__subclasses__() if other.__name__ != kind.__name__]
        assert not subclasses, f"{kind.__name__} is subclassed"


# every model of the catalogue


def test_every_model_fits_somewhere_and_its_terms_add_up():
    """Deployed on one huge device and over a node: the weights are what the parameters say."""
    engine = software(slack=NOTHING)
    wrong = []
    for name, model in catalogue().items():
        plain = replace(model, weight_format=None, unquantized=())
        alone = InferenceMemory(deploy(scenario(plain, software=engine, weight_format="bf16"))[0])
        here = alone.at(1024, 1)
        if here.weights.value != 2 * parameters(model).total:
            wrong.append((name, here.weights.value, 2 * parameters(model).total))
        try:
            wide = InferenceMemory(deploy(scenario(plain, software=engine, weight_format="bf16", devices=8))[0])
        except LayoutError as error:
            assert "layers" in str(error), f"{name}: {error}"
            continue
        shared = wide.at(1024, 1)
        assert here.weights.value / 8 <= shared.weights.value <= here.weights.value, name
        assert shared.kv_cache.value <= here.kv_cache.value, name
    assert not wrong, wrong[:5]


def test_every_model_is_stored_in_every_kind_of_format():
    card = device(1e13, peak={"bf16": 1e15, "fp8": 2e15})
    for name, model in list(catalogue().items())[::9]:
        sizes = {}
        for form in ("bf16", "fp8", "nf4", "gptq-4bit-g128", "q4_k_m", "q8_0"):
            asked = scenario(
                replace(model, unquantized=()), hardware=card, cluster=node(), weight_format=form, software=software()
            )
            sizes[form] = InferenceMemory(deploy(asked)[0]).at(128, 1).weights.value
        assert sizes["nf4"] <= sizes["fp8"] <= sizes["bf16"], name
        assert sizes["q4_k_m"] <= sizes["q8_0"] <= sizes["bf16"], name
