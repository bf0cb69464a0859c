"""Keys, values, latents and recurrent states of a device as a ledger of terms."""

from __future__ import annotations

from calc.architecture.part import Cache
from calc.formulas.kv_cache import cache_bytes, cache_format, cached_tokens
from calc.formulas.storage import kv_vector_bytes
from calc.ledger import Term, computed, total
from calc.memory.placement import Deployment, Stage, kinds
from calc.xp import Number


def cache_terms(deployment: Deployment, stage: Stage, context: Number, sequences: Number, *, host: bool = False
                ) -> tuple[Term, Term]:  # fmt: skip
    """Keys, values and latents that grow with the context, and recurrent states that don't."""
    scenario = deployment.scenario
    on_device = deployment.on_device(stage)
    layers = (stage.layers[0], on_device[0]) if host else on_device
    growing: list[Term] = []
    fixed: list[Term] = []
    for _stack, layer, indices in kinds(scenario.model, layers):
        for part in layer.parts:
            for cache in part.cache():
                kind = layer.kind.replace(" + ", "_")
                name = f"{'state' if cache.keeps == 'sequence' else 'kv'}_cache.{kind}.{cache.name}"
                copies = 2 if cache.name == "latent" and scenario.software.latent_values else 1
                term = computed(f"memory.{name}", cache_bytes, layers=len(indices), sequences=sequences,
                                entries=entries(deployment, cache, context), heads=cache.heads,
                                vector_bytes=copies * kv_vector_bytes(
                                    cache.width, cache_format(cache, deployment.kv_format, deployment.half_format)),
                                tensor=deployment.layout.tensor, split=cache.split,
                                context_parallel=deployment.layout.context)  # fmt: skip
                (fixed if cache.keeps == "sequence" else growing).append(term)
    return total("memory.kv_cache", growing), total("memory.state_cache", fixed)


def entries(deployment: Deployment, cache: Cache, context: Number) -> Number:
    """Entries per sequence of one cache at a context [1]."""
    if cache.keeps == "sequence":
        return deployment.layout.context  # a state isn't divided: cancels the division by context parallelism
    software, model = deployment.scenario.software, deployment.scenario.model
    if cache.keeps == "encoder":
        length = model.encoder_length or deployment.scenario.inference.prompt(context)
        return cached_tokens(length, block=software.cache_block)
    share, tokens = deployment.budget
    window = cache.window
    if window is not None and software.window_holds_chunk:
        window += software.prefill_chunk or 0
    return cached_tokens(context, window, cache.stride, software.cache_block, share, tokens)
