"""Scripts that make the bundled models: a small world, its corpus, the trainer and the exporter."""
