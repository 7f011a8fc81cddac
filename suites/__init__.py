"""The suites that ship with bdia-bench: one TOML file a question. Data only."""
