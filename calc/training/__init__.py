"""A training plan, from a scenario to its estimate. `plan` decides everything that is left open, `stages` says which
layers each pipeline stage holds. Memory: `states` (weights, gradients, optimizer, adapters), `token_bytes`,
`loss_memory` and `gathering` (what lives for a time), met at the instants of a step in `memory`; `stage_memory` is
the answer for one device, `offload` what lies elsewhere. Time: `operators` (one micro-batch through one layer) and
`exchanges` (what its groups send), `step` (a whole optimizer step). `evaluate` computes both, `compose` makes the
estimate of them, with `run` (a whole run, its cost and failures) and `advise` (single changes, each evaluated in
full). Tuning on preferences or rewards: `phases` composes what takes turns, of `rl_turns` (who holds what when),
`rl_models`, `rl_forward`, `rl_generation`, `rl_time`, `rl_advice`. Whatever is a formula is in `calc.formulas`; what
a record says is in `calc.specs`."""
