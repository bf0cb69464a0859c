"""Fine-tuning with less than all parameters: what is added, what is trained, what stays frozen and how it is stored."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from calc.architecture.attention import Attention
from calc.architecture.model import Model, weights_of
from calc.architecture.part import Part, Weight
from calc.errors import unknown
from calc.formulas.states import optimizer_state_bytes
from calc.specs.optimizer import Optimizer
from calc.specs.recipe import Recipe
from calc.xp import Number

ALL_LINEAR = "all-linear"
NOLA_BASES = 128
"""Random bases per factor: the default of NOLA's code (`nola_num_basis`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterKind:
    """A way of fine-tuning. Low-rank ones add parameters to frozen weights; the others train a share of the weights."""

    name: str
    title: str
    adds: bool = True
    """Whether it adds parameters; False where it trains some of the model's own."""
    base_format: str | None = None
    """Format of frozen matrices where the workload names none; None is the precision's own."""
    share: float = 1.0
    """Share of each weight that is trained, where nothing is added and the workload names none."""
    note: str = ""
    """What it holds beside, in words."""
    source: str = ""

    @property
    def freezes_base(self) -> bool:
        """Whether the model's own weights keep neither gradient nor optimizer states."""
        return self.adds


ADAPTER_KINDS = {kind.name: kind for kind in (
    AdapterKind(name="lora", title="LoRA", source="Hu et al. 2021, arXiv 2106.09685"),
    AdapterKind(name="rslora", title="rank-stabilized LoRA: LoRA with another scale",
           source="Kalajdzievski 2023, arXiv 2312.03732"),
    AdapterKind(name="dora", title="DoRA: LoRA and a magnitude per output", source="Liu et al. 2024, arXiv 2402.09353",
           note="a temporary of each adapted weight's size, for its norm"),
    AdapterKind(name="qlora", title="QLoRA: LoRA on a base in NF4 with double quantization", base_format="nf4-dq",
           source="Dettmers et al. 2023, arXiv 2305.14314"),
    AdapterKind(name="vera", title="VeRA: two trained vectors per weight, random matrices shared by all layers",
           source="Kopiczko et al. 2023, arXiv 2310.11454; PEFT tuners/vera"),
    AdapterKind(name="nola", title="NOLA: coefficients of random bases of the low-rank factors",
           note="bases are made again from a seed in each pass, a factor's at a time",
           source="Koohpayegani et al. 2023, arXiv 2310.02556; UCDvision/NOLA llama/peft/tuners/lora.py"),
    AdapterKind(name="lr-qat", title="LR-QAT: low-rank factors inside the rounding, base in 8-bit fixed point",
           base_format="int8", note="a scale per output is trained with the factors",
           source="Bondarenko et al. 2024, arXiv 2406.06385, section 3"),
    AdapterKind(name="hft", title="half fine-tuning: half of the parameters of each block train", adds=False, share=0.5,
           source="Hui et al. 2024, arXiv 2404.18466, section 3"),
    AdapterKind(name="sparse", title="sparse fine-tuning: the elements of a mask train", adds=False, share=0.005,
           note="an index of 4 bytes for each trained element",
           source="Ansell et al. 2022, arXiv 2110.07560; 2024, arXiv 2401.16405 (indices of the trained elements)"),
)}  # fmt: skip

ALIASES = {"rs-lora": "rslora", "q-lora": "qlora", "lrqat": "lr-qat", "half": "hft", "sft-sparse": "sparse"}

MATRICES = ("linear", "expert")
"""Roles that adapters are put on."""
QKV = frozenset("qkv")
"""Queries, keys and values: one matrix in some checkpoints."""

TARGETS = {
    "q": ("q", "q_a", "q_b"),
    "k": ("k", "kv", "kv_a", "kv_b"),
    "v": ("v", "kv", "kv_a", "kv_b"),
    "qkv": ("q", "k", "v"),
    "gate": ("gate", "shared_gate_proj"),
    "up": ("up", "shared_up"),
    "down": ("down", "shared_down"),
    "o": ("o", "o_a", "o_b"),
}
"""Which weights a target of a scenario means: the weight of that name, its pieces where it is factored (latent
attention), and that of the shared experts. Other names mean the weight of that name alone."""

SPELLINGS = {
    "query": "q", "key": "k", "value": "v", "out": "o", "dense": "o", "out_proj": "o", "fc1": "up", "fc2": "down",
    "fc_in": "up", "fc_out": "down", "w1": "gate", "w2": "down", "w3": "up", "query_key_value": "qkv",
    "c_attn": "qkv", "wqkv": "qkv", "c_fc": "up", "dense_h_to_4h": "up", "dense_4h_to_h": "down",
}  # fmt: skip
"""Names that checkpoints (and so PEFT) give the same matrices."""


