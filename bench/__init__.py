"""The harness: cases and suites, child processes, meters, records. `reports` renders what it stores."""
