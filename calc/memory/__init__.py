"""Memory of a deployment as a ledger of terms: who holds what (`placement`), weights, caches, what lives for an
instant (`transient`), and their composition for one device (`inference`)."""

from calc.memory.inference import InferenceMemory, StageMemory, deploy, problems
from calc.memory.overhead import NO_CONTEXT_KINDS

__all__ = ["NO_CONTEXT_KINDS", "InferenceMemory", "StageMemory", "deploy", "problems"]