def adapter_kind(name: str) -> AdapterKind:
    """The way of fine-tuning that `training.adapter.kind` names.

    Raises
    ------
    UnknownNameError
        No kind has the name; the nearest are named.

    Examples
    --------
    >>> adapter_kind("QLoRA").base_format
    'nf4-dq'
    """
    wanted = name.strip().lower().replace("_", "-")
    found = ADAPTER_KINDS.get(ALIASES.get(wanted, wanted))
    if found is None:
        raise unknown("adapter kind", name, ADAPTER_KINDS, other=ALIASES)
    return found


def targets(names: Iterable[str]) -> frozenset[str]:
    """Weight names that the targets of a scenario mean; the spellings of checkpoints (`q_proj`) are taken too.

    Examples
    --------
    >>> sorted(targets(["q_proj", "v"]))
    ['kv', 'kv_a', 'kv_b', 'q', 'q_a', 'q_b', 'q_proj', 'v']
    """
    return _targets(tuple(names))


@lru_cache(maxsize=64)
def _targets(names: tuple[str, ...]) -> frozenset[str]:
    found: set[str] = set()
    for text in names:
        name = text.strip().lower().removesuffix(".weight")
        if name.replace("_", "-") == ALL_LINEAR:
            found.add(ALL_LINEAR)
            continue
        name = SPELLINGS.get(name, name if name in TARGETS else name.removesuffix("_proj"))
        found.update((*TARGETS.get(name, (name,)), text.strip()))
    return frozenset(found)


def is_target(name: str, role: str, chosen: frozenset[str], fused: bool = False) -> bool:
    """Whether an adapter is put on a weight. `all-linear` is every matrix but embeddings, head and router, as in PEFT.

    Parameters
    ----------
    name, role : str
        Of the weight.
    chosen : frozenset of str
        From `targets`.
    fused : bool
        Whether the checkpoint stores queries, keys and values as one matrix (`is_fused`): one of them means all.

    Examples
    --------
    >>> is_target("lm_head", "head", targets(["all-linear"])), is_target("q", "linear", targets(["q", "v"]))
    (False, True)
    """
    if role not in MATRICES:
        return False
    if fused and name in QKV:
        return ALL_LINEAR in chosen or not chosen.isdisjoint(QKV)
    return ALL_LINEAR in chosen or name in chosen


def is_fused(part: Part) -> bool:
    """Whether a part's queries, keys and values are one matrix in the checkpoint."""
    return isinstance(part, Attention) and part.fused


def is_joined(part: Part, name: str) -> bool:
    """Whether a weight is a further piece of a fused matrix, whose adapter shares the first piece's input side."""
    return name in ("k", "v") and is_fused(part)


def low_rank_parameters(rank: Number, inputs: Number, outputs: Number) -> Number:
    """Parameters of the two factors of LoRA on one matrix.

    Equation
    --------
    parameters = rank * (inputs + outputs)

    Parameters
    ----------
    rank : Number
        Rank of the update [1].
    inputs, outputs : Number
        Size of the matrix [1].

    Source
    ------
    Hu et al. 2021 (LoRA), arXiv 2106.09685, section 4.1; equal to what PEFT counts.

    Examples
    --------
    Llama-2-7B, rank 16 on all seven matrices of its 32 layers: 39,976,960.

    >>> shapes = [(4096, 4096)] * 4 + [(4096, 11008)] * 2 + [(11008, 4096)]
    >>> 32 * sum(low_rank_parameters(16, a, b) for a, b in shapes)
    39976960
    """
    return rank * (inputs + outputs)


def adapter_parameters(kind: str, rank: Number, inputs: Number, outputs: Number, copies: Number = 1,
                       joined: bool = False) -> Number:  # fmt: skip
    """Trained parameters that an adapter adds to some equal matrices; 0 where the kind adds none.

    Equation
    --------
    LoRA, rsLoRA, QLoRA: rank * (inputs + outputs); DoRA and LR-QAT: that and outputs; VeRA: rank + outputs;
    NOLA: 2 * bases; each times copies. A further piece of a fused matrix adds nothing on the input side.

    Parameters
    ----------
    kind : str
        Name of an `AdapterKind`.
    rank : Number
        Rank of the update [1].
    inputs, outputs : Number
        Size of one matrix [1].
    copies : Number
        Equal matrices: layers, experts [1].
    joined : bool
        Whether the matrix is a further piece of a fused one (`is_joined`).

    Source
    ------
    The kind's own (`ADAPTER_KINDS`). DoRA's magnitudes and VeRA's vectors as in PEFT; LR-QAT with a scale per output.

    Examples
    --------
    DoRA adds 1,359,872 magnitudes to Llama-2-7B's seven matrices.

    >>> shapes = [(4096, 4096)] * 4 + [(4096, 11008)] * 2 + [(11008, 4096)]
    >>> dora, lora = (sum(adapter_parameters(kind, 16, a, b, 32) for a, b in shapes) for kind in ("dora", "lora"))
    >>> dora - lora
    1359872
    """
    if not ADAPTER_KINDS[kind].adds:
        return 0 * copies
    if kind == "vera":
        return copies * (outputs if joined else rank + outputs)
    if kind == "nola":
        return copies * (0 if joined else 2 * NOLA_BASES)
    added = rank * outputs if joined else low_rank_parameters(rank, inputs, outputs)
    return copies * (added + outputs if kind in ("dora", "lr-qat") else added)


