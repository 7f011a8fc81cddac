"""From a case to its workload, one module a kind of model; `bench.workload.build` picks by `ModelSpec.builder`.

Each has `build(case) -> Workload`. Those of models that are not in the table of `bench.models` have
`introduce(name) -> ModelSpec` as well: what the model is, as far as only its library, its folder or its file knows.
"""