def adapter_frozen(kind: str, rank: Number, inputs: Number, outputs: Number, copies: Number = 1,
                   joined: bool = False) -> Number:  # fmt: skip
    """Parameters that an adapter adds to some equal matrices and never trains: the factors beside NOLA's coefficients.

    Equation
    --------
    NOLA: parameters = copies * rank * (inputs + outputs); else 0. VeRA's are shared by all layers: `adapter_shared`.

    Parameters
    ----------
    kind : str
        Name of an `AdapterKind`.
    rank : Number
        Rank of the update [1].
    inputs, outputs : Number
        Size of one matrix [1].
    copies : Number
        Equal matrices: layers, experts [1].
    joined : bool
        Whether the matrix is a further piece of a fused one (`is_joined`).

    Source
    ------
    UCDvision/NOLA llama/peft/tuners/lora.py, NOLALinear (a frozen weight beside the coefficients).
    """
    if kind != "nola":
        return 0 * copies
    return copies * (rank * outputs if joined else low_rank_parameters(rank, inputs, outputs))


def adapter_shared(kind: str, rank: Number, largest_inputs: Number, largest_outputs: Number) -> Number:
    """Frozen parameters that an adapter keeps once for the whole model: VeRA's two random matrices.

    Equation
    --------
    VeRA: parameters = rank * (largest inputs + largest outputs); else 0

    Parameters
    ----------
    kind : str
        Name of an `AdapterKind`.
    rank : Number
        Rank of the update [1].
    largest_inputs, largest_outputs : Number
        Largest over the adapted matrices [1].

    Source
    ------
    PEFT tuners/vera/model.py (vera_A and vera_B as large as the largest adapted layer).
    """
    return low_rank_parameters(rank, largest_inputs, largest_outputs) if kind == "vera" else 0 * rank


def basis_bytes(rank: Number, largest: Number, element_bytes: Number) -> Number:
    """Random bases that NOLA makes for one factor while its layer computes.

    Equation
    --------
    bytes = 128 * rank * largest * element_bytes

    Parameters
    ----------
    rank : Number
        Rank of the update [1].
    largest : Number
        Largest dimension of the adapted matrices [1].
    element_bytes : Number
        Bytes per element of the bases [byte].

    Source
    ------
    UCDvision/NOLA llama/peft/tuners/lora.py, GenerateParams: all of a factor's bases at once.
    """
    return NOLA_BASES * rank * largest * element_bytes


def magnitude_bytes(elements: Number, element_bytes: Number) -> Number:
    """DoRA's temporary: the updated weight, written out for its norms while one adapted matrix computes.

    Equation
    --------
    bytes = elements * element_bytes

    Parameters
    ----------
    elements : Number
        Elements of the largest adapted matrix on the device [1].
    element_bytes : Number
        Bytes per element that it is computed in [byte].

    Source
    ------
    Liu et al. 2024 (DoRA), arXiv 2402.09353, section 4.3; PEFT tuners/lora/dora.py get_weight_norm.
    """
    return elements * element_bytes


def trained_share(kind: str, share: float | None = None) -> float:
    """Share of each of the model's own weights that is trained [1]: none where the base is frozen.

    Parameters
    ----------
    kind : str
        Name of an `AdapterKind`.
    share : float, optional
        What the workload asks for in place of the kind's own [1].

    Examples
    --------
    >>> trained_share("hft"), trained_share("sparse", 0.01), trained_share("lora")
    (0.5, 0.01, 0.0)
    """
    found = ADAPTER_KINDS[kind]
    if found.adds:
        return 0.0
    return found.share if share is None else share


def index_bytes(trained: Number) -> Number:
    """Indices of the elements that sparse fine-tuning trains.

    Equation
    --------
    bytes = 4 * trained

    Parameters
    ----------
    trained : Number
        Trained elements [1].

    Source
    ------
    Ansell et al. 2024, arXiv 2401.16405, section 3 (sparse deltas as indices and values).
    """
    return 4 * trained


def adapter_state_bytes(optimizer: Optimizer, recipe: Recipe, kind: str, rank: Number, inputs: Number,
                        outputs: Number, copies: Number = 1) -> Number:  # fmt: skip
    """What an optimizer keeps of the adapters of some equal matrices beside a master copy, unsharded.

    Equation
    --------
    bytes = states of a rank x inputs matrix and an outputs x rank matrix, and of vectors where the kind has them

    Parameters
    ----------
    optimizer : Optimizer
    recipe : Recipe
        That of the adapter.
    kind : str
        Name of an `AdapterKind`.
    rank : Number
        Rank of the update [1].
    inputs, outputs : Number
        Size of one adapted matrix [1].
    copies : Number
        Equal matrices: layers, experts [1].

    Source
    ------
    The optimizer's record in `configs/optimizers.yaml`; 8-bit states of small factors stay in 32 bits.

    Examples
    --------
    AdamW on 32-bit adapters: 8 bytes per parameter; Llama-2-7B, rank 16, all seven matrices: 0.64 GB of states in all.

    >>> from calc.specs.optimizer import optimizer_named
    >>> from calc.specs.recipe import recipe_named
    >>> shapes = [(4096, 4096)] * 4 + [(4096, 11008)] * 2 + [(11008, 4096)]
    >>> adamw, fp32 = optimizer_named("adamw"), recipe_named("fp32")
    >>> moments = sum(adapter_state_bytes(adamw, fp32, "lora", 16, a, b, 32) for a, b in shapes)
    >>> round((moments + 39_976_960 * (fp32.weight_bytes + fp32.gradient_bytes)) / 1e9, 3)
    0.64
    """
    if not ADAPTER_KINDS[kind].adds:
        return 0 * copies
    if kind in ("vera", "nola"):
        return optimizer_state_bytes(optimizer, recipe, "vector", adapter_parameters(kind, rank, inputs, outputs), 1,
                                     copies)  # fmt: skip
    first = optimizer_state_bytes(optimizer, recipe, "linear", rank, inputs, copies)
    second = optimizer_state_bytes(optimizer, recipe, "linear", outputs, rank, copies, kind in ("dora", "lr-qat"))
    return first + second


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapted:
    """What a kind of adapter makes of a whole model."""

    trained: Number
    """Trained parameters [1]."""
    added: Number
    """Parameters added to the model, trained or not [1]."""
    matrices: int
    """Weight matrices that have an adapter, those of experts each [1]."""


def adapter_count(model: Model, kind: str, rank: Number, names: Iterable[str], share: float | None = None) -> Adapted:
    """Parameters that an adapter adds to a model and trains, counted as PEFT prints them.

    Parameters
    ----------
    model : Model
    kind : str
        Name of an `AdapterKind`.
    rank : Number
        Rank of the update; without effect where nothing is added [1].
    names : iterable of str
        Adapted matrices (`q`, `down`, `all-linear`); where nothing is added, all weights take part.
    share : float, optional
        Share of the weights trained in place of the kind's own [1].
    """
    chosen = targets(names)
    trained: Number = 0
    frozen: Number = 0
    matrices = widest_in = widest_out = 0
    for stack in model.text_stacks:
        for part, weight, layers in weights_of(stack):
            if not weight.stored:
                continue
            if not ADAPTER_KINDS[kind].adds:
                trained = trained + weight.elements * layers * trained_share(kind, share)
            elif is_target(weight.name, weight.role, chosen, is_fused(part)):
                copies, joined = layers * weight.copies, is_joined(part, weight.name)
                trained = trained + adapter_parameters(kind, rank, weight.inputs, weight.outputs, copies, joined)
                frozen = frozen + adapter_frozen(kind, rank, weight.inputs, weight.outputs, copies, joined)
                matrices += 0 if joined else copies
                widest_in, widest_out = max(widest_in, weight.inputs), max(widest_out, weight.outputs)
    frozen = frozen + adapter_shared(kind, rank, widest_in, widest_out)
    added = frozen + (trained if ADAPTER_KINDS[kind].adds else 0)
    return Adapted(trained=trained, added=added, matrices=matrices)


def untouched(kind: str, chosen: frozenset[str], weights: Iterable[Weight]) -> bool:
    """Whether an adapter finds none of a model's matrices, so that nothing would be trained."""
    return ADAPTER_KINDS[kind].adds and not any(is_target(weight.name, weight.role, chosen) for weight in weights)
